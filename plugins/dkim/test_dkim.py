"""The DKIM check by its findings, on a message signed here."""

from __future__ import annotations

import base64
import re

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import mailguard_dkim
from mailguard.plugin import Message
from mailguard.testing import make_message, make_session, run_check


def signed(key: rsa.RSAPrivateKey, *, domain: bytes = b"example.net") -> Message:
    import dkim

    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    raw = bytes(make_message("Hello\n"))
    return Message(dkim.sign(raw, b"s1", domain, pem, canonicalize=(b"relaxed", b"relaxed")) + raw)


KEY = rsa.generate_private_key(65537, 2048)
PUBLIC = base64.b64encode(
    KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
ZONE = {"s1._domainkey.example.net TXT": f"v=DKIM1; k=rsa; p={PUBLIC}"}


def test_a_good_signature_passes_and_names_its_domain() -> None:
    finding = run_check(mailguard_dkim, dns=ZONE, message=signed(KEY))
    assert finding is not None
    assert (finding.word, finding.facts["passed"]) == ("pass", ["example.net"])
    assert finding.reason == "signed by example.net, unchanged since"
    ((method, result, properties),) = [(a.method, a.result, dict(p[1:] for p in a.properties)) for a in finding.auth]
    assert (method, result, properties["d"], properties["a"]) == ("dkim", "pass", "example.net", "rsa-sha256")


def test_a_changed_body_fails() -> None:
    message = signed(KEY)
    changed = Message(bytes(message.raw).replace(b"Hello\r\n", b"Hullo\r\n"))
    finding = run_check(mailguard_dkim, dns=ZONE, message=changed)
    assert finding is not None
    assert finding.word == "fail"
    assert re.search("body was changed", finding.reason)


def test_one_good_signature_is_enough() -> None:
    good = signed(KEY)
    bad = b"DKIM-Signature: v=1; a=rsa-sha256; d=evil.example; s=x; h=from; bh=AAAA; b=AAAA\r\n"
    finding = run_check(mailguard_dkim, dns=ZONE, message=Message(bad + bytes(good.raw)))
    assert finding is not None
    assert finding.word == "pass"
    assert [a.result for a in finding.auth] == ["fail", "pass"]


def test_no_signature_is_none_and_a_dead_dns_is_temporary() -> None:
    unsigned = run_check(mailguard_dkim, dns=ZONE)
    assert unsigned is not None and unsigned.word == "none"
    dead = run_check(mailguard_dkim, dns={"s1._domainkey.example.net TXT": TimeoutError}, message=signed(KEY))
    assert dead is not None and dead.word == "temperror"


def test_our_own_users_and_huge_messages_are_not_checked() -> None:
    assert run_check(mailguard_dkim, dns=ZONE, session=make_session(user="bob@example.org")) is None
    finding = run_check(mailguard_dkim, dns=ZONE, message=signed(KEY), options={"max_size": 10})
    assert finding is not None and finding.word == "none"
