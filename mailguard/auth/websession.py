"""Sessions of the account page: kept in the state database, so every worker knows them and each can be ended."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.state.database import Database
from mailguard.state.websession import setup_link, web_session

IDLE = 2 * 3600.0  # seconds without a request until a session ends
LONGEST = 24 * 3600.0
LINK = 15 * 60.0  # seconds that a set-up link waits for its one use
_SEEN_EVERY = 60.0  # seconds between notes of use
_S = web_session.c


@dataclass(frozen=True, slots=True)
class WebSession:
    """One signed-in browser. ``form_token`` must come back with every form (it proves that we made the page)."""

    id: str
    account: str
    created_at: float
    seen_at: float
    peer_ip: str
    agent: str
    form_token: str = ""


class WebSessions:
    """The sessions of all accounts. Safe for threads. ``stamp`` says when an account's password was last changed:
    a session ends when it does, wherever that was."""

    def __init__(
        self, database: Database, stamp: Callable[[str], float], *, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._stamp = stamp
        self._now = now

    def create(self, account: str, *, peer_ip: str, agent: str) -> str:
        """A new session; returns its token, for the cookie."""
        token = secrets.token_urlsafe(32)
        now = self._now()
        row = {"digest": _digest(token), "id": secrets.token_hex(6), "account": account, "stamp": self._stamp(account)}
        row |= {"created_at": now, "seen_at": now, "peer_ip": peer_ip, "agent": agent[:200]}
        with self._database.write() as connection:
            connection.execute(sa.delete(web_session).where(~self._alive()))
            connection.execute(sa.insert(web_session).values(row))
        return token

    def find(self, token: str) -> WebSession | None:
        """The session of a token, if it is still alive; notes its use."""
        mine = _S.digest == _digest(token)
        with self._database.read() as connection:
            row = connection.execute(sa.select(web_session).where(mine, self._alive())).first()
        if row is None or row.stamp != self._stamp(row.account):
            return None
        if self._now() - row.seen_at >= _SEEN_EVERY:
            with self._database.write() as connection:
                connection.execute(sa.update(web_session).where(mine).values(seen_at=self._now()))
        return _session(row, form_token(token))

    def list(self, account: str) -> list[WebSession]:
        """The account's sessions, newest first."""
        mine = sa.and_(_S.account == account, _S.stamp == self._stamp(account), self._alive())
        with self._database.read() as connection:
            query = sa.select(web_session).where(mine).order_by(_S.seen_at.desc())
            return [_session(row) for row in connection.execute(query)]

    def revoke(self, account: str, id: str) -> bool:
        """Ends one; False if there is none of that id."""
        return self._delete(_S.account == account, _S.id == id)

    def keep_only(self, account: str, id: str) -> None:
        """Ends all others, and lets this one outlive the change of password that it made."""
        self._delete(_S.account == account, _S.id != id)
        with self._database.write() as connection:
            mine = sa.and_(_S.account == account, _S.id == id)
            connection.execute(sa.update(web_session).where(mine).values(stamp=self._stamp(account)))

    def make_link(self, account: str) -> str:
        """A token that is good for one set-up profile, for a quarter of an hour."""
        token = secrets.token_urlsafe(24)
        now = self._now()
        with self._database.write() as connection:
            connection.execute(sa.delete(setup_link).where(setup_link.c.expires_at <= now))
            row = {"digest": _digest(token), "account": account, "expires_at": now + LINK}
            connection.execute(sa.insert(setup_link).values(row))
        return token

    def use_link(self, token: str) -> str | None:
        """The account of a set-up token, which is used up by this; None if it was before, or has expired."""
        mine = sa.and_(setup_link.c.digest == _digest(token), setup_link.c.expires_at > self._now())
        with self._database.write() as connection:
            account = connection.execute(sa.select(setup_link.c.account).where(mine)).scalar()
            used = connection.execute(sa.delete(setup_link).where(mine)).rowcount
        return account if used else None

    def _alive(self) -> sa.ColumnElement[bool]:
        now = self._now()
        return sa.and_(_S.seen_at > now - IDLE, _S.created_at > now - LONGEST)

    def _delete(self, *where: sa.ColumnElement[bool]) -> bool:
        with self._database.write() as connection:
            return connection.execute(sa.delete(web_session).where(*where)).rowcount > 0


def form_token(token: str) -> str:
    """What forms of a session carry; the session's own token cannot be told from it."""
    return hmac.digest(token.encode("utf-8", "replace"), b"form", hashlib.sha256).hex()[:32]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _session(row: sa.Row[tuple[object, ...]], token: str = "") -> WebSession:
    return WebSession(row.id, row.account, row.created_at, row.seen_at, row.peer_ip, row.agent, token)
