"""What the elected worker does now and then: says that the DNS is dead, looks at ours once a day, writes letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailguard.app import publication, upkeep
from mailguard.app.upkeep import Upkeep
from mailguard.cli.main import run
from mailguard.config.schema import load_config
from mailguard.delivery.dnscheck import Checked, State
from mailguard.net.resolver import DnsResolver
from mailguard.state.database import Database
from mailguard.state.migrate import prepare
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock
from mailguard.testing.dns import DnsServer


class Office:
    """Parts and Shared of a worker, as far as upkeep sees them."""

    def __init__(self, folder: Path, dns: DnsServer, *more: str) -> None:
        sets = [f'dns.nameservers=["{dns.nameserver}"]', "dns.timeout=0.3", *more]
        words = [w for text in sets for w in ("--set", text)]
        assert run(["init", str(folder), "--domain", "office.test", *words]) == 0
        self.plan = self
        self.config = load_config(folder / "mailguard.toml")
        self.resolver = DnsResolver(self.config.main.dns)
        self.config.data_dir.mkdir()
        self.database = Database(StateSettings(), self.config.data_dir)
        prepare(self.database)
        self.queue = self
        self.log = self
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.letters: list[bytes] = []

    def error(self, text: str, **more: Any) -> None:
        self.lines.append((text, more))

    info = warning = error

    def put(self, envelope: Any, message: Any, recipients: Any) -> None:
        assert envelope.mail_from is None and str(recipients[0].address) == "postmaster@office.test"
        self.letters.append(bytes(message))


def made(office: Office, clock: FakeClock) -> Upkeep:
    return Upkeep(lambda: office, office, clock)  # type: ignore[arg-type,return-value]


def test_a_dead_dns_is_said_once_and_so_is_its_return(tmp_path: Path) -> None:
    clock = FakeClock()
    with DnsServer("") as dns:
        office = Office(tmp_path / "office", dns)
        duty = made(office, clock)
        duty.ask_dns()
        dns.dead = True
        duty.ask_dns()
        assert office.lines == []
        for _ in range(2):
            clock.tick(150)
            duty.ask_dns()
        ((text, more),) = office.lines
        assert text == "the DNS does not answer" and more["nameservers"] == dns.nameserver
        assert f"`[dns] nameservers` in {office.config.path}" in more["cure"]
        dns.mend()
        clock.tick(150)
        duty.ask_dns()
        assert office.lines[-1][0] == "the DNS answers again"
        office.database.close()


def test_our_dns_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State.OK
    monkeypatch.setattr(publication, "look", lambda config: [Checked("office.test MX", state, ("x",), "publish it")])
    clock = FakeClock()
    with DnsServer("") as dns:
        office = Office(tmp_path / "office", dns)
        duty = made(office, clock)
        duty.look_at_dns()
        assert office.lines == []  # not at once: a start is no time for letters
        clock.tick(upkeep._FIRST_LOOK)
        duty.look_at_dns()
        assert [text for text, _ in office.lines] == ["looked at our DNS"] and office.letters == []
        state = State.MISSING
        clock.tick(3600)
        duty.look_at_dns()
        assert len(office.lines) == 1
        clock.tick(86_400)
        made(office, clock).look_at_dns()  # another worker was elected: it waits, too
        duty.look_at_dns()
        (letter,) = office.letters
        assert b"Subject: DNS of mail.office.test: 1 change\r\n" in letter
        assert b"office.test MX: missing (was ok)" in letter
        office.database.close()


def test_a_ca_out_of_reach_is_logged_and_not_asked_again_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    with DnsServer("mail.office.test. A 127.0.0.1") as dns:
        more = ("acme.enabled=true", 'acme.directory="https://127.0.0.1:1/dir"')
        office = Office(tmp_path / "office", dns, *more)
        duty = made(office, clock)
        for _ in range(3):
            duty.certificate()
        assert [text for text, _ in office.lines] == ["asking for a certificate", "no certificate from the CA"]
        assert office.lines[1][1]["next_attempt_in"] == 300
        office.database.close()
