"""``mailguard dns``: what ``show`` prints, published on a real DNS server, contents ``check``; break it, and hear."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailguard.cli.main import run as command
from mailguard.testing.dns import DnsServer

pytestmark = pytest.mark.e2e


@pytest.fixture
def scratch() -> Iterator[DnsServer]:
    with DnsServer("office.test. NS ns.office.test.\nns.office.test. A 127.0.0.1") as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, scratch: DnsServer) -> Path:
    folder = tmp_path / "office"
    sets = [f'dns.nameservers=["{scratch.nameserver}"]', f"dns_check.port={scratch.port}", 'dns_check.reach=""']
    sets += ["dns_check.blocklists=['bl.test']", 'dns_check.addresses=["192.0.2.10"]']
    words = ["init", str(folder), "--domain", "office.test", *(w for text in sets for w in ("--set", text))]
    assert command(words) == 0
    return folder / "mailguard.toml"


def mailguard(config: Path, *words: str) -> tuple[int, str, float]:
    began = time.monotonic()
    line = [sys.executable, "-m", "mailguard", "dns", *words, "-c", str(config)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, time.monotonic() - began


def publish(config: Path, scratch: DnsServer) -> None:
    _, zone, _ = mailguard(config, "show")
    scratch.add("\n".join(line.rpartition("   ; ")[0].replace(" IN ", " ", 1) for line in zone.splitlines()))


def states(text: str) -> dict[str, Any]:
    return {entry["subject"]: entry for entry in json.loads(text)}


def test_published_as_shown_all_is_well_but_the_certificate(config: Path, scratch: DnsServer) -> None:
    publish(config, scratch)
    code, text, _ = mailguard(config, "check", "--json")
    found = states(text)
    assert [s for s, e in found.items() if e["record"] and e["state"] != "ok"] == []
    assert [s for s, e in found.items() if e["failed"]] == ["office.test certificate"] and code == 1
    assert "self-signed" in found["office.test certificate"]["cure"]
    assert found["office.test name servers"]["state"] == "ok"


def test_what_is_broken_is_told(config: Path, scratch: DnsServer) -> None:
    publish(config, scratch)
    scratch.add("office.test. MX 10 mx.office.test.\nmx.office.test. CNAME mail.office.test.")
    scratch.add("10.2.0.192.bl.test. A 127.0.0.2")
    scratch.add('office.test. TXT "v=spf1 +all"')
    scratch.remove("10.2.0.192.in-addr.arpa")
    code, text, _ = mailguard(config, "check", "--json", "office.test")
    found = states(text)
    assert code == 1
    for subject, state in {
        "office.test MX": "dangerous",
        "office.test mail hosts": "dangerous",
        "office.test TXT": "dangerous",
        "192.0.2.10 on bl.test": "dangerous",
        "10.2.0.192.in-addr.arpa PTR": "missing",
    }.items():
        assert found[subject]["state"] == state, subject
        assert found[subject]["cure"]
    _, table, _ = mailguard(config, "check")
    assert "dangerous" in table and "to mend" in table


@pytest.mark.slow
def test_a_dead_resolver_ends_in_time(config: Path, scratch: DnsServer) -> None:
    scratch.dead = True
    code, text, took = mailguard(config, "check", "--json")
    assert code == 1 and took < 40  # its deadline is ten seconds; the questions one after the other take minutes
    assert {e["state"] for e in states(text).values() if e["record"]} == {"unknown"}
