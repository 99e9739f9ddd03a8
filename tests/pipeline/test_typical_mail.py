"""What `mailguard why` tells of typical mail, word for word, with the bundled filters as they are shipped and a fresh
installation that has learnt nothing (MAILGUARD_GOLDEN=write makes the texts anew)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mailguard.pipeline.compiler import parse_policy
from mailguard.pipeline.explain import explain
from mailguard.state.record import from_row
from mailguard.testing import make_envelope, make_message, make_session

GOLDEN = Path(__file__).with_name("golden")
CHECKS = ("iprev", "spf", "dkim", "dmarc", "greylist", "attachments", "spamscore")
POLICY = "".join(f'[[check]]\nplugin = "{name}"\n' for name in CHECKS)
ZONE = {
    "1.2.0.192.in-addr.arpa PTR": "mail.example.net",
    "mail.example.net A": "192.0.2.1",
    "example.net TXT": "v=spf1 ip4:192.0.2.1 -all",
    "_dmarc.example.net TXT": "v=DMARC1; p=reject",
    "example.net MX": "10 mail.example.net",
    "lucky.top TXT": "v=spf1 +all",
    "lucky.top MX": "10 lucky.top",
}
LOTTERY = "CONGRATULATIONS, you have won the lottery! Claim your prize: http://203.0.113.9/claim\nAct now!\n"
BILL = "Please find attached invoice 2023-117 for October, 1,240.00 EUR, due on 30 November.\n"
PROGRAM = (
    "--x\nContent-Type: text/plain\n\nSee attachment.\n--x\nContent-Type: application/octet-stream\n"
    'Content-Disposition: attachment; filename="invoice.pdf.exe"\n'
    "Content-Transfer-Encoding: base64\n\nTVqQAAMAAAA=\n--x--\n"
)
MIXED = [("MIME-Version", "1.0"), ("Content-Type", 'multipart/mixed; boundary="x"')]

CASES = {
    "invoice": ("192.0.2.1", "alice@example.net", make_message(BILL, subject="Invoice 2023-117")),
    "forged": ("203.0.113.5", "alice@example.net", make_message(BILL, subject="Invoice 2023-117")),
    "lottery": (
        "203.0.113.5",
        "winner82736@lucky.top",
        make_message(LOTTERY, subject="YOU HAVE WON $1,000,000 !!!", sender="PayPal <winner82736@lucky.top>"),
    ),
    "stranger": (
        "203.0.113.5",
        "carol@example.com",
        make_message("Do you have time on Monday?\n", subject="Visit", sender="Carol <carol@example.com>"),
    ),
    "program": ("192.0.2.1", "alice@example.net", make_message(PROGRAM, subject="Invoice", headers=MIXED)),
}


@pytest.fixture
def told(registry, trial):
    engine, collector = trial(parse_policy("policy.toml", POLICY, registry.load, registry.names), ZONE)

    def tell(ip: str, sender: str, message) -> str:
        envelope = make_envelope(sender)
        mail = engine.connect(make_session(ip)).mail(make_session(ip), envelope)
        if not mail.verdict.action.refuses:
            mail.recipient(envelope, envelope.recipients[0].address)
            mail.message(envelope, message)
        return re.sub(r", \d+\.\d ms", ", 0.0 ms", explain(from_row(collector.rows[-1]))) + "\n"

    return tell


@pytest.mark.parametrize("name", CASES)
def test_typical_mail_is_explained(told, name):
    text = told(*CASES[name])
    path = GOLDEN / f"typical-{name}.txt"
    if os.environ.get("MAILGUARD_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")
