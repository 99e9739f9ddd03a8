"""Guessing made slow and then impossible: distinct wrong passwords are counted, bans expire and say why."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.auth.settings import AuthSettings
from mailguard.state.credential import auth_failure, ban, server_secret
from mailguard.state.database import Database


@dataclass(frozen=True, slots=True)
class Ban:
    """Nobody on ``network`` may sign in (to ``account``, if not ``""``) before ``until``, a Unix time."""

    network: str
    account: str
    until: float
    since: float
    reason: str


def network_of(peer_ip: str) -> str:
    """What failures are counted by: the address, for IPv6 its /64; ``"local"`` where there is no address."""
    try:
        address = ipaddress.ip_address(peer_ip.partition("%")[0])
    except ValueError:
        return "local"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Throttle:
    """Counts failures and bans in the state database, so that all workers agree. Safe for threads."""

    def __init__(self, database: Database, settings: AuthSettings, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self.settings = settings
        self._now = now
        self._allow = [ipaddress.ip_network(text) for text in settings.allow]
        self._key = b""

    def allowed(self, peer_ip: str) -> bool:
        """Whether this address is on the allow list, which always wins."""
        try:
            address = ipaddress.ip_address(peer_ip.partition("%")[0])
        except ValueError:
            return True  # a Unix socket
        return any(address in network for network in self._allow)

    def banned(self, peer_ip: str, account: str = "") -> Ban | None:
        """The ban that stands in this address's way."""
        if self.allowed(peer_ip):
            return None
        query = sa.select(ban).where(
            ban.c.network == network_of(peer_ip), ban.c.account.in_(["", account]), ban.c.until > self._now()
        )
        with self._database.read() as connection:
            row = connection.execute(query.order_by(ban.c.until.desc())).first()
        return Ban(row.network, row.account, row.until, row.since, row.reason) if row else None

    def failed(self, peer_ip: str, account: str, password: str) -> Ban | None:
        """Counts a wrong password (or, for SCRAM, whatever tells attempts apart); the ban that it leads to."""
        if self.allowed(peer_ip):
            return None
        network, now = network_of(peer_ip), self._now()
        key = {"network": network, "account": account[:320]}
        digest = self._digest(account, password)
        with self._database.write() as connection:
            mine = sa.and_(*(auth_failure.c[name] == value for name, value in key.items()))
            again = connection.execute(
                sa.update(auth_failure).where(mine, auth_failure.c.digest == digest).values(at=now)
            )
            if not again.rowcount:
                connection.execute(sa.insert(auth_failure).values(**key, digest=digest, at=now))
            recent = auth_failure.c.at > now - self.settings.window.total_seconds()
            count = sa.select(sa.func.count()).select_from(auth_failure)
            for_account = connection.execute(count.where(mine, recent)).scalar_one()
            for_network = connection.execute(count.where(auth_failure.c.network == network, recent)).scalar_one()
            if for_network >= self.settings.network_failures:
                return self._ban(connection, network, "", f"{for_network} distinct wrong passwords")
            if for_account >= self.settings.account_failures:
                reason = f"{for_account} distinct wrong passwords for {account}"
                return self._ban(connection, network, account, reason)
        return None

    def succeeded(self, peer_ip: str, account: str) -> None:
        """Forgets the failures of this account from this network."""
        if self.allowed(peer_ip):
            return
        mine = (auth_failure.c.network == network_of(peer_ip)) & (auth_failure.c.account == account)
        with self._database.read() as connection:
            if connection.execute(sa.select(auth_failure.c.at).where(mine).limit(1)).first() is None:
                return
        with self._database.write() as connection:
            connection.execute(sa.delete(auth_failure).where(mine))

    def ban(self, network: str, seconds: float, reason: str, account: str = "") -> Ban:
        """Bans by hand, or for another reason than passwords."""
        with self._database.write() as connection:
            return self._ban(connection, network_of(network), account, reason, seconds)

    def bans(self) -> list[Ban]:
        """Every ban that stands, the newest first."""
        query = sa.select(ban).where(ban.c.until > self._now()).order_by(ban.c.since.desc())
        with self._database.read() as connection:
            return [Ban(r.network, r.account, r.until, r.since, r.reason) for r in connection.execute(query)]

    def lift(self, network: str) -> int:
        """Ends the bans of an address or network and forgets its failures; returns how many bans there were."""
        key = network if "/" in network else network_of(network)
        with self._database.write() as connection:
            connection.execute(sa.delete(auth_failure).where(auth_failure.c.network == key))
            return connection.execute(sa.delete(ban).where(ban.c.network == key)).rowcount

    def prune(self) -> None:
        """Removes what has expired."""
        now = self._now()
        with self._database.write() as connection:
            connection.execute(sa.delete(ban).where(ban.c.until <= now))
            old = auth_failure.c.at <= now - self.settings.window.total_seconds()
            connection.execute(sa.delete(auth_failure).where(old))

    def _ban(
        self, connection: sa.Connection, network: str, account: str, reason: str, seconds: float | None = None
    ) -> Ban:
        now = self._now()
        made = Ban(network, account, now + (seconds or self.settings.ban.total_seconds()), now, reason)
        mine = (ban.c.network == network) & (ban.c.account == account)
        connection.execute(sa.delete(ban).where(mine))
        connection.execute(
            sa.insert(ban).values(network=network, account=account, until=made.until, since=now, reason=reason)
        )
        return made

    def _digest(self, account: str, password: str) -> bytes:
        self._key = self._key or server_secret(self._database, "auth-failure")
        return hmac.digest(self._key, f"{account}\0{password}".encode("utf-8", "replace"), hashlib.sha256)[:16]
