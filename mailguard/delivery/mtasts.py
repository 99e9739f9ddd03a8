"""MTA-STS: a domain's promise that its mail servers speak verifiable TLS (RFC 8461)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.delivery.dane import matches_name
from mailguard.net.https import Document, HttpsError
from mailguard.net.resolver import DnsTemporaryError, Resolver
from mailguard.state.database import Database
from mailguard.state.stspolicy import sts_policy

MAX_POLICY = 65_536  # octets, RFC 8461 §3.3
MAX_AGE = 31_557_600  # seconds, RFC 8461 §3.2
REFRESH = 86_400
_RETRY = 300  # after a failed fetch, RFC 8461 §3.3
_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy: ``mode`` is ``enforce``, ``testing`` or ``none``, ``mx`` its host patterns, ``max_age`` in seconds."""

    mode: str
    mx: tuple[str, ...]
    max_age: int
    text: str = ""

    def allows(self, host: str) -> bool:
        """Whether a host is one of the domain's; ``*.`` stands for exactly one label (RFC 8461 §4.1)."""
        return any(matches_name(pattern, host) for pattern in self.mx)


class StsPolicyError(ValueError):
    """Not a policy; the text says what is wrong."""


def parse_policy(text: str) -> StsPolicy:
    """Reads a policy file (RFC 8461 §3.2). Raises StsPolicyError."""
    values: dict[str, str] = {}
    mx: list[str] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon and line.strip():
            raise StsPolicyError(f"{line[:40]!r} is not `key: value`")
        key, value = key.strip(), value.strip()
        if key == "mx":
            mx.append(value.lower())
        else:
            values.setdefault(key, value)
    if values.get("version") != "STSv1":
        raise StsPolicyError("the version is not STSv1")
    mode, age = values.get("mode", ""), values.get("max_age", "")
    if mode not in ("enforce", "testing", "none"):
        raise StsPolicyError(f"unknown mode {mode!r}")
    if not re.fullmatch(r"\d{1,10}", age):
        raise StsPolicyError(f"bad max_age {age!r}")
    if not mx and mode != "none":
        raise StsPolicyError("no mx")
    return StsPolicy(mode, tuple(mx), min(int(age), MAX_AGE), text)


def parse_record(records: tuple[str, ...]) -> str:
    """The policy id in the TXT records of ``_mta-sts.DOMAIN``, ``""`` if there is not exactly one (RFC 8461 §3.1)."""
    ours = [r for r in records if r.split(";")[0].strip() == "v=STSv1"]
    if len(ours) != 1:
        return ""
    pairs = (part.partition("=") for part in ours[0].split(";"))
    found = [value.strip() for key, _, value in pairs if key.strip() == "id"]
    return found[0] if found and _ID.match(found[0]) else ""


Fetch = Callable[[str], Document]
"""Gets the policy file of a domain from its well-known address. Raises HttpsError, DnsTemporaryError."""


class StsPolicies:
    """The policies of other domains, cached in the state database for as long as they asked."""

    def __init__(
        self, database: Database, resolver: Resolver, fetch: Fetch, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._resolver = resolver
        self._fetch = fetch
        self._now = now
        self._failed: dict[str, float] = {}

    def policy(self, domain: str) -> StsPolicy | None:
        """The policy in force, None where there is none."""
        now = self._now()
        cached = self._cached(domain, now)
        try:
            ident = parse_record(self._resolver.query(f"_mta-sts.{domain}", "TXT").records)
        except DnsTemporaryError:
            ident = ""
        fresh = cached is not None and cached[0] == ident and now < cached[2] + REFRESH
        if ident and not fresh and now >= self._failed.get(domain, 0):
            try:
                return self._renew(domain, ident, now)
            except (HttpsError, DnsTemporaryError, StsPolicyError):
                self._note_failure(domain, now)
        # A cached policy stays in force whatever has become of the record (RFC 8461 §3.3).
        return cached[1] if cached else None

    def _note_failure(self, domain: str, now: float) -> None:
        if len(self._failed) > 1000:
            self._failed.clear()
        self._failed[domain] = now + _RETRY

    def _cached(self, domain: str, now: float) -> tuple[str, StsPolicy, float] | None:
        c = sts_policy.c
        with self._database.read() as connection:
            row = connection.execute(
                sa.select(c.policy_id, c.text, c.fetched_at).where(c.domain == domain, c.expires_at > now)
            ).first()
        return (row[0], parse_policy(row[1]), row[2]) if row else None

    def _renew(self, domain: str, ident: str, now: float) -> StsPolicy:
        document = self._fetch(domain)
        if document.media_type != "text/plain":
            raise StsPolicyError(f"the policy is {document.media_type!r}, not text/plain")
        policy = parse_policy(document.body.decode("utf-8", "replace"))
        with self._database.write() as connection:
            connection.execute(sa.delete(sts_policy).where(sts_policy.c.domain == domain))
            connection.execute(
                sts_policy.insert().values(
                    domain=domain,
                    policy_id=ident,
                    text=policy.text,
                    fetched_at=now,
                    expires_at=now + policy.max_age,
                )
            )
        return policy
