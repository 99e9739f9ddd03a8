"""The ARC check: what a chain is worth depends on who sealed it."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import mailguard_arc
from mailguard.plugin import ArcResult, ArcSet, Finding
from mailguard.testing import FakeResolver, make_message, make_session, run_check

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)
DER = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
RECORD = f"v=DKIM1; k=rsa; p={base64.b64encode(DER).decode()}"
PASS = "dmarc=pass (p=reject) header.from=example.net"


def forwarded(*sealers: tuple[str, str]) -> bytes:
    """A message sealed by each of ``(domain, results)``, first one first."""
    raw = bytes(make_message())
    for n, (domain, results) in enumerate(sealers):
        cv = "none" if n == 0 else "pass"
        field = f"Authentication-Results: {domain}; arc={cv}; {results}\r\n".encode()
        headers = [b"from", b"to", b"subject", b"date", b"message-id"]
        sealed: Sequence[bytes] = dkim.arc_sign(
            field + raw, b"s", domain.encode(), PEM, domain.encode(), include_headers=headers, timestamp=1_700_000_000
        )
        raw = b"".join(sealed) + raw
    return raw


def zone(*domains: str) -> FakeResolver:
    return FakeResolver({f"s._domainkey.{domain} TXT": RECORD for domain in domains})


def check(raw: bytes, trusted: Sequence[str], dns: FakeResolver | None = None) -> Finding | None:
    dns = dns or zone("list.example", "relay.example")
    return run_check(mailguard_arc, dns=dns, message=make_message(raw=raw), options={"trusted": trusted})


def test_a_trusted_forwarder_vouches_for_the_author() -> None:
    finding = check(forwarded(("list.example", PASS)), ["list.example"])
    assert finding is not None
    assert (finding.word, finding.facts["by"]) == ("trusted", "list.example")
    assert finding.auth[0].result == "pass"
    assert finding.auth[0].properties == (("smtp", "remote-ip", "192.0.2.1"), ("header", "oldest-pass", "0"))


@pytest.mark.parametrize(
    ("sealers", "trusted", "word"),
    [
        ([("list.example", PASS)], [], "pass"),
        ([("list.example", PASS)], ["example"], "trusted"),
        ([("list.example", "dmarc=fail header.from=example.net")], ["list.example"], "pass"),
        ([("list.example", "dmarc=pass header.from=other.example")], ["list.example"], "pass"),
        ([("list.example", 'spf=pass reason="x; dmarc=fail"; ' + PASS)], ["list.example"], "trusted"),
        ([("list.example", "spf=pass (; dmarc=pass header.from=example.net)")], ["list.example"], "pass"),
        ([("list.example", PASS), ("relay.example", "spf=pass")], ["list.example"], "pass"),
        ([("list.example", PASS), ("relay.example", "spf=pass")], ["list.example", "relay.example"], "trusted"),
        ([("relay.example", "spf=pass"), ("list.example", PASS)], ["list.example"], "trusted"),
    ],
)
def test_trust_goes_back_link_by_link(sealers: list[tuple[str, str]], trusted: list[str], word: str) -> None:
    options = [name if "." in name else "list.example" for name in trusted]
    finding = check(forwarded(*sealers), options)
    assert finding is not None
    assert finding.word == word


def test_a_change_after_the_last_seal_breaks_the_chain() -> None:
    finding = check(forwarded(("list.example", PASS)).replace(b"Hello\r\n", b"Bye\r\n"), ["list.example"])
    assert finding is not None
    assert (finding.word, finding.auth[0].result) == ("fail", "fail")


def test_a_change_between_two_seals_is_told() -> None:
    raw = forwarded(("list.example", PASS)).replace(b"\r\n\r\nHello", b"\r\n\r\nHello there")
    field = b"Authentication-Results: relay.example; arc=pass\r\n"
    raw = b"".join(dkim.arc_sign(field + raw, b"s", b"relay.example", PEM, b"relay.example")) + raw
    finding = check(raw, ["list.example", "relay.example"])
    assert finding is not None
    assert finding.word == "trusted"
    assert ("header", "oldest-pass", "2") in finding.auth[0].properties


def test_no_chain_no_word() -> None:
    assert run_check(mailguard_arc) is None
    assert run_check(mailguard_arc, session=make_session(user="ann@example.org")) is None


def test_dns_that_does_not_answer() -> None:
    dns = FakeResolver({"s._domainkey.list.example *": TimeoutError})
    finding = check(forwarded(("list.example", PASS)), ["list.example"], dns)
    assert finding is not None
    assert finding.word == "temperror"


def test_two_authors_are_vouched_for_by_nobody() -> None:
    sealed = ArcSet(1, "list.example", f"i=1; list.example; {PASS}")
    assert mailguard_arc.vouching(ArcResult("pass", "", (sealed,)), ("list.example",), "example.net")
    assert not mailguard_arc.vouching(ArcResult("pass", "", (sealed,)), ("list.example",), "")


def test_trusted_must_be_domains() -> None:
    with pytest.raises(ValueError, match='"me@x" is no domain'):
        run_check(mailguard_arc, options={"trusted": ["me@x"]})
