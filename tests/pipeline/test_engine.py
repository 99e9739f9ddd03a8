from __future__ import annotations

import re
import threading
import time

import pytest

from mailguard.model.address import Address
from mailguard.model.event import Refused
from mailguard.model.reply import Reply
from mailguard.pipeline.explain import summary
from mailguard.pipeline.replay import replay
from mailguard.pipeline.verdict import Action
from mailguard.plugin import AuthResult, Finding, PluginInfo, hookimpl
from mailguard.state import record
from mailguard.testing import make_envelope, make_message, make_session

BOTH = '[[check]]\nplugin = "spf"\n[[check]]\nplugin = "dmarc"\n'


def through(engine, *, session=None, envelope=None, message=None):
    session, envelope, message = session or make_session(), envelope or make_envelope(), message or make_message()
    mail = engine.connect(session).mail(session, envelope)
    for recipient in envelope.recipients:
        mail.recipient(envelope, recipient.address)
    return mail, mail.message(envelope, message)


def test_no_checks_accept_and_still_record(kit):
    mail, verdict = through(kit.engine())
    assert verdict.action is Action.ACCEPT
    mail.outcome({"bob@example.org": "bob@example.org/INBOX"})
    kit.recorder.flush()
    (found,) = record.find(kit.database, "<test@example.net>")
    assert (found.id, found.subject, found.author, found.action) == ("M-test", "Hello", "alice@example.net", "accept")
    assert [(e.kind, e.text) for e in found.events] == [("stored", "bob@example.org/INBOX")]


def test_findings_add_up_to_a_verdict_with_its_line(kit):
    engine = kit.engine(BOTH + "[score]\njunk = 6\n")
    kit.spf.answer = lambda: Finding("softfail", "not authorised")
    kit.dmarc.answer = lambda: Finding("spam", "it looks like it", points=1)
    mail, verdict = through(engine)
    assert (verdict.action, verdict.score) == (Action.JUNK, 7.5)
    assert (verdict.decision.source, verdict.decision.where) == ("score 7.5 >= 6", "policy.toml:6")
    assert kit.dmarc.seen["spf"].word == "softfail"
    stamped = bytes(mail.stamp(make_envelope(), make_message(), verdict)).decode()
    assert "X-Mailguard: id=M-test; action=junk; score=7.5; by=score 7.5 >= 6;\r\n" in stamped
    assert "reasons=dmarc spam +6.0, spf softfail +1.5" in stamped
    assert "X-Content: seen junk\r\n" in stamped


def test_a_refusal_says_why(kit):
    engine = kit.engine('[[check]]\nplugin = "spf"\non = { fail = "reject" }\n')
    kit.spf.answer = lambda: Finding("fail", "192.0.2.1 may not send for example.net")
    session = make_session()
    verdict = engine.connect(session).mail(session, make_envelope()).verdict
    assert verdict.action is Action.REJECT
    assert str(verdict.reply) == "550 5.7.23 192.0.2.1 may not send for example.net (M-test)"
    kit.recorder.flush()
    (found,) = record.find(kit.database, "M-test")
    assert (found.stage, found.decision, found.place) == ("sender", "check spf", "policy.toml:3")


def test_one_recipient_is_deferred_and_leaves_no_trace_on_the_others(kit):
    engine = kit.engine('[[check]]\nplugin = "greylist"\n')
    session, envelope = make_session(), make_envelope(rcpt_to=["ann@example.org"])
    mail = engine.connect(session).mail(session, envelope)
    slow = mail.recipient(envelope, Address.parse("slow@example.org"))
    assert str(slow.reply) == "451 4.7.1 come back later (M-test)"
    assert mail.recipient(envelope, Address.parse("ann@example.org")).action is Action.ACCEPT
    verdict = mail.message(envelope, make_message())
    assert verdict.action is Action.ACCEPT
    assert "greylist" not in verdict.findings


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: "pass", "neither a Finding nor None"),
        (lambda: Finding("unheard"), "not among its words"),
        (lambda: Finding("pass", points=float("nan")), "points"),
        (lambda: Finding("pass", facts={"x": "y" * 20_000}), "16384"),
        (lambda: Finding("pass", facts={"x": object()}), "JSON"),
        (lambda: recurse(), "RecursionError"),
        (lambda: exit(3), "SystemExit"),
        (lambda: [0] * 10**18, "MemoryError|OverflowError"),
    ],
)
def test_whatever_a_plugin_does_is_the_word_error(kit, answer, error):
    engine = kit.engine('[[check]]\nplugin = "spf"\non = { error = "score 2" }\n')
    kit.spf.answer = answer
    _, verdict = through(engine)
    assert verdict.findings.word("spf") == "error"
    assert verdict.score == 2
    assert re.search(error, verdict.findings["spf"].detail)
    assert kit.events[0].plugin == "spf"


def recurse():
    return recurse()


