"""Models that were lost (damaged, gone, made for other features) are made anew: from what the journal says was taught,
and the mail that is still there.

A model that cannot be used is set aside as ``.old``; that file stays until its lessons have been learnt again, so that
a server stopped in between goes on at its next start.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .arrival import arrived, digest
from .journal import Journal
from .judge import Judge

_BREATH = 0.002  # seconds left to the server after each message


class Relearnt(NamedTuple):
    """How many lessons were learnt again, and how many are about mail that is gone."""

    again: int = 0
    gone: int = 0


class Relearning:
    """Learns again in a thread of its own; of several processes, one does it. ``stored`` gives an account's mail."""

    def __init__(
        self, judge: Judge, journal: Journal, stored: Callable[[str], Iterable[bytes]], hostname: str, log: Any
    ) -> None:
        self._judge = judge
        self._journal = journal
        self._stored = stored
        self._hostname = hostname
        self._log = log
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def lost(self) -> list[str]:
        """Accounts whose model is to be made anew, and ``""`` for the model of all."""
        accounts = self._journal.accounts()
        paths = {name: self._judge.path_of(name) for name in accounts}
        for path in paths.values():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".old").touch()
        if not self._judge.shared.counts[2] and self._journal.shared("", 0.0)[2]:
            self._judge.shared.path.with_suffix(".old").touch()
        paths[""] = self._judge.shared.path
        return [name for name, path in paths.items() if path.with_suffix(".old").exists()]

    def begin(self) -> bool:
        """Starts the thread where anything is lost; False while it is still at what was lost before."""
        if self._thread is not None and self._thread.is_alive():
            return False
        if self.lost():
            self._thread = threading.Thread(target=self._run, name="spamscore-relearning", daemon=True)
            self._thread.start()
        return True

    def stop(self) -> None:
        """Breaks off, to go on at the next start, and waits for the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _run(self) -> None:
        try:
            with _alone(self._judge.folder / "relearning.lock") as first:
                if first and (names := self.lost()):
                    found = self.relearn(names)
                    self._log.info("lost models were made anew", models=len(names), again=found.again, gone=found.gone)
        except Exception as error:
            self._log.warning("a lost model could not be made anew; the next start tries again", error=str(error))

    def relearn(self, names: list[str]) -> Relearnt:
        """Makes the models of these accounts (``""``: of all) anew."""
        for name in names:
            self._judge.clear(name)
        again = gone = 0
        for account in self._journal.accounts():
            own, shared = account in names, "" in names
            if own or shared:
                mail = self._arrived(account)
                more = learn_again(self._judge, self._journal, account, mail, own=own, shared=shared)
                again, gone = again + more.again, gone + more.gone
            if self._stop.is_set():
                return Relearnt(again, gone)
        for name in names:
            path = self._judge.path_of(name) if name else self._judge.shared.path
            path.with_suffix(".old").unlink(missing_ok=True)
        return Relearnt(again, gone)

    def _arrived(self, account: str) -> Iterator[bytes]:
        """Its mail as it arrived, until the server ends."""
        for stored in self._stored(account):
            if self._stop.wait(_BREATH):
                return
            yield arrived(stored, self._hostname)


def learn_again(
    judge: Judge, journal: Journal, account: str, messages: Iterable[bytes], *, own: bool = True, shared: bool = False
) -> Relearnt:
    """Teaches what the journal says of these messages, which are as they arrived: to the ``own`` model of an account,
    to that of all, or to both."""
    rows = {row.digest: row for row in journal.all(account) if own or row.shared}
    again = 0
    for raw in messages if rows else ():
        row = rows.pop(digest(raw), None)
        if row is None:
            continue
        seen = judge.look(raw)
        if own:
            judge.learn(judge.kept(seen, row.label, 0.0), account)
        if shared and row.shared:
            judge.learn(judge.kept(seen, row.label))
        again += 1
    return Relearnt(again, len(rows))


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether this process is the first to come; the others need not wait."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
