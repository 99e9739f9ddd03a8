"""Keeps count of how TLS on the way out went, and makes each day's SMTP TLS reports of it (RFC 8460)."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from mailguard.delivery.tlspolicy import TlsPolicy
from mailguard.delivery.tlsreport import TlsFailure, TlsPolicyReport
from mailguard.state.database import Database
from mailguard.state.stspolicy import sts_policy
from mailguard.state.tlsoutcome import tls_outcome

DAY = 86_400
_FLUSH_AT = 200  # different outcomes
_FLUSH_AFTER = 60.0  # seconds
_KEEP = 8  # days
_KIND = {"MTA-STS": "sts", "DANE": "tlsa"}
_c = tls_outcome.c


class TlsLedger:
    """Call it as the relay's ``tls_report``. Safe for threads; ``flush`` writes what is still in memory."""

    def __init__(self, database: Database, log: Any, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._log = log
        self._now = now
        self._counts: Counter[tuple[int, str, str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._since = now()

    def __call__(self, domain: str, host: str, policy: TlsPolicy, failure: str) -> None:
        """Notes one session."""
        now = self._now()
        with self._lock:
            self._counts[int(now // DAY), domain, _KIND.get(policy.source, "no-policy-found"), host, failure] += 1
            full = len(self._counts) >= _FLUSH_AT or now - self._since > _FLUSH_AFTER
        if full:
            self.flush()

    def flush(self) -> None:
        """Writes the counts; what cannot be written is told in the log and kept."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            self._since = self._now()
        if not counts:
            return
        try:
            with self._database.write() as connection:
                for key, count in counts.items():
                    _add(connection, key, count)
        except sa.exc.SQLAlchemyError as error:
            self._log.warning("TLS outcomes cannot be recorded; trying again later", error=str(error))
            with self._lock:
                self._counts.update(counts)

    def day(self, day: int) -> dict[str, tuple[TlsPolicyReport, ...]]:
        """What happened on a day (since 1970, UTC), by domain."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(tls_outcome).where(_c.day == day)).all()
            texts = dict(connection.execute(sa.select(sts_policy.c.domain, sts_policy.c.text)).all())
        by_policy: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
        for row in rows:
            by_policy[row.domain, row.kind].append(row)
        reports: defaultdict[str, list[TlsPolicyReport]] = defaultdict(list)
        for (domain, kind), found in sorted(by_policy.items()):
            lines = texts.get(domain, "").splitlines() if kind == "sts" else []
            reports[domain].append(_report(domain, kind, found, lines))
        return {domain: tuple(found) for domain, found in reports.items()}

    def prune(self) -> None:
        """Forgets what is too old to be reported."""
        with self._database.write() as connection:
            connection.execute(sa.delete(tls_outcome).where(_c.day < self._now() // DAY - _KEEP))


def _add(connection: sa.Connection, key: tuple[int, str, str, str, str], count: int) -> None:
    day, domain, kind, host, result = key
    this = sa.and_(_c.day == day, _c.domain == domain, _c.kind == kind, _c.host == host, _c.result == result)
    changed = connection.execute(sa.update(tls_outcome).where(this).values(count=_c["count"] + count)).rowcount
    if not changed:
        values = {"day": day, "domain": domain, "kind": kind, "host": host, "result": result, "count": count}
        connection.execute(tls_outcome.insert().values(values))


def _report(domain: str, kind: str, rows: Iterable[Any], lines: Iterable[str]) -> TlsPolicyReport:
    found = [(row.result, row.host, row._mapping["count"]) for row in rows]
    failures = tuple(TlsFailure(result, count, host) for result, host, count in found if result)
    good = sum(count for result, _, count in found if not result)
    hosts = tuple(sorted(line.partition(":")[2].strip() for line in lines if line.startswith("mx:")))
    failed = sum(one.count for one in failures)
    return TlsPolicyReport(kind, domain, good, failed, failures, tuple(lines), hosts)
