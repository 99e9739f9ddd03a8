"""Postfix in front of us, behind us, and as our smarthost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import smtptalk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Talk, mails, serving, has = smtptalk.Talk, smtptalk.mails, smtptalk.serving, smtptalk.has
USER1, USER2 = smtptalk.USER1, smtptalk.USER2


@pytest.fixture
def postfix(tmp_path: Path) -> Iterator[Any]:
    """Starts a Postfix of its own with these settings; returns its port."""
    if os.geteuid() != 0 or shutil.which("postfix", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("Postfix and root are needed")
    base = Path(f"/tmp/mg-postfix-{os.getpid()}-{time.monotonic_ns() % 100_000}")
    etc, spool, data = base / "etc", base / "spool", base / "data"

    def start(**settings: str) -> int:
        for folder in (etc, spool, data):
            folder.mkdir(parents=True)
        shutil.chown(data, "postfix")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        fixed = {
            "compatibility_level": "3.6", "queue_directory": str(spool), "data_directory": str(data),
            "maillog_file": str(base / "log"), "maillog_file_prefixes": "/tmp", "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4", "myhostname": "front.test", "mydestination": "", "mynetworks": "127.0.0.0/8",
            "alias_maps": "", "alias_database": "", "smtp_host_lookup": "native", "disable_dns_lookups": "yes",
            "smtpd_relay_restrictions": "permit_mynetworks,reject",
        }  # fmt: skip
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in (fixed | settings).items()))
        lines = Path("/etc/postfix/master.cf.proto").read_text().splitlines()
        kept = [
            line for line in lines if not line.startswith("#") and line.split()[:2] != ["smtp", "inet"] and line.strip()
        ]
        unchrooted = []
        for line in kept:
            words = line.split()
            if not line.startswith(" ") and len(words) >= 8 and words[4] == "y":
                words[4] = "n"
                line = " ".join(words)
            unchrooted.append(line)
        (etc / "master.cf").write_text("\n".join([*unchrooted, f"127.0.0.1:{port} inet n - n - - smtpd", ""]))
        for _ in range(3):
            subprocess.run(["postfix", "-c", str(etc), "start"], capture_output=True, timeout=60)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10):
                return port
            time.sleep(1)
        raise AssertionError((base / "log").read_text() if (base / "log").exists() else "Postfix does not start")

    yield start
    subprocess.run(["postfix", "-c", str(etc), "stop"], capture_output=True, timeout=60)
    shutil.rmtree(base, ignore_errors=True)


def eventually(ask: Any, seconds: float = 40) -> bool:
    until = time.monotonic() + seconds
    while not ask():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def through(port: int, *, sender: str, rcpt: str, subject: str) -> None:
    with Talk(port) as talk:
        talk.open(rcpt, sender)
        message = f"From: {sender}\r\nSubject: {subject}\r\n\r\n".encode() + b"..two dots\r\n.\r\ncaf\xc3\xa9"
        message = message.replace(b"\r\n.", b"\r\n..")
        assert talk.data(message).startswith("250")


@pytest.mark.parametrize("how", ["smtp", "lmtp"])
def test_postfix_hands_mail_to_us(tmp_path: Path, postfix: Any, how: str) -> None:
    with serving(tmp_path / "m") as server:
        if how == "lmtp":
            config = server.config.read_text()
            listener = f'\n[[listener]]\nkind = "lmtp"\naddress = "127.0.0.1"\nport = {server.port(24)}\n'
            server.config.write_text(config + listener)
            server.stop()
            server.start()
        hop = f"{how}:[127.0.0.1]:{server.port(25 if how == 'smtp' else 24)}"
        port = postfix(relay_domains="office.test", relay_transport=hop, smtp_tls_security_level="may")
        through(port, sender="ann@example.net", rcpt=USER1, subject=f"by {how}")
        assert eventually(lambda: has(server, f"by {how}"))
        (raw,) = [m for m in mails(server, USER1) if b"Subject: by " in m]
        assert raw.endswith(b"\r\n\r\n..two dots\r\n.\r\ncaf\xc3\xa9\r\n")
        assert (b"with ESMTPS " if how == "smtp" else b"with LMTP ") in raw or b"with LMTPS " in raw


def test_postfix_signs_in_to_us_as_its_relayhost(tmp_path: Path, postfix: Any) -> None:
    if not list(Path("/usr/lib").glob("*/sasl2/libplain.so*")):
        pytest.skip("Postfix cannot sign in here: libsasl2-modules is not installed")
    with serving(tmp_path / "m") as server:
        hop = f"[127.0.0.1]:{server.port(587)}"
        port = postfix(
            relayhost=hop, smtp_tls_security_level="encrypt", smtp_sasl_auth_enable="yes",
            smtp_sasl_security_options="noanonymous", smtp_sasl_mechanism_filter="plain",
            smtp_sasl_password_maps=f"inline:{{{{{hop}={USER1}:{smtptalk.PASSWORD}}}}}",
        )  # fmt: skip
        through(port, sender=USER1, rcpt=USER2, subject="by relayhost")
        assert eventually(lambda: has(server, "by relayhost", USER2))
        (raw,) = [m for m in mails(server, USER2) if b"Subject: by relayhost" in m]
        assert b"Received: from mail.office.test\r\n\tby mail.office.test with ESMTPSA (TLS" in raw


def test_postfix_is_our_smarthost(tmp_path: Path, postfix: Any) -> None:
    with serving(tmp_path / "m") as server:
        port = postfix(
            virtual_mailbox_domains="elsewhere.test",
            virtual_mailbox_maps="inline:{bob@elsewhere.test=box/}",
            virtual_transport=f"smtp:[127.0.0.1]:{server.port(25)}",
        )
        # What Postfix accepts for elsewhere.test comes back to us for nobody: seen in its log as our refusal.
        route = f'\n[[relay.route]]\nrecipient = "elsewhere.test"\nhost = "127.0.0.1"\nport = {port}\ntls = "may"\n'
        server.config.write_text(server.config.read_text() + route)
        server.signal(signal.SIGHUP)
        server.wait_for("reloaded")
        with smtptalk.submitting(server) as talk:
            talk.open("bob@elsewhere.test", USER1)
            assert talk.data(b"Subject: out\r\n\r\nx").startswith("250")
        assert server.wait_for("delivered id=", 60)
        log = next(Path("/tmp").glob(f"mg-postfix-{os.getpid()}-*/log"))
        assert eventually(lambda: "we do not relay to elsewhere.test" in log.read_text())
