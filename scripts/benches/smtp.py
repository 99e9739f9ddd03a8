"""Durable deliveries a second, checks off, beside Postfix with its own virtual(8) and with Dovecot's LMTP."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import harness
from harness import USERS, Row, median

ROUNDS = 3


CASES = ((10_000, 10, False), (10_000, 50, False), (100_000, 10, False), (10_000, 10, True))


def rows() -> Iterator[Row]:
    """Every case alternates between the servers, three rounds; medians."""
    harness.need("postfix", "dovecot")
    with (
        harness.scratch() as base,
        harness.rival(base, "dovecot", "postfix"),
        harness.ours(base / "ours", users=USERS) as server,
    ):
        _give_postfix(base, server.folder / "tls")
        for size, sessions, tls in CASES:
            yield from _case(base, server.offset + 25, size, sessions, tls)
        yield from _alone(base, server.offset + 25)


def _give_postfix(base: Path, tls: Path) -> None:
    """Our certificate to Postfix, so that both speak the same TLS."""
    folder = str(base / "postfix/etc")
    settings = (
        "smtpd_tls_security_level=may",
        f"smtpd_tls_cert_file={tls / 'certificate.pem'}",
        f"smtpd_tls_key_file={tls / 'key.pem'}",
    )
    subprocess.run(["postconf", "-c", folder, "-e", *settings], check=True)
    subprocess.run(["postfix", "-c", folder, "reload"], check=True, stderr=subprocess.DEVNULL)
    time.sleep(2)


def _case(base: Path, port: int, size: int, sessions: int, tls: bool) -> Iterator[Row]:
    messages = 600 if size > 50_000 or tls else 2_000
    results: dict[str, list[dict[str, float]]] = {"ours": [], "virtual": [], "lmtp": []}
    for _ in range(ROUNDS):
        for name, found in results.items():
            found.append(_send(base, name, port, size, sessions, messages, tls))
    what = f"{size // 1000} KB, {sessions} sessions" + (", STARTTLS" if tls else "")
    middle = {name: median(found, "rate") for name, found in results.items()}
    least = 1.5 if tls else 3
    yield Row(f"{what}: deliveries", middle["ours"], middle["lmtp"], "/s", least, rival="Postfix + Dovecot LMTP")
    if not tls:
        least = 1.5 if size > 50_000 else 2
        yield Row(f"{what}: deliveries", middle["ours"], middle["virtual"], "/s", least, rival="Postfix virtual")
    if sessions == 50:
        yield Row(
            f"{what}: p99 of the reply to end of data", median(results["ours"], "p99"),
            median(results["lmtp"], "p99"), "ms", 1, False, "Postfix + Dovecot LMTP",
        )  # fmt: skip


def _alone(base: Path, port: int) -> Iterator[Row]:
    found = {
        name: [_send(base, name, port, 10_000, 1, 200, False) for _ in range(ROUNDS)] for name in ("ours", "virtual")
    }
    yield Row(
        "10 KB, one session: time to the 250", median(found["ours"], "p50"), median(found["virtual"], "p50"), "ms", 1,
        False, "Postfix virtual",
    )  # fmt: skip


def _send(base: Path, name: str, port: int, size: int, sessions: int, messages: int, tls: bool) -> dict[str, float]:
    domain = "b.test" if name == "lmtp" else "a.test"
    recipients = [word for user in USERS for word in ("--rcpt", f"{user}@{domain}")]
    where = str(base / "ours/data/mail/a.test/*") if name == "ours" else str(base / f"maild/{domain[0]}-u*")
    result = harness.drive(
        "smtp_load", "--port", str(port if name == "ours" else harness.POSTFIX_PORT), *recipients,
        "--size", str(size), "--sessions", str(sessions), "--messages", str(messages), "--maildirs", where,
        *(["--starttls"] if tls else []),
    )  # fmt: skip
    rate = result.get("delivered_rate") or result["rate"]
    return {"rate": rate, "p99": result["data_ms"]["p99"], "p50": result["data_ms"]["p50"]}