def test_a_plugin_that_hangs_costs_its_deadline_and_no_more(kit):
    engine = kit.engine('[[check]]\nplugin = "spf"\ndeadline = 0.05\n')
    hang = threading.Event()
    kit.spf.answer = lambda: [hang.wait(20), None][1]
    begun = time.monotonic()
    _, verdict = through(engine)
    assert time.monotonic() - begun < 5
    assert verdict.findings["spf"].detail == "DeadlineError: no answer within 0.05 s"
    hang.set()


def test_faults_in_a_row_switch_off_for_a_while(kit):
    engine = kit.engine('[policy]\nfaults = 3\n[[check]]\nplugin = "spf"\n')
    kit.spf.answer = lambda: 1 / 0
    for _ in range(5):
        through(engine)
    assert kit.spf.calls == 3
    assert [event.switched_off for event in kit.events] == [False, False, True]
    notice = kit.notices.get("off/spf")
    assert notice == {"until": kit.clock() + 600, "error": "ZeroDivisionError: division by zero"}


def test_network_checks_of_a_stage_run_side_by_side(kit):
    # Both wait for the other: one after the other would miss the deadline.
    kit.greylist = type(kit.spf)("greylist")
    engine = kit.engine('[[check]]\nplugin = "spf"\n[[check]]\nplugin = "greylist"\n')
    meet = threading.Barrier(2)
    kit.spf.answer = kit.greylist.answer = lambda: [meet.wait(5), None][1]
    _, verdict = through(engine)
    assert not verdict.findings


def test_skip_if_and_roles(kit):
    engine = kit.engine('[[check]]\nplugin = "spf"\nskip_if = \'client.ip == "192.0.2.1"\'\n')
    through(engine)
    assert kit.spf.calls == 0
    through(engine, session=make_session("192.0.2.2", user="ann@example.org"))
    assert kit.spf.calls == 0
    through(engine, session=make_session("192.0.2.2"))
    assert kit.spf.calls == 1


def test_observe_accepts_and_tells_what_would_have_been(kit):
    engine = kit.engine('[policy]\nmode = "observe"\n' + BOTH)
    kit.dmarc.answer = lambda: Finding("reject", "DMARC says so")
    mail, verdict = through(engine)
    assert (verdict.action, verdict.would) == (Action.ACCEPT, Action.REJECT)
    assert verdict.decision.source == "observe mode (else: check dmarc)"
    assert b"action=accept; would=reject;" in bytes(mail.stamp(make_envelope(), make_message(), verdict))


def test_check_in_observe_mode(kit):
    engine = kit.engine('[[check]]\nplugin = "dmarc"\nmode = "observe"\n')
    kit.dmarc.answer = lambda: Finding("reject")
    _, verdict = through(engine)
    assert (verdict.action, verdict.would) == (Action.ACCEPT, Action.REJECT)


def test_stamp_drops_what_others_forged(kit):
    engine = kit.engine(BOTH)
    kit.spf.answer = lambda: Finding("pass", auth=(AuthResult("spf", "pass", "", (("smtp", "mailfrom", "a@b"),)),))
    forged = [
        ("Authentication-Results", "(hi (there)) MX.Example.Org (v) 1; spf=pass"),
        ("authentication-results", "\r\n mx.example.org;\r\n dkim=pass"),
        ("Authentication-Results", "other.example; spf=fail"),
        ("X-Mailguard", "id=1; action=accept"),
    ]
    message = make_message(headers=forged)
    mail, verdict = through(engine, message=message)
    stamped = bytes(mail.stamp(make_envelope(), message, verdict)).decode()
    assert stamped.startswith("Authentication-Results: mx.example.org;\r\n\tspf=pass smtp.mailfrom=a@b\r\n")
    assert stamped.lower().count("authentication-results:") == 2
    assert "other.example; spf=fail" in stamped
    assert stamped.count("X-Mailguard:") == 1


def test_our_users_are_vouched_for_and_become_correspondents(kit):
    engine = kit.engine(BOTH)
    session = make_session(user="ann@example.org")
    envelope = make_envelope("ann@example.org", ["carol@example.net"])
    mail, verdict = through(engine, session=session, envelope=envelope)
    stamped = bytes(mail.stamp(envelope, make_message(), verdict)).decode()
    assert "auth=pass smtp.mailfrom=ann@example.org" in stamped
    assert "X-Mailguard" not in stamped
    kit.recorder.flush()
    assert engine.history.known("carol@example.net")
    assert not engine.history.known("dave@example.net")


def test_start_and_stop_reach_plugins_and_a_failing_start_stops_the_rest(kit):
    engine = kit.engine(BOTH)
    engine.stop()
    assert kit.spf.log == kit.dmarc.log == ["start", "stop"]

    class Broken(type(kit.dmarc)):
        from mailguard.plugin import hookimpl

        @hookimpl
        def start(self):
            raise OSError("no such file")

    kit.dmarc = Broken("dmarc")
    with pytest.raises(Exception, match=r"policy.toml:3: plugin dmarc does not start: no such file"):
        kit.engine(BOTH)
    assert kit.spf.log == ["start", "stop"] * 2


