"""DKIM and ARC verification against published messages and the ARC suite."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mailguard.model.message import Message
from mailguard.net.resolver import Answer, DnsTemporaryError
from mailguard.pipeline.bodyhash import body_hash
from mailguard.pipeline.signature import verify_arc, verify_dkim

NOW = 1_600_000_000.0


class Zone:
    """A resolver that knows some TXT records."""

    def __init__(self, records: Mapping[str, str]) -> None:
        self._records = {name.lower().rstrip("."): text for name, text in records.items()}

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        text = self._records.get(name.lower())
        if text == "TEMPFAIL":
            raise DnsTemporaryError(name)
        return Answer((text,) if text else (), exists=text is not None)


def crlf(data: bytes) -> bytes:
    return re.sub(rb"\r?\n", b"\r\n", data)


def arc_cases() -> list[tuple[str, dict[str, str], dict[str, str]]]:
    folder = Path(os.environ.get("MAILGUARD_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    file = folder / "testdata/arc/arc-draft-validation-tests.yml"
    if not file.exists():
        return []
    cases = []
    for scenario in yaml.safe_load_all(file.read_text()):
        for name, test in scenario["tests"].items():
            cases.append((name, test, scenario["txt-records"]))
    return cases


@pytest.mark.parametrize(("name", "test", "records"), arc_cases(), ids=lambda v: v if isinstance(v, str) else "")
def test_arc_suite(name: str, test: dict[str, str], records: dict[str, str]) -> None:
    message = Message(crlf(test["message"].encode()))
    expected = {"": "fail"}.get(test["cv"], test["cv"].lower())
    assert verify_arc(message, Zone(records), now=NOW).result == expected


def test_arc_suite_is_there(shared: Path) -> None:
    assert len(arc_cases()) == 171


def test_rfc8463_both_signatures_pass(shared: Path) -> None:
    folder = shared / "testdata/dkim/rfc8463"
    zone = {}
    for line in (folder / "dns.txt").read_text().splitlines():
        name, _, text = line.partition(" TXT ")
        zone[name] = text.strip('"')
    message = Message(crlf((folder / "rfc8463-appendix-a.eml").read_bytes()))
    results = verify_dkim(message, Zone(zone), now=1_528_637_909.0)
    assert [r.result for r in results] == ["pass", "pass"], results
    assert {r.algorithm for r in results} == {"ed25519-sha256", "rsa-sha256"}
    changed = Message(message.raw[:-4] + b"!\r\n\r\n")
    assert [r.result for r in verify_dkim(changed, Zone(zone), now=NOW)] == ["fail", "fail"]
    assert [r.result for r in verify_dkim(message, Zone({}), now=NOW)] == ["permerror", "permerror"]
    dead = Zone(dict.fromkeys(zone, "TEMPFAIL"))
    assert [r.result for r in verify_dkim(message, dead, now=NOW)] == ["temperror", "temperror"]
    revoked = Zone(dict.fromkeys(zone, "v=DKIM1; p="))
    assert {r.reason.split(" ", 5)[-1] for r in verify_dkim(message, revoked, now=NOW)} == {"revoked"}


@pytest.mark.parametrize(
    ("body", "relaxed", "canonical"),
    [
        (b"", False, b"\r\n"),
        (b"", True, b""),
        (b"\r\n\r\n", True, b""),
        (b" \t\r\n \r\n", True, b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", False, b" C \r\nD \t E\r\n"),
        (b" C \r\nD \t E\r\n\r\n\r\n", True, b" C\r\nD E\r\n"),
        (b"no line end", False, b"no line end\r\n"),
    ],
)
def test_canonical_bodies_of_rfc6376(body: bytes, relaxed: bool, canonical: bytes) -> None:
    assert body_hash(body, relaxed=relaxed) == (hashlib.sha256(canonical).digest(), False)


@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"bc"]), max_size=40), st.booleans())
def test_body_hash_agrees_with_dkimpy(pieces: list[bytes], relaxed: bool) -> None:
    from dkim.canonicalization import Relaxed, Simple

    body = b"".join(pieces) + b"\r\n"  # what SMTP carries always ends so
    expected = (Relaxed if relaxed else Simple).canonicalize_body(body)
    assert body_hash(body, relaxed=relaxed)[0] == hashlib.sha256(expected).digest()


def test_large_bodies_hash_alike_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"".join(b"line %d  with \t white space \r\n" % n for n in range(3000)) + b"\r\n" * 500
    whole = [body_hash(body, relaxed=r, limit=n) for r in (True, False) for n in (-1, 100, 10_000)]
    monkeypatch.setattr("mailguard.pipeline.bodyhash._CHUNK", 1000)
    monkeypatch.setattr("mailguard.pipeline.bodyhash._TAIL", 64)
    assert whole == [body_hash(body, relaxed=r, limit=n) for r in (True, False) for n in (-1, 100, 10_000)]
    assert whole[1][1] and not whole[0][1]


def test_refused_signatures_say_why() -> None:
    base = (
        b"DKIM-Signature: v=1; a=%s; c=relaxed/relaxed; d=example.net; s=s; h=%s;%s\r\n"
        b" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\nFrom: a@example.net\r\n\r\n"
    )
    zone = Zone({"s._domainkey.example.net": "v=DKIM1; p=AAAA"})

    def first(algorithm: bytes, fields: bytes, more: bytes = b"") -> tuple[str, str]:
        result = verify_dkim(Message(base % (algorithm, fields, more)), zone, now=NOW)[0]
        return result.result, result.reason

    assert first(b"rsa-sha1", b"from")[0] == "policy"
    assert first(b"rsa-sha256", b"subject") == ("permerror", "From is not among the signed fields")
    assert first(b"rsa-sha256", b"from", b" x=1599999999;") == ("fail", "the signature has expired")
    assert first(b"rsa-sha256", b"from") == ("permerror", "the key at s._domainkey.example.net cannot be read")
    assert first(b"rsa-sha999", b"from")[0] == "permerror"


@given(st.binary(max_size=300))
def test_no_message_makes_it_raise(junk: bytes) -> None:
    message = Message(b"From: a@b.test\r\nDKIM-Signature: " + junk + b"\r\nARC-Seal: " + junk + b"\r\n\r\nx")
    verify_dkim(message, Zone({}), now=NOW)
    verify_arc(message, Zone({}), now=NOW)


@pytest.mark.parametrize("odd", [f"x={'9' * 5000}", f"t={'9' * 5000}", "i=x.test", "i=", f"l={'9' * 5000}", "h="])
def test_tags_the_library_trips_over_make_no_signature(odd: str) -> None:
    tags = {"v": "1", "a": "rsa-sha256", "d": "x.test", "s": "s", "h": "from", "bh": "YQ==", "b": "YQ=="}
    tags |= [odd.split("=", 1)]
    field = "; ".join(f"{name}={value}" for name, value in tags.items())
    message = Message(f"DKIM-Signature: {field}\r\nFrom: a@x.test\r\n\r\n".encode())
    (found,) = verify_dkim(message, Zone({}), now=NOW)
    assert found.result == "permerror"
    assert found.reason
