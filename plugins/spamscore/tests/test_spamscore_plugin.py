from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from mailguard.plugin import Accepted, Action, Finding, Findings, Moved, Verdict
from mailguard.testing import Harness, make_envelope, make_message, make_session
from mailguard_spamscore import spamscore

INVOICE = "Dear Bob,\n\nplease find attached invoice 2023-117 for October, 1,240.00 EUR, due on 30 November.\n\nAlice\n"
NEWSLETTER = (
    "Hello Bob,\n\nthe November issue is out: three recipes, an interview and our autumn sale, up to 20% off.\n"
    "Read it at https://news.shop.example/november?u=4711\n\nUnsubscribe: https://news.shop.example/leave?u=4711\n"
)


@pytest.fixture
def bench():
    with Harness(spamscore) as harness:
        yield harness


def test_plain_spam_is_junk_with_nothing_learnt(bench):
    message = make_message(
        "CONGRATULATIONS, you have won the lottery! Claim your prize: http://203.0.113.9/claim\nAct now!\n",
        subject="YOU HAVE WON $1,000,000 !!!",
        sender="PayPal <winner82736@lucky.top>",
    )
    finding = bench.check(message=message)
    assert finding.word == "spam"
    assert finding.points >= 6
    assert "paypal" in finding.reason or "203.0.113.9" in finding.reason


@pytest.mark.parametrize(
    ("subject", "body", "headers"),
    [
        ("Invoice 2023-117", INVOICE, ()),
        ("November at the shop", NEWSLETTER, [("List-Unsubscribe", "<https://news.shop.example/leave>")]),
        ("Lunch?", "Hi,\n\nare you free at noon?\n\nA.\n", ()),
        ("Rechnung Nr. 4711", "Sehr geehrte Damen und Herren,\n\nanbei die Rechnung für Oktober über 240,50 €.\n", ()),
        ("Convite: reunião na sexta-feira", "Olá,\n\nsegue o convite para a reunião de sexta às 10h.\n", ()),
        ("会议通知", "各位同事:\n\n周五上午十点在三楼会议室开会,请准时参加。\n", ()),
        ("Undelivered Mail Returned to Sender", "I'm sorry to have to inform you that your message could not be\n", ()),
        (
            "[list] Re: patch for the parser",
            "On Monday Bob wrote:\n> does it work?\nYes.\n",
            [("In-Reply-To", "<1@b>")],
        ),
        (
            "Einladung: Budgetrunde",
            "BEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VEVENT\nSUMMARY:Budgetrunde\nEND:VEVENT\nEND:VCALENDAR\n",
            [("MIME-Version", "1.0"), ("Content-Type", "text/calendar; charset=utf-8; method=REQUEST")],
        ),
        (
            "Backup of fileserver finished",
            "0 errors, 3 warnings, 120 GB in 2:10 h\n",
            [("Auto-Submitted", "auto-generated")],
        ),
        ("Your order 4711 has shipped", "Track it at https://parcel.example/t/4711 . Thank you for your order!\n", ()),
        (
            "Password changed",
            "The password of your account was changed on Monday at 10:12. Was it not you? Call us.\n",
            (),
        ),
    ],
)
def test_ordinary_mail_is_not(bench, subject, body, headers):
    finding = bench.check(message=make_message(body, subject=subject, headers=headers))
    assert finding.word == "ham"
    assert finding.points < 3


def test_moving_to_junk_and_back_teaches_and_undoes(bench, tmp_path: Path):
    message = make_message("Our synergy webinar on blockchain gardening starts soon.\n", subject="Webinar")
    file = tmp_path / "1.eml"
    file.write_bytes(bytes(message))
    before = bench.check(message=message).points
    event = Moved(1.0, "M-1", "bob@example.org", "INBOX", "Junk", str(file))
    bench.observe(event)
    spam = bench.check(message=message).points
    bench.observe(event)
    assert bench.check(message=message).points == spam  # nothing is taught twice
    bench.observe(Moved(2.0, "M-1", "bob@example.org", "Junk", "INBOX", str(file)))
    assert before < spam
    assert bench.check(message=message).points < spam


def test_other_checks_count(bench):
    failed = {"spf": Finding("fail"), "dmarc": Finding("fail"), "dnsbl": Finding("listed")}
    assert bench.check(findings=failed).points > bench.check().points + 2


def test_the_header_says_why(bench):
    finding = Finding("unsure", points=4.0, reasons=((2.0, "a link goes to a bare address, 203.0.113.9"),))
    fields = bench.stamp(verdict=Verdict(Action.ACCEPT, findings=Findings({"spamscore": finding})))
    assert fields == [
        ("X-Mailguard-Spam", "unsure (+4.0 of 6 points): +2.0 a link goes to a bare address, 203.0.113.9")
    ]