def test_one_plugin_twice_under_two_names(kit):
    engine = kit.engine(
        '[[check]]\nplugin = "spf"\nname = "first"\non = { fail = "score 2" }\n'
        '[[check]]\nplugin = "spf"\nname = "second"\nskip_if = \'found["first"] == "pass"\'\n'
        '[[rule]]\nname = "both"\nwhen = \'found["first"] == "fail" && found["second"] == "fail"\'\nthen = "reject"\n'
    )
    kit.spf.answer = lambda: Finding("fail", "no")
    session = make_session()
    verdict = engine.connect(session).mail(session, make_envelope()).verdict
    assert verdict.decision.source == "rule both"
    assert set(verdict.findings) == {"first", "second"}
    assert engine._contexts["second"].name == "second"
    kit.spf.answer = lambda: Finding("pass")
    assert set(engine.connect(session).mail(session, make_envelope()).verdict.findings) == {"first"}


def test_a_check_that_is_off_runs_for_those_who_want_it(kit):
    text = '[[check]]\nplugin = "dmarc"\nmode = "off"\n'
    engine = kit.engine(text)
    kit.dmarc.answer = lambda: Finding("reject")
    assert through(engine)[1].action is Action.ACCEPT
    assert not kit.dmarc.calls
    engine = kit.engine(
        text + '[[override]]\nrecipients = ["ann@example.org"]\nchecks = { dmarc = { mode = "enforce" } }\n'
    )
    assert through(engine)[1].action is Action.ACCEPT
    assert through(engine, envelope=make_envelope(rcpt_to=["ann@example.org"]))[1].action is Action.REJECT


def test_what_the_server_refuses_by_itself_is_recorded_too(kit):
    engine = kit.engine(BOTH)
    session, envelope = make_session(), make_envelope(rcpt_to=[])
    mail = engine.connect(session).mail(session, envelope)
    mail.refused(envelope, Reply.of(550, "5.1.1", "there is no such mailbox here"), Address.parse("x@example.org"))
    mail.refused(make_envelope(), Reply.of(554, "5.4.6", "a mail loop"))
    engine.refused_connection(make_session("198.51.100.7", id="S-busy"), Reply.of(421, "4.3.2", "too many connections"))
    kit.recorder.flush()
    first, second = record.find(kit.database, "M-test")
    assert (first.stage, first.action, first.decision, first.rcpt) == (
        "recipient",
        "reject",
        "server",
        ("x@example.org",),
    )
    assert (second.stage, second.reply) == ("message", "554 5.4.6 a mail loop")
    (third,) = record.find(kit.database, "S-busy")
    assert (third.stage, third.action, third.peer_ip) == ("client", "defer", "198.51.100.7")
    told = "The recipient x@example.org was refused by the server itself, no policy was asked"
    assert summary(first) == f"{told}: there is no such mailbox here."
    refused = [event for event in kit.events if isinstance(event, Refused)]
    assert [(e.stage, e.rcpt_to, str(e.reply)[:3]) for e in refused] == [
        ("recipient", "x@example.org", "550"),
        ("message", "bob@example.org", "554"),
        ("client", "", "421"),
    ]
    assert replay(engine.policy, [first, second, third]).count == 0


def test_refusals_by_the_policy_are_events_too(kit):
    engine = kit.engine('[[check]]\nplugin = "spf"\non = { fail = "reject" }\n')
    kit.spf.answer = lambda: Finding("fail", "not one of theirs")
    session = make_session()
    engine.connect(session).mail(session, make_envelope())
    (event,) = kit.events
    assert (event.stage, event.mail_from, str(event.reply)) == (
        "sender",
        "alice@example.net",
        "550 5.7.23 not one of theirs (M-test)",
    )


def test_a_confirmed_host_name_is_known_from_then_on(kit):
    kit.greylist = Iprev()
    engine = kit.engine(
        '[[check]]\nplugin = "iprev"\n[[check]]\nplugin = "dmarc"\n'
        '[[rule]]\nname = "named"\nwhen = \'client.ptr == "mail.example.net"\'\nthen = "junk"\n'
    )
    connection = engine.connect(make_session())
    assert connection.ptr == "mail.example.net"
    mail = connection.mail(make_session(), make_envelope())
    assert mail.message(make_envelope(), make_message()).decision.source == "rule named"


class Iprev:
    name = "iprev"

    @hookimpl
    def describe(self):
        return PluginInfo("iprev", words={"pass": "accept"})

    @hookimpl
    def check_client(self):
        return Finding("pass", facts={"name": "mail.example.net"})
