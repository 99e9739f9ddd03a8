"""Events on their way: a line in the log at once; plugins and records are told on a thread of their own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from mailguard.model.event import Accepted, Bounced, Deferred, Delivered, Event, PluginFault, Refused, SignedIn

_CAPACITY = 50_000
_PAUSE = 0.05  # seconds
_NAMES = 500  # characters of recipients in one line


class Bus:
    """Call it with an event. Made before the fork; ``start`` in the worker. Safe for threads."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.observers: tuple[Callable[[Event], None], ...] = ()
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread that tells the observers."""
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        self._write(event)
        if self._queue.qsize() < _CAPACITY:
            self._queue.put(event)

    def stop(self) -> None:
        """Tells what is still to be told, then ends the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(5)

    def _run(self) -> None:
        while (event := self._next()) is not None:
            for observer in self.observers:
                try:
                    observer(event)
                except Exception as error:
                    self._log.error("an observer failed", exc_info=error)

    def _next(self) -> Event | None:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            # Once in a while, not for each event: a thread that is woken takes time from those who serve clients.
            time.sleep(_PAUSE)
            return self._queue.get()

    def _write(self, event: Event) -> None:
        match event:
            case Accepted():
                who = {"user": event.user, "from": event.mail_from, "to": ", ".join(event.recipients)[:_NAMES]}
                self._log.info("accepted", id=event.id, **who, size=event.size)
            case Refused():
                who = {"from": event.mail_from, "to": event.rcpt_to, "peer": event.peer_ip}
                self._log.info(f"refused at {event.stage}", id=event.id, **who, reply=str(event.reply))
            case Delivered():
                self._log.info("delivered", id=event.id, to=event.recipient, where=event.where)
            case Deferred():
                self._log.info("deferred", id=event.id, to=event.recipient, reply=str(event.reply))
            case Bounced():
                self._log.info("bounced", id=event.id, to=event.recipient, reply=str(event.reply))
            case SignedIn(ok=True):
                self._log.info("signed in", account=event.account, protocol=event.protocol, peer=event.peer_ip)
            case SignedIn():
                who = {"account": event.account, "protocol": event.protocol, "peer": event.peer_ip}
                self._log.warning("sign-in failed", **who, reason=event.reason)
            case PluginFault():
                pass  # the engine has said so
            case _:
                self._log.info(type(event).__name__.lower(), id=event.id)
