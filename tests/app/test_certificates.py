"""When a certificate is due, for which names, and how long to wait after the CA has said no."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailguard.app.certificates import Certificates
from mailguard.app.publication import plans
from mailguard.cli.main import run
from mailguard.config.schema import Config, load_config
from mailguard.net.acme import Acme, AcmeError
from mailguard.net.tls import TlsContexts, TlsError, read_certificate
from mailguard.protocol.autoconfig.records import records
from mailguard.testing import FakeClock, FakeResolver

START = datetime.datetime.now(datetime.UTC).timestamp()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    folder = tmp_path / "office"
    assert run(["init", str(folder), "--domain", "office.test", "--set", "acme.enabled=true"]) == 0
    return load_config(folder / "mailguard.toml")


class Authority:
    """Stands for the CA: signs what it is asked, or says no."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.refuses: dict[str, str] = {}
        self.down = ""

    def issue(self, acme: Acme, names: Sequence[str], key: bytes) -> bytes:
        self.asked.append(list(names))
        if self.down:
            raise AcmeError(self.down, limited=self.down == "rate limited")
        bad = {name: self.refuses[name] for name in names if name in self.refuses}
        if bad:
            raise AcmeError("the CA could not verify", bad)
        return signed(names, key)


def signed(names: Sequence[str], key: bytes) -> bytes:
    """A certificate for 90 days in PEM."""
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    begin = datetime.datetime.fromtimestamp(START, datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A CA")]))
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
        .sign(private, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority()
    monkeypatch.setattr(Acme, "issue", lambda self, names, key: made.issue(self, names, key))
    return made


class _Log:
    def warning(self, text: str, **more: Any) -> None:
        pass


def ours(config: Config, dns: FakeResolver, clock: FakeClock) -> Certificates:
    return Certificates(config, dns, _Log(), clock)


@pytest.fixture
def dns() -> FakeResolver:
    names = ("mail", "autoconfig", "imap")
    zone = {f"{name}.office.test A": "192.0.2.10" for name in names}
    return FakeResolver(zone | {"office.test A": "192.0.2.80", "mta-sts.office.test A": "192.0.2.80"})


def test_names_that_lead_here_and_no_others(config: Config, dns: FakeResolver) -> None:
    found = ours(config, dns, FakeClock(START))
    assert found.wanted() == ["mail.office.test", "autoconfig.office.test", "imap.office.test"]
    assert found.why_due() == "there is none yet"


def test_due_at_the_last_third_and_when_a_name_is_missing(
    config: Config, dns: FakeResolver, authority: Authority
) -> None:
    clock = FakeClock(START)
    found = ours(config, dns, clock)
    found.renew()
    assert found.path.stat().st_mode & 0o777 == 0o600
    assert read_certificate(found.path).names == {"mail.office.test", "autoconfig.office.test", "imap.office.test"}
    assert found.why_due() == ""
    dns.add("autodiscover.office.test A", "192.0.2.10")
    assert found.why_due() == ""  # more may follow
    clock.tick(3 * 3600)
    assert found.why_due() == "autodiscover.office.test is not in it"
    found.renew()
    clock.tick(59 * 86_400)
    assert found.why_due() == ""
    clock.tick(2 * 86_400)
    assert found.why_due().startswith("it ends on ")


def test_no_answer_from_the_dns_drops_no_name(config: Config, dns: FakeResolver, authority: Authority) -> None:
    clock = FakeClock(START)
    ours(config, dns, clock).renew()
    dns.add("imap.office.test *", TimeoutError)
    dns.add("imap.office.test A", TimeoutError)
    assert "imap.office.test" in ours(config, dns, clock).wanted()


def test_a_name_that_is_not_verified_is_left_out_and_tried_again_later(
    config: Config, dns: FakeResolver, authority: Authority
) -> None:
    clock = FakeClock(START)
    authority.refuses["imap.office.test"] = "connection refused"
    found = ours(config, dns, clock)
    assert found.renew() == ["mail.office.test", "autoconfig.office.test"]
    assert len(authority.asked) == 2
    again = ours(config, dns, clock)
    assert "imap.office.test" not in again.wanted() and again.memory.holds["imap.office.test"].reason
    clock.tick(5 * 3600)
    assert ours(config, dns, clock).why_due() == "imap.office.test is not in it"


def test_waits_longer_after_each_failure_and_tells_once_a_day(
    config: Config, dns: FakeResolver, authority: Authority
) -> None:
    clock = FakeClock(START)
    authority.down = "connection refused"
    waits = []
    for _ in range(12):
        found = ours(config, dns, clock)
        assert found.may_try()
        with pytest.raises(AcmeError, match="connection refused"):
            found.renew()
        assert not ours(config, dns, clock).may_try()
        waits.append(found.memory.next_attempt - clock())
        clock.tick(waits[-1])
    assert waits[:3] == [300, 600, 1200] and waits[-1] == 86_400
    letter = ours(config, dns, clock).tell()
    assert letter is not None and "connection refused" in letter[1] and "self-signed" in letter[1][0]
    assert ours(config, dns, clock).tell() is None
    authority.down = ""
    found = ours(config, dns, clock)
    found.renew()
    assert ours(config, dns, clock).memory.failures == 0


def test_a_ca_that_wants_to_be_left_alone_is(config: Config, dns: FakeResolver, authority: Authority) -> None:
    clock = FakeClock(START)
    authority.down = "rate limited"
    found = ours(config, dns, clock)
    with pytest.raises(AcmeError):
        found.renew()
    assert found.memory.next_attempt - clock() == 6 * 3600


def test_the_key_stays_until_the_next_one_is_announced_and_taken(
    config: Config, dns: FakeResolver, authority: Authority
) -> None:
    clock = FakeClock(START)

    def tlsa() -> list[str]:
        wanted = records(plans(config, ("192.0.2.10",))[0])
        return [record.data for record in wanted if record.type == "TLSA"]

    ours(config, dns, clock).renew()
    (first,) = tlsa()
    ours(config, dns, clock).renew()
    assert tlsa() == [first]
    ours(config, dns, clock).prepare_key()
    _, second = tlsa()
    assert tlsa()[0] == first
    ours(config, dns, clock).renew(change_key=True)
    assert tlsa() == [second]
    ours(config, dns, clock).renew()
    assert tlsa() == [second]


def test_the_issued_certificate_is_taken_in_and_a_broken_one_is_not(
    config: Config, dns: FakeResolver, authority: Authority
) -> None:
    tls = TlsContexts(config.main.tls, config.base, issued=config.issued)
    own = tls.certificates()[0].path
    assert not tls.changed()
    ours(config, dns, FakeClock(START)).renew()
    assert tls.changed()
    tls.reload()
    assert tls.certificates()[0].path == config.issued != own
    assert config.issued is not None
    good = config.issued.read_bytes()
    config.issued.write_text("rubbish")
    assert tls.changed()
    with pytest.raises(TlsError, match=r"acme/certificate\.pem"):
        tls.reload()
    assert tls.certificates()[0].path == config.issued  # what is in memory still serves
    assert not tls.changed()  # said once, not every second
    again = TlsContexts(config.main.tls, config.base, issued=config.issued)
    assert again.certificates()[0].path == own and str(config.issued) in again.issued_problem
    config.issued.write_bytes(good)
    assert tls.changed()
    tls.reload()
    assert tls.issued_problem == ""
    # One file of both, as others read it who sign with it.
    assert serialization.load_pem_private_key(good, None) is not None
    assert len(x509.load_pem_x509_certificates(good)) == 1
