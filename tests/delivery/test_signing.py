"""DKIM keys and signatures, checked by dkimpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dkim
import pytest

from mailguard.delivery.dkimcheck import KeyPublication, published, wrong_keys
from mailguard.delivery.dkimkey import DkimKeyError, DkimKeys, KeyState
from mailguard.delivery.signing import Signer
from mailguard.model.message import Message
from mailguard.pipeline.signature import verify_dkim
from mailguard.testing import FakeResolver

NOW = 1_790_000_000.0  # 2026-09-21
MESSAGE = (
    b"From: Ann <ann@office.test>\r\nTo: bob@example.net\r\nSubject: a  folded\r\n\tsubject\r\n"
    b"Date: Mon, 21 Sep 2026 12:00:00 +0000\r\nMessage-ID: <1@office.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain\r\n\r\nHello  \r\n\r\n..\tworld\r\n\r\n\r\n"
)


@pytest.fixture
def keys(tmp_path: Path) -> DkimKeys:
    made = DkimKeys(tmp_path / "dkim", now=lambda: NOW)
    made.add("office.test")
    return made


def signed(keys: DkimKeys, message: bytes = MESSAGE) -> bytes:
    return bytes(Signer(keys.folder, now=lambda: NOW).sign(Message(message), "office.test"))


def verified(keys: DkimKeys, raw: bytes) -> list[bool]:
    """Whether each signature holds: by our verifier both, by dkimpy the RSA one (it has no Ed25519 here)."""
    found = keys.keys("office.test")
    dns = FakeResolver({f"{key.record_name} TXT": key.record for key in found})
    ours = {r.algorithm: r.result == "pass" for r in verify_dkim(Message(raw), dns, now=NOW)}
    records = {f"{key.record_name}.": key.record.encode() for key in found}
    verifier = dkim.DKIM(raw)
    at = [n for n in range(2) if raw.split(b"DKIM-Signature:")[n + 1].startswith(b" v=1; a=rsa")]
    try:
        theirs = verifier.verify(idx=at[0], dnsfunc=lambda name, timeout=5: records[name.decode()])
    except dkim.ValidationError:
        theirs = False
    assert theirs == ours["rsa-sha256"]
    return list(ours.values())


def test_both_signatures_hold_for_another_implementation(keys: DkimKeys) -> None:
    raw = signed(keys)
    assert raw.endswith(MESSAGE)
    assert raw.count(b"DKIM-Signature:") == 2
    assert b"a=rsa-sha256" in raw and b"a=ed25519-sha256" in raw
    assert max(map(len, raw.split(b"\r\n"))) <= 100
    assert verified(keys, raw) == [True, True]


@pytest.mark.parametrize("body", [b"", b"\r\n", b"no line end", b" \t \r\n", b"x" * 3_000_000 + b"\r\n"])
def test_bodies_of_every_kind(keys: DkimKeys, body: bytes) -> None:
    assert verified(keys, signed(keys, b"From: a@office.test\r\n\r\n" + body)) == [True, True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"world", b"World"),
        (b"Subject: a", b"Subject: b"),
        (b"To: bob", b"To: carl@example.net\r\nTo: bob"),
        (b"\r\n\r\nHello", b"\r\nFrom: eve@example.net\r\n\r\nHello"),
        (b"\r\n\r\nHello", b"\r\nSubject: added\r\n\r\nHello"),
        (b"\r\n\r\nHello", b"\r\nReply-To: eve@example.net\r\n\r\nHello"),
        (b"\r\n\r\nHello", b"\r\nContent-Type: text/html\r\n\r\nHello"),
    ],
)
def test_what_is_changed_or_added_breaks_them(keys: DkimKeys, old: bytes, new: bytes) -> None:
    assert verified(keys, signed(keys).replace(old, new)) == [False, False]


def test_what_mailing_lists_add_does_not(keys: DkimKeys) -> None:
    raw = signed(keys).replace(b"\r\n\r\nHello", b"\r\nList-Id: <l.example>\r\nSender: l@example.net\r\n\r\nHello")
    assert verified(keys, raw) == [True, True]


def test_prepended_fields_are_signed_too(keys: DkimKeys) -> None:
    message = Message(b"From: a@office.test\r\n\r\nx\r\n").prepend(b"Date: Mon, 21 Sep 2026 12:00:00 +0000\r\n")
    raw = bytes(Signer(keys.folder, now=lambda: NOW).sign(message, "office.test"))
    assert verified(keys, raw) == [True, True]
    assert verified(keys, raw.replace(b"12:00", b"13:00")) == [False, False]


def test_a_host_signs_with_the_keys_of_its_domain(keys: DkimKeys) -> None:
    signer = Signer(keys.folder)
    assert signer.domain_for("mail.office.test") == "office.test"
    assert signer.domain_for("other.test") == ""
    message = Message(MESSAGE)
    assert signer.sign(message, "other.test") is message


def test_keys_rotate_without_a_gap(keys: DkimKeys) -> None:
    first = keys.keys("office.test")
    assert [k.selector for k in first] == ["e202609", "r202609"]
    assert all(k.path.stat().st_mode & 0o077 == 0 for k in first)
    with pytest.raises(DkimKeyError, match=r"dkim rotate office\.test"):
        keys.add("office.test")
    waiting = keys.prepare("office.test")
    assert [k.selector for k in waiting] == ["e202609b", "r202609b"]
    assert [k.selector for k in keys.prepare("office.test")] == ["e202609b", "r202609b"]  # not made twice
    assert {s for s, _ in keys.records("office.test")} == {"e202609", "r202609", "e202609b", "r202609b"}
    assert b"s=r202609;" in signed(keys)
    assert [k.selector for k in keys.switch("office.test")] == ["e202609b", "r202609b"]
    assert b"s=r202609b;" in signed(keys) and b"s=r202609;" not in signed(keys)
    assert [k.state for k in keys.keys("office.test")] == [KeyState.SIGNING] * 2 + [KeyState.OLD] * 2
    assert keys.forget("office.test", older_than=NOW - 1) == []
    assert [k.selector for k in keys.forget("office.test", older_than=NOW + 1)] == ["e202609", "r202609"]
    with pytest.raises(DkimKeyError, match=r"dkim add other\.test"):
        keys.prepare("other.test")


def test_a_broken_key_file_is_named_and_stops_nothing(keys: DkimKeys) -> None:
    (keys.folder / "office.test" / "bad.pem").write_text("nonsense")
    with pytest.raises(DkimKeyError, match=r"bad\.pem"):
        keys.keys("office.test")
    said: list[Any] = []

    class Log:
        def error(self, text: str, **more: Any) -> None:
            said.append((text, more))

    signer = Signer(keys.folder, log=Log())
    message = Message(MESSAGE)
    assert signer.sign(message, "office.test") is message
    assert said[0][1]["domain"] == "office.test"


def test_what_the_dns_lacks_is_found(keys: DkimKeys) -> None:
    first, second = keys.keys("office.test")
    dns = FakeResolver({f"{key.record_name} TXT": first.record for key in (first, second)})
    assert published(first, dns) == (KeyPublication.GOOD, "")
    assert published(second, dns)[0] is KeyPublication.OTHER
    found = list(wrong_keys(keys.folder, ["office.test", "second.test"], dns))
    assert [(domain, problem) for domain, problem, _ in found] == [
        ("office.test", f"{second.record_name}: another key is published"),
        ("second.test", "its mail is not signed with DKIM"),
    ]
    assert published(first, FakeResolver({}))[0] is KeyPublication.MISSING