def test_a_known_correspondent_is_trusted_unless_disowned(bench):
    message = make_message("Click here to verify your account, act now, limited time offer: http://203.0.113.9/\n")
    cold = bench.check(message=message).points
    ours = make_session(user="bob@example.org")
    bench.check(session=ours, envelope=make_envelope("bob@example.org", "alice@example.net"))
    assert bench.check(message=message).points < cold - 2
    disowned = {"dmarc": Finding("fail")}
    assert bench.check(message=message, findings=disowned).points > cold


def test_explaining_a_stored_message_says_what_the_verdict_said(bench):
    trap = make_message("Click here to verify your account, act now, limited time offer: http://203.0.113.9/\n")
    bench.check(
        session=make_session(user="bob@example.org"), envelope=make_envelope("bob@example.org", "alice@example.net")
    )
    host = bench.ctx.hostname
    top = (
        f"Authentication-Results: {host};\r\n\tspf={{spf}} smtp.mailfrom=alice@example.net;\r\n\tdmarc={{dmarc}}\r\n"
        "X-Mailguard: id=M-1; action=accept\r\n{stamps}"
        f"Received: from client.example.net ([192.0.2.10])\r\n\tby {host} with ESMTP id M-1;\r\n\t{{date}}\r\n"
    )
    date = format_datetime(datetime.fromtimestamp(bench.ctx.now(), UTC))
    session = make_session(peer_ip="192.0.2.10", helo="client.example.net")
    for spf, dmarc, dnsbl in (("pass", "pass", "clean"), ("fail", "fail", "clean"), ("pass", "pass", "listed")):
        found = {"spf": Finding(spf), "dmarc": Finding(dmarc), "dnsbl": Finding(dnsbl)}
        verdict = bench.check(
            session=session,
            message=trap,
            findings=found,
            envelope=make_envelope("alice@example.net", "bob@example.org"),
        )
        outcome = Verdict(Action.ACCEPT, findings=Findings({**found, "spamscore": verdict}))
        stamps = "".join(f"{name}: {value}\r\n" for name, value in bench.stamp(verdict=outcome))
        stored = top.format(spf=spf, dmarc=dmarc, date=date, stamps=stamps).encode() + bytes(trap)
        told = spamscore.desk(bench.ctx).explain(stored, "bob@example.org", bench.ctx.now() + 30 * 86400)
        assert told.points == pytest.approx(verdict.points, abs=0.05)
        assert set(verdict.reasons[:5]) <= set(told.reasons)
        assert any("you wrote to alice@example.net" in text for _, text in told.reasons) == (dmarc == "pass")
        assert any("block list" in text for _, text in told.reasons) == (dnsbl == "listed")


def accepted(account: str, box: str, at: float = 1.0, recipient: str = "") -> Accepted:
    return Accepted(
        at, "M-test", "S1", "", "alice@example.net", (account,), 100, ((recipient or account, f"{account}/{box}"),)
    )


def test_silence_counts_as_wanted(bench):
    message = make_message("The minutes of our meeting, with everything we said about the new roof.\n")
    bench.check(message=message)
    bench.observe(accepted("bob@example.org", "INBOX"))
    bench.now.tick(2 * 86400)
    bench.observe(accepted("bob@example.org", "INBOX", recipient="other@example.org"))
    desk = bench.ctx and spamscore.desk(bench.ctx)
    assert desk.stats() == []  # the default patience is three days
    bench.now.tick(2 * 86400)
    bench.observe(accepted("carl@example.org", "INBOX"))
    (row,) = desk.stats()
    assert (row.account, row.ham, row.confirmed) == ("bob@example.org", 1, 1)


def test_silence_about_junk_says_nothing(bench):
    bench.check(message=make_message("Claim your prize at http://203.0.113.9/ now\n"))
    bench.observe(accepted("bob@example.org", "Junk"))
    bench.now.tick(4 * 86400)
    bench.observe(accepted("carl@example.org", "INBOX"))
    assert spamscore.desk(bench.ctx).stats() == []


def test_filing_confirms_at_once_and_release_teaches(bench, tmp_path: Path):
    message = make_message("The minutes of our meeting.\n")
    file = tmp_path / "1.eml"
    file.write_bytes(bytes(message))
    bench.check(message=message)
    bench.observe(accepted("bob@example.org", "INBOX"))
    bench.observe(Moved(2.0, "M1", "bob@example.org", "INBOX", "Projects", str(file)))
    (row,) = spamscore.desk(bench.ctx).stats()
    assert (row.ham, row.confirmed) == (1, 1)
    held = make_message("Please find the offer you asked for.\n")
    file.write_bytes(bytes(held))
    bench.observe(Moved(3.0, "M2", "bob@example.org", "Quarantine", "INBOX", str(file)))
    (row,) = spamscore.desk(bench.ctx).stats()
    assert (row.ham, row.confirmed) == (2, 1)
