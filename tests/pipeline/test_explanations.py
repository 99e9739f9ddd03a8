"""What `mailguard why` tells, word for word, in tests/pipeline/golden (MAILGUARD_GOLDEN=write makes them anew)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mailguard.pipeline.explain import explain
from mailguard.plugin import Finding
from mailguard.state import record
from mailguard.testing import make_envelope, make_message, make_session

GOLDEN = Path(__file__).with_name("golden")
BOTH = '[[check]]\nplugin = "spf"\n[[check]]\nplugin = "dmarc"\n'
RULE = '[[rule]]\nname = "hello"\nwhen = \'subject == "Hello"\'\nthen = "accept"\n'
SOFTFAIL = Finding("softfail", "192.0.2.1 is probably not one of theirs", "matched ~all")
SPAM = Finding("spam", "it reads like spam", points=1, reasons=((2.1, "the word casino"), (-0.4, "known host")))

CASES = {
    "score": (BOTH, SOFTFAIL, SPAM),
    "accepted": (BOTH, SOFTFAIL, None),
    "nothing": (BOTH, None, None),
    "check": (BOTH, Finding("pass"), Finding("reject", "the owner of example.net asks to refuse it")),
    "rule": (BOTH + RULE, Finding("fail", "not one of theirs"), SPAM),
    "observe": ('[policy]\nmode = "observe"\n' + BOTH, SOFTFAIL, Finding("reject", "its owner asks for it")),
    "sender": ('[[check]]\nplugin = "spf"\non = { fail = "reject" }\n', Finding("fail", "not one of theirs"), None),
    "error": (BOTH, None, "nonsense"),
}


@pytest.mark.parametrize("name", CASES)
def test_explanation(kit, name):
    policy, kit.spf_says, kit.dmarc_says = CASES[name]
    kit.spf.answer, kit.dmarc.answer = (lambda: kit.spf_says), (lambda: kit.dmarc_says)
    session, envelope = make_session(), make_envelope()
    mail = kit.engine(policy).connect(session).mail(session, envelope)
    if not mail.verdict.action.refuses:
        mail.recipient(envelope, envelope.recipients[0].address)
        verdict = mail.message(envelope, make_message())
        if not verdict.action.refuses:
            mail.outcome({"bob@example.org": "bob@example.org/INBOX"})
    kit.recorder.flush()
    told = "\n\n".join(explain(found) for found in record.find(kit.database, "M-test")) + "\n"
    told = re.sub(r", \d+\.\d ms", ", 0.0 ms", told)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("MAILGUARD_GOLDEN") == "write":
        path.write_text(told, "utf-8")
    assert told == path.read_text("utf-8")
