"""Recent sign-ins, for an account's owner to look at: one line for each way in, however often it is used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.model.event import Event, SignedIn
from mailguard.state.database import Database
from mailguard.state.websession import sign_in

KEEP = 90 * 86_400.0  # seconds
_WAITING = 5_000  # lines that wait to be written
_T = sign_in.c
_Key = tuple[str, str, str, str, str]
Later = Callable[[Callable[[sa.Connection], None]], None]


@dataclass(frozen=True, slots=True)
class SignInLine:
    """One way that the account was used: over ``protocol`` from ``peer_ip``, with an app password of this name or
    the account's own (``""``); ``outcome`` is ``""``, or why it failed. Unix times."""

    protocol: str
    peer_ip: str
    outcome: str
    app_password: str
    first_at: float
    last_at: float
    count: int


class SignIns:
    """Gathers events and writes them with somebody's next batch (``later``). Safe for threads."""

    def __init__(self, database: Database, later: Later, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._later = later
        self._now = now
        self._waiting: dict[_Key, tuple[float, float, int]] = {}
        self._lock = threading.Lock()

    def observe(self, event: Event, known: Callable[[str], bool]) -> None:
        """Takes in a sign-in, of accounts that exist only."""
        if not isinstance(event, SignedIn) or not known(event.account):
            return
        outcome = "" if event.ok else (event.reason or "refused").partition(":")[0]
        key = (event.account, event.protocol, event.peer_ip, outcome, event.app_password)
        with self._lock:
            first, _, count = self._waiting.get(key, (event.at, event.at, 0))
            if count == 0 and len(self._waiting) >= _WAITING:
                return
            self._waiting[key] = (first, event.at, count + 1)
            if len(self._waiting) > 1 or count:
                return
        self._later(self._write)

    def list(self, account: str, limit: int = 100) -> list[SignInLine]:
        """The account's lines, newest first."""
        query = sa.select(sign_in).where(_T.account == account).order_by(_T.last_at.desc()).limit(limit)
        with self._database.read() as connection:
            return [SignInLine(*row[1:]) for row in connection.execute(query)]

    def prune(self) -> None:
        """Forgets what is older than 90 days."""
        with self._database.write() as connection:
            connection.execute(sa.delete(sign_in).where(_T.last_at < self._now() - KEEP))

    def _write(self, connection: sa.Connection) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for key, (first, last, count) in waiting.items():
            row = dict(zip(("account", "protocol", "peer_ip", "outcome", "app_password"), key, strict=True))
            mine = sa.and_(*(sign_in.c[name] == value for name, value in row.items()))
            values = {"last_at": last, "count": _T.count + count}
            if not connection.execute(sa.update(sign_in).where(mine).values(values)).rowcount:
                connection.execute(sa.insert(sign_in).values(**row, first_at=first, last_at=last, count=count))
