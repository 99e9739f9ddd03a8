"""The mail of all accounts of one process: stores opened when they are needed, the longest unused closed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mailguard.store.account import AccountStore
from mailguard.store.watch import Bell

_OPEN = 200


class MailStore:
    """Opens account stores. ``index_dir`` is node-local; ``host`` goes into file names. Safe for threads."""

    def __init__(self, index_dir: Path, host: str, log: Any = None) -> None:
        self._index_dir = index_dir
        self._host = host
        self._log = log
        self.bell = Bell(log)
        self._lock = threading.Lock()
        self._open: OrderedDict[str, AccountStore] = OrderedDict()

    def open(self, key: str, maildir: Path) -> AccountStore:
        """The store of the account with this key, whose INBOX is ``maildir``. Raises OSError."""
        with self._lock:
            found = self._open.get(key)
            if found is None:
                index = self._index_dir / f"{quote(key, safe='@')}.db"
                found = AccountStore(maildir, index, host=self._host, bell=self.bell, log=self._log)
                self._open[key] = found
                if len(self._open) > _OPEN:
                    self._open.popitem(last=False)  # closed once nobody uses it any more
            self._open.move_to_end(key)
            return found
