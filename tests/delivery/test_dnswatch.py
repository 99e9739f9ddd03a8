"""The daily look at the DNS tells changes, once, and is not misled by a dead resolver."""

from __future__ import annotations

from pathlib import Path

from mailguard.delivery.dnscheck import Checked, State
from mailguard.delivery.dnswatch import told, watch
from mailguard.delivery.notice import letter
from mailguard.testing import MemoryStore

FINE = Checked("office.test MX", State.OK, ("10 mail.office.test",))
GONE = Checked("office.test MX", State.MISSING, (), "publish MX 10 mail.office.test")
HINT = Checked("_imaps._tcp.office.test SRV", State.MISSING, (), "publish it", optional=True)
DEAD = Checked("office.test MX", State.UNKNOWN, (), "the DNS gave no answer")


def test_the_first_day_tells_what_is_wrong_and_later_days_what_changed() -> None:
    store = MemoryStore()
    assert watch([FINE, HINT], store) == []  # a hint is no news
    assert watch([FINE, HINT], store) == []
    assert watch([GONE, HINT], store) == [
        "office.test MX: missing (was ok)",
        "    cure:  publish MX 10 mail.office.test",
    ]
    assert watch([GONE, HINT], store) == []
    assert watch([DEAD, HINT], store) == []  # no answer is no change
    assert watch([FINE, HINT], store) == [
        "office.test MX: ok (was missing)",
        "    found: 10 mail.office.test",
    ]
    assert watch([GONE], MemoryStore())[0] == "office.test MX: missing"


def test_the_letter(tmp_path: Path) -> None:
    subject, text = told(["office.test MX: missing (was ok)", "    cure:  publish"], "mail.office.test")
    assert subject == "DNS of mail.office.test: 1 change"
    message = letter("id1", "mail.office.test", "postmaster@office.test", subject, text, 0.0)
    assert message.get("Auto-Submitted") == "auto-generated"
    assert b"office.test MX: missing (was ok)\r\n    cure:  publish\r\n" in bytes(message)
    assert b"\n" not in bytes(message).replace(b"\r\n", b"")
