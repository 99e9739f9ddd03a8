"""App passwords: one for each device, made by us, shown once, revoked singly."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.state.credential import app_password, server_secret
from mailguard.state.database import Database

PROTOCOLS = ("smtp", "imap", "pop3")
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # none that look alike
_GROUPS, _PER_GROUP = 4, 5  # 20 letters of 32: 100 bits
_USED_EVERY = 60.0  # seconds between notes of use


@dataclass(frozen=True, slots=True)
class AppPassword:
    """One app password, without the password. ``protocols`` empty: all of them. Times are Unix times, 0 for never."""

    id: str
    account: str
    name: str
    protocols: frozenset[str]
    created_at: float
    used_at: float
    used_from: str


class AppPasswords:
    """The app passwords of all accounts. Safe for threads."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        self._key = b""

    def create(self, account: str, name: str, protocols: Iterable[str] = ()) -> tuple[str, str]:
        """Makes one; returns its id and the password in readable groups. Raises ValueError for an unknown protocol."""
        wanted = set(protocols)
        if foreign := wanted - set(PROTOCOLS):
            raise ValueError(f"there is no protocol {', '.join(sorted(foreign))}; known: {', '.join(PROTOCOLS)}")
        groups = ["".join(secrets.choice(_LETTERS) for _ in range(_PER_GROUP)) for _ in range(_GROUPS)]
        id, password = secrets.token_hex(6), "-".join(groups)
        row = {"id": id, "account": account, "name": name.strip()[:80] or "app", "digest": self._digest(password)}
        with self._database.write(durable=True) as connection:
            connection.execute(
                sa.insert(app_password).values(
                    **row, protocols=" ".join(sorted(wanted)), created_at=self._now(), used_at=0.0, used_from=""
                )
            )
        return id, password

    def list(self, account: str) -> list[AppPassword]:
        """Those of one account, oldest first."""
        query = sa.select(app_password).where(app_password.c.account == account).order_by(app_password.c.created_at)
        with self._database.read() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def revoke(self, account: str, id: str) -> bool:
        """Removes one; False if there is none of that id."""
        with self._database.write(durable=True) as connection:
            mine = (app_password.c.account == account) & (app_password.c.id == id)
            return connection.execute(sa.delete(app_password).where(mine)).rowcount > 0

    def verify(self, account: str, password: str, *, protocol: str, peer_ip: str) -> str | None:
        """The name of the app password that this is, if it is good for the protocol (none is for the account page);
        notes its use."""
        plain = password.replace(" ", "").lower()
        if protocol not in PROTOCOLS or len(plain) != _GROUPS * (_PER_GROUP + 1) - 1:
            return None
        digest = self._digest(plain)
        query = sa.select(app_password).where(app_password.c.account == account)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            if hmac.compare_digest(row.digest, digest) and (not row.protocols or protocol in row.protocols.split()):
                self._note(row.id, row.used_at, peer_ip)
                return str(row.name)
        return None

    def _note(self, id: str, used_at: float, peer_ip: str) -> None:
        if self._now() - used_at >= _USED_EVERY:
            with self._database.write() as connection:
                values = {"used_at": self._now(), "used_from": peer_ip}
                connection.execute(sa.update(app_password).where(app_password.c.id == id).values(values))

    def _digest(self, password: str) -> bytes:
        self._key = self._key or server_secret(self._database, "app-password")
        return hmac.digest(self._key, password.encode(), hashlib.sha256)


def _entry(row: sa.Row[tuple[object, ...]]) -> AppPassword:
    return AppPassword(
        row.id, row.account, row.name, frozenset(row.protocols.split()), row.created_at, row.used_at, row.used_from
    )
