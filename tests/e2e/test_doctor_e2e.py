"""``mailguard doctor`` beside a running server: every port greets; and nsd takes the records of ``dns show``."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    server = installed.Installed(tmp_path / "office", settings=["workers=1", 'dns.nameservers=["127.0.0.1:1"]'])
    server.add_users()
    yield server
    server.close()


def test_a_running_server_is_well(server: Any) -> None:
    server.start()
    found = json.loads(server.run("doctor", "--offline", "--json").stdout)
    assert [line for line in found if line["mark"] == "fail"] == []
    greeted = {line["text"].split()[0] for line in found if line["area"] == "ports" and line["mark"] == "ok"}
    assert greeted == {"smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "http", "https"}
    assert server.stop() == 0
    server.run("doctor", "--offline", code=1)


@pytest.mark.skipif(not shutil.which("nsd-checkzone"), reason="needs nsd")
def test_a_name_server_takes_the_zone(server: Any, tmp_path: Path) -> None:
    server.run("dkim", "add", "office.test")
    lines = server.run("dns", "show", "--address", "192.0.2.10", "--address", "2001:db8::10").stdout.splitlines()
    ours = [line.rpartition("   ; ")[0] for line in lines if ".arpa." not in line]
    head = ["$TTL 3600", "office.test. IN SOA ns.office.test. root.office.test. 1 3600 600 604800 60"]
    zone = tmp_path / "office.test.zone"
    zone.write_text(
        "\n".join([*head, "office.test. IN NS ns.office.test.", "ns.office.test. IN A 192.0.2.53", *ours, ""])
    )
    done = subprocess.run(["nsd-checkzone", "office.test", str(zone)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "zone office.test is ok" in done.stdout
