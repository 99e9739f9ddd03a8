"""What we saw of mail in others' names on one day, out of the verdict records: the rows of DMARC reports."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mailguard.delivery.dmarcrecord import Published, published
from mailguard.delivery.dmarcreport import AuthDomain, DmarcRow
from mailguard.net.dmarc import organisational_domain
from mailguard.net.resolver import DnsTemporaryError, Resolver
from mailguard.state import record
from mailguard.state.database import Database

_SIGNATURE = re.compile(r"(?:^|; )([^/\s]+)/(\S*): (\w+)")
_ACTIONS = {"reject": "reject", "discard": "reject", "junk": "quarantine", "quarantine": "quarantine"}
_MOST = 10  # signatures of one message


class Tally:
    """Counts one day's messages by the domain whose record applies. ``ours`` are domains that get no report."""

    def __init__(self, resolver: Resolver, ours: frozenset[str]) -> None:
        self._resolver = resolver
        self._ours = ours
        self._published: dict[str, Published | None] = {}
        self._organisations: dict[str, str] = {}

    def day(self, database: Database, begin: float, end: float) -> dict[str, tuple[Published, tuple[DmarcRow, ...]]]:
        """The rows by domain. A domain whose DNS does not answer now is left out."""
        counts: defaultdict[str, Counter[DmarcRow]] = defaultdict(Counter)
        for one in record.since(database, begin):
            if one.at >= end:
                break
            if one.stage == "message" and not one.account:
                for domain, row in self._rows(one):
                    counts[domain][row] += 1
        found: dict[str, tuple[Published, tuple[DmarcRow, ...]]] = {}
        for domain, rows in counts.items():
            where = self._published[domain]
            assert where is not None
            kept = tuple(replace(row, count=count) for row, count in rows.items())
            found[where.domain] = (where, (*found.get(where.domain, (where, ()))[1], *kept))
        return found

    def _rows(self, one: record.Record) -> Iterator[tuple[str, DmarcRow]]:
        author = one.author.rpartition("@")[2].lower()
        findings = one.data.get("findings", {})
        if not author or author in self._ours or findings.get("dmarc", {}).get("word", "none") == "none":
            return
        try:
            if author not in self._published:
                self._published[author] = published(self._resolver, author)
            where = self._published[author]
            if where is not None and where.tags.get("rua") and where.domain not in self._ours:
                yield author, self._row(one, author, where, findings)
        except DnsTemporaryError:
            return

    def _row(self, one: record.Record, author: str, where: Published, findings: dict[str, Any]) -> DmarcRow:
        sender = one.mail_from.rpartition("@")[2].lower()
        helo = str(one.data.get("facts", {}).get("helo", ""))
        auth = [AuthDomain("dkim", d, r, s) for d, s, r in _signatures(findings)]
        spf = findings.get("spf", {}).get("word", "none")
        auth.append(AuthDomain("spf", sender or helo, spf))
        passed = spf == "pass" and self._aligned(sender or helo, author, where.tags.get("aspf", "r"))
        strict = where.tags.get("adkim", "r")
        signed = any(
            a.method == "dkim" and a.result == "pass" and self._aligned(a.domain, author, strict) for a in auth
        )
        disposition = "none" if passed or signed else _ACTIONS.get(one.action, "none")
        asked = where.tags.get("p", "none")
        override = "local_policy" if not (passed or signed) and asked not in ("none", disposition) else ""
        words = ("pass" if signed else "fail", "pass" if passed else "fail")
        return DmarcRow(one.peer_ip, 1, disposition, *words, author, sender, tuple(auth), override)

    def _aligned(self, domain: str, author: str, mode: str) -> bool:
        if mode == "s" or domain == author or not domain:
            return domain == author
        for name in (domain, author):
            if name not in self._organisations:
                self._organisations[name] = organisational_domain(self._resolver, name)
        return self._organisations[domain] == self._organisations[author]


def _signatures(findings: dict[str, Any]) -> list[tuple[str, str, str]]:
    return _SIGNATURE.findall(str(findings.get("dkim", {}).get("detail", "")))[:_MOST]
