from __future__ import annotations

from types import SimpleNamespace

import pytest

from mailguard.plugin import DnsTemporaryError, Finding, PluginInfo, hookimpl
from mailguard.testing import FakeClock, FakeResolver, Harness, MemoryStore, make_envelope, make_message, run_check


def test_fake_resolver_knows_records_absence_and_failure():
    dns = FakeResolver({"a.example TXT": "x", "a.example MX": ["10 mx.a.example"], "b.example A": TimeoutError})
    assert dns.query("A.example.", "TXT").records == ("x",)
    assert dns.query("a.example", "AAAA").exists
    assert dns.query("example", "A").exists
    assert not dns.query("nothing.example", "A").exists
    with pytest.raises(DnsTemporaryError):
        dns.query("b.example", "A")


def test_fake_resolver_follows_cname():
    dns = FakeResolver({"www.example CNAME": "host.example", "host.example A": "192.0.2.7"})
    assert dns.query("www.example", "A").records == ("192.0.2.7",)


def test_memory_store_forgets_in_time(mail_clock: FakeClock, mail_store: MemoryStore):
    mail_store.put("a", [1], ttl=10)
    assert mail_store.put_if_absent("a", [2]) == [1]
    mail_clock.tick(11)
    assert mail_store.get("a") is None
    assert mail_store.put_if_absent("a", [2]) == [2]
    assert mail_store.items() == [("a", [2])]


def test_message_builder_makes_crlf():
    assert bytes(make_message(raw="A: b\n\nc\n")) == b"A: b\r\n\r\nc\r\n"
    assert make_message(subject="Hi").get("subject") == "Hi"
    assert make_envelope("").mail_from is None


class EachRecipient:
    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("each", words={"seen": "accept"})

    @hookimpl
    def check_recipient(self, recipient, findings) -> Finding:
        before = findings["each"].facts["seen"] if "each" in findings else []
        return Finding("seen", facts={"seen": [*before, str(recipient)]})

    @hookimpl
    def check_message(self) -> object:
        return self.last

    last: object = None


def test_harness_passes_findings_from_stage_to_stage():
    envelope = make_envelope(rcpt_to=["a@example.org", "b@example.org"])
    finding = run_check(EachRecipient(), envelope=envelope)
    assert finding is not None
    assert finding.facts == {"seen": ["a@example.org", "b@example.org"]}


@pytest.mark.parametrize("wrong", ["seen", Finding("unheard"), Finding("seen", facts={"x": object()})])
def test_harness_is_as_strict_as_the_engine(wrong: object):
    plugin = EachRecipient()
    plugin.last = wrong
    with Harness(plugin) as harness, pytest.raises((AssertionError, TypeError)):
        harness.check(hook="check_message")


def test_no_describe_is_an_error():
    with pytest.raises(Exception, match="no describe"):
        run_check(SimpleNamespace())
