"""The mail of all accounts of one process: stores opened when they are needed, the longest unused closed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mailguard.store.account import AccountStore
from mailguard.store.announcer import Announcer
from mailguard.store.quota import Limits
from mailguard.store.roster import Rosters
from mailguard.store.settings import StoreSettings
from mailguard.store.watch import Bell

_DELAY = 0.1  # seconds from a delivery to its row in the index


class Owner(NamedTuple):
    """Whose mail: the account's key, the Maildir of its INBOX, and what it may hold; ``apart`` says that each of those
    who share it has seen what he has seen."""

    key: str
    maildir: Path
    limits: Limits | None = None
    apart: bool = False


class MailStore:
    """Opens account stores. ``index_dir`` is node-local; ``host`` goes into file names. Safe for threads."""

    def __init__(
        self, index_dir: Path, host: str, log: Any = None, settings: StoreSettings | None = None, *, cache: int = 200
    ) -> None:
        self._index_dir = index_dir
        self._host = host
        self._log = log
        self._settings = settings or StoreSettings()
        self._cache = cache
        self.bell = Bell(log)
        self._announcer = Announcer(log, delay=_DELAY)
        self._rosters = Rosters()
        self._lock = threading.Lock()
        self._open: OrderedDict[str, AccountStore] = OrderedDict()

    def open(
        self, key: str, maildir: Path, limits: Limits | None = None, shared: Mapping[str, Owner] | None = None
    ) -> AccountStore:
        """The store of the account with this key, whose INBOX is ``maildir``; ``shared`` are the accounts shared with
        it, by address. Raises OSError."""
        found = self._account(Owner(key, maildir, limits))
        if shared or found.shares.accounts:
            owners = (shared or {}).items()
            found.shares.accounts = {label: self._account(each) for label, each in owners}
            found.shares.apart = frozenset(label for label, each in owners if each.apart)
            found.shares.member = key
        return found

    def _account(self, owner: Owner) -> AccountStore:
        with self._lock:
            found = self._open.get(owner.key)
            if found is None:
                found = self._made(owner.key, owner.maildir)
                self._open[owner.key] = found
                if len(self._open) > self._cache:
                    self._open.popitem(last=False)  # closed once nobody uses it any more
            self._open.move_to_end(owner.key)
            if owner.limits is not None:
                found.limits = owner.limits
            return found

    def _made(self, key: str, maildir: Path) -> AccountStore:
        return AccountStore(
            maildir,
            self._index_dir / f"{quote(key, safe='@')}.db",
            host=self._host,
            bell=self.bell,
            announcer=self._announcer,
            rosters=self._rosters,
            log=self._log,
            keeps_text=self._settings.body_search,
            grace=self._settings.expunge_grace.total_seconds(),
        )
