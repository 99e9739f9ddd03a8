"""Durable deliveries a second, checks off, beside Postfix with its own virtual(8) and with Dovecot's LMTP."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
from harness import USERS, Row, median

ROUNDS = 3


DRIVER, TLS_DRIVER = "smtp_load", str(Path(__file__).with_name("tls_load.py"))


@dataclass(frozen=True, slots=True)
class Case:
    """A load: octets of a message, sessions at a time, and what is to be reached beside Postfix with Dovecot's LMTP
    and beside its own virtual(8), 0 where that is not compared."""

    size: int
    sessions: int
    lmtp: float = 0
    virtual: float = 0
    driver: str = DRIVER
    tls: str = ""

    @property
    def what(self) -> str:
        """Its name in the table."""
        return f"{self.size // 1000} KB, {self.sessions} sessions{self.tls and ', '}{self.tls}"


CASES = (
    Case(10_000, 10, 3, 2),
    Case(10_000, 50, 3, 2),
    Case(100_000, 10, 0, 1.5),
    Case(10_000, 10, 1.5, driver=TLS_DRIVER, tls="STARTTLS"),
    # Here the client is busier than the servers: whatever they do, it allows for no more.
    Case(10_000, 10, 1, tls="STARTTLS, a context made for each"),
)


def rows() -> Iterator[Row]:
    """Every case alternates between the servers, three rounds; medians."""
    harness.need("postfix", "dovecot")
    with (
        harness.scratch() as base,
        harness.rival(base, "dovecot", "postfix"),
        harness.ours(base / "ours", users=USERS) as server,
    ):
        _give_postfix(base, server.folder / "tls")
        for case in CASES:
            yield from _case(base, server.offset + 25, case)
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


def _case(base: Path, port: int, case: Case) -> Iterator[Row]:
    names = ["ours", *(["virtual"] if case.virtual else []), *(["lmtp"] if case.lmtp else [])]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    messages = 600 if case.size > 50_000 or case.tls else 2_000
    for _ in range(ROUNDS):
        for name, found in results.items():
            found.append(_send(base, name, port, case, messages))
    middle = {name: median(found, "rate") for name, found in results.items()}
    what = f"{case.what}: deliveries"
    if case.lmtp:
        yield Row(what, middle["ours"], middle["lmtp"], "/s", case.lmtp, rival="Postfix + Dovecot LMTP")
    if case.virtual:
        yield Row(what, middle["ours"], middle["virtual"], "/s", case.virtual, rival="Postfix virtual")
    if case.sessions == 50:
        yield Row(
            f"{case.what}: p99 of the reply to end of data", median(results["ours"], "p99"),
            median(results["lmtp"], "p99"), "ms", 1, False, "Postfix + Dovecot LMTP",
        )  # fmt: skip


def _alone(base: Path, port: int) -> Iterator[Row]:
    case = Case(10_000, 1)
    found = {name: [_send(base, name, port, case, 200) for _ in range(ROUNDS)] for name in ("ours", "virtual")}
    yield Row(
        "10 KB, one session: time to the 250", median(found["ours"], "p50"), median(found["virtual"], "p50"), "ms", 1,
        False, "Postfix virtual",
    )  # fmt: skip


def _send(base: Path, name: str, port: int, case: Case, messages: int) -> dict[str, float]:
    domain = "b.test" if name == "lmtp" else "a.test"
    recipients = [word for user in USERS for word in ("--rcpt", f"{user}@{domain}")]
    where = str(base / "ours/data/mail/a.test/*") if name == "ours" else str(base / f"maild/{domain[0]}-u*")
    result = harness.drive(
        case.driver, "--port", str(port if name == "ours" else harness.POSTFIX_PORT), *recipients,
        "--size", str(case.size), "--sessions", str(case.sessions), "--messages", str(messages), "--maildirs", where,
        *(["--starttls"] if case.tls else []),
    )  # fmt: skip
    rate = result.get("delivered_rate") or result["rate"]
    return {"rate": rate, "p99": result["data_ms"]["p99"], "p50": result["data_ms"]["p50"]}
