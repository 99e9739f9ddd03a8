"""TLS on the way out: whatever was promised is checked against real certificates."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailguard.delivery.mtasts import parse_record
from mailguard.model.event import Deferred, Delivered
from mailguard.state.stspolicy import sts_policy
from mailguard.testing import FakeResolver


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext, str]:
    """A self-signed certificate for mx.x.test: its file, a server context, the SHA-256 of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.x.test")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mx.x.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + cert.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return file, context, hashlib.sha256(spki).hexdigest()


def through_mx(house: Any, peer: Any, *, authentic: bool = False) -> None:
    house.dns = FakeResolver(authentic=authentic)
    house.relay["port"] = peer.port
    house.dns.add("x.test MX", "10 mx.x.test")
    house.dns.add("mx.x.test A", "127.0.0.1")


def cache_policy(house: Any, mx: str, mode: str = "enforce") -> None:
    text = f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"
    with house.database.write() as connection:
        connection.execute(
            sts_policy.insert().values(domain="x.test", policy_id="1", text=text, fetched_at=9e9, expires_at=9e9)
        )


def outcome(house: Any, kind: type) -> Any:
    house.put("u@x.test")
    house.start()
    return house.events.wait(kind)[0]


def test_opportunistic_tls_takes_any_certificate(house: Any, peers: Any, certificate: Any) -> None:
    through_mx(house, peer := peers(context=certificate[1]))
    outcome(house, Delivered)
    assert peer.connections == 1


def test_opportunistic_tls_that_fails_goes_in_the_clear(house: Any, peers: Any) -> None:
    through_mx(house, peers(extensions=("STARTTLS",), answers={"STARTTLS": "220 go"}))
    outcome(house, Delivered)


@pytest.mark.parametrize("trusted", [True, False])
def test_verify_wants_a_trusted_certificate(house: Any, peers: Any, certificate: Any, trusted: bool) -> None:
    through_mx(house, peers(context=certificate[1]))
    house.relay |= {"tls": "verify", "ca_file": str(certificate[0]) if trusted else ""}
    event = outcome(house, Delivered if trusted else Deferred)
    assert trusted or "does not hold" in event.reply.text


@pytest.mark.parametrize("right", [True, False])
def test_dane_pins_the_key(house: Any, peers: Any, certificate: Any, right: bool) -> None:
    peer = peers(context=certificate[1])
    through_mx(house, peer, authentic=True)
    digest = certificate[2] if right else "0" * 64
    house.dns.add(f"_{peer.port}._tcp.mx.x.test TLSA", f"3 1 1 {digest}")
    event = outcome(house, Delivered if right else Deferred)
    assert right or "no TLSA record matches" in event.reply.text


def test_dane_without_an_answer_waits(house: Any, peers: Any, certificate: Any) -> None:
    peer = peers(context=certificate[1])
    through_mx(house, peer, authentic=True)
    house.dns.add(f"_{peer.port}._tcp.mx.x.test TLSA", TimeoutError)
    assert "TLSA" in outcome(house, Deferred).reply.text


def test_dane_forbids_the_downgrade(house: Any, peers: Any) -> None:
    peer = peers()
    through_mx(house, peer, authentic=True)
    house.dns.add(f"_{peer.port}._tcp.mx.x.test TLSA", "3 1 1 " + "0" * 64)
    assert "does not offer TLS" in outcome(house, Deferred).reply.text


@pytest.mark.parametrize(
    ("mx", "mode", "trusted", "kind"),
    [
        ("mx.x.test", "enforce", True, Delivered),
        ("*.x.test", "enforce", True, Delivered),
        ("mx.x.test", "enforce", False, Deferred),
        ("other.x.test", "enforce", True, Deferred),
        ("other.x.test", "testing", False, Delivered),
    ],
)
def test_mta_sts(house: Any, peers: Any, certificate: Any, mx: str, mode: str, trusted: bool, kind: type) -> None:
    through_mx(house, peers(context=certificate[1]))
    house.relay["ca_file"] = str(certificate[0]) if trusted else ""
    cache_policy(house, mx, mode)
    outcome(house, kind)


def test_tls_required_no_puts_delivery_first(house: Any, peers: Any) -> None:
    through_mx(house, peers())
    cache_policy(house, "other.x.test")
    house.put("u@x.test", raw=b"TLS-Required: No\r\n\r\nbody\r\n")
    house.start()
    house.events.wait(Delivered)


def test_sts_records() -> None:
    assert parse_record(("v=STSv1; id=20240101;",)) == "20240101"
    assert parse_record(("v=STSv1; id=1;", "v=STSv1; id=2;")) == ""
    assert parse_record(("v=spf1 -all",)) == ""
