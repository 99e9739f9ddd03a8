"""Forwards that an account's owner sets: a copy of everything that is not junk to other addresses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.auth.accounts import Account
from mailguard.delivery.forward_settings import Allowed
from mailguard.model.address import Address, AddressError
from mailguard.state.database import Database
from mailguard.state.personal import forward, forward_consent

MOST = 5  # addresses
_FRESH = 3.0  # seconds until another worker's change is seen


class ForwardError(ValueError):
    """These addresses cannot be forwarded to; the text says why."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Where an account's mail goes on to; ``keep`` leaves a copy in its own mailbox."""

    targets: tuple[Address, ...] = ()
    keep: bool = True


class Forwards:
    """The forwards of all accounts, in the state database. Safe for threads.

    ``allowed`` says where mail may be forwarded to at all, ``is_local`` whether a domain is ours; with ``ask``
    nothing goes outside before its recipient has agreed.
    """

    def __init__(
        self,
        database: Database,
        allowed: Allowed,
        is_local: Callable[[str], bool],
        *,
        ask: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self.allowed = allowed
        self._is_local = is_local
        self._ask = ask
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, Forward] = {}
        self._agreed: frozenset[tuple[str, str]] = frozenset()
        self._read_at = float("-inf")

    def read(self, account: Account, lines: Iterable[str], *, keep: bool) -> Forward:
        """A forward from what somebody has typed, one address a line. Raises ForwardError."""
        targets: dict[str, Address] = {}
        for line in filter(None, (line.strip() for line in lines)):
            try:
                target = Address.parse(line)
            except AddressError as error:
                raise ForwardError(str(error)) from None
            if not target.domain or target.is_literal:
                raise ForwardError(f"{line} has no mail domain")
            if account.may_send_as(target):
                raise ForwardError(f"{target} is your own address")
            if not self._may(target):
                raise ForwardError(f"{target} is not an address of this server, and mail may not be forwarded outside")
            targets[target.key] = target
        if len(targets) > MOST:
            raise ForwardError(f"at most {MOST} addresses; these are {len(targets)}")
        return Forward(tuple(targets.values()), keep)

    def get(self, account: str) -> Forward | None:
        """The account's forward."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(forward).where(forward.c.account == account)).first()
        return _forward(row) if row else None

    def set(self, account: str, value: Forward) -> None:
        """Sets it; without targets there is none. Whoever is no longer among them must agree anew some other time."""
        c = forward_consent.c
        gone = sa.and_(c.account == account, c.target.not_in(list(map(str, value.targets))))
        with self._database.write(durable=True) as connection:
            connection.execute(sa.delete(forward).where(forward.c.account == account))
            connection.execute(sa.update(forward_consent).where(gone).values(agreed_at=0.0))
            if value.targets:
                lines = "\n".join(map(str, value.targets))
                connection.execute(sa.insert(forward).values(account=account, targets=lines, keep=value.keep))
        self._read_at = float("-inf")

    def active(self, account: str) -> Forward | None:
        """The forward to obey now. Costs nothing while nobody forwards."""
        now = self._now()
        with self._lock:
            if now - self._read_at >= _FRESH or now < self._read_at:
                with self._database.read() as connection:
                    rows = connection.execute(sa.select(forward)).all()
                    yes = connection.execute(_AGREED).all() if rows else ()
                self._agreed = frozenset((row.account, row.target) for row in yes)
                self._known = {row.account: _forward(row) for row in rows}
                self._read_at = now
            found, agreed = self._known.get(account), self._agreed
        if found is None:
            return None
        targets = tuple(
            target for target in found.targets
            if self._may(target) and ((account, str(target)) in agreed or not self.needs_consent(target))
        )  # fmt: skip
        return Forward(targets, found.keep) if targets else None

    def needs_consent(self, target: Address) -> bool:
        """Whether it must agree before anything is sent on to it."""
        return self._ask and not self._is_local(target.domain)

    def _may(self, target: Address) -> bool:
        return self.allowed == "anywhere" or (self.allowed == "here" and self._is_local(target.domain))


_AGREED = sa.select(forward_consent.c.account, forward_consent.c.target).where(forward_consent.c.agreed_at > 0)


def _forward(row: sa.Row[tuple[object, ...]]) -> Forward:
    return Forward(tuple(map(Address.parse, row.targets.splitlines())), row.keep)
