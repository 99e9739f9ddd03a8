"""What the server itself has to tell its postmaster: a short letter, queued like any other mail."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from email.header import Header
from email.utils import formatdate

from mailguard.delivery.queue import Queue
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message


class Notices:
    """Writes letters from ``hostname`` to one address; safe for threads."""

    def __init__(
        self, queue: Queue, hostname: str, to: Address, new_id: Callable[[], str], now: Callable[[], float] = time.time
    ) -> None:
        self._queue = queue
        self._hostname = hostname
        self._to = to
        self._new_id = new_id
        self._now = now

    def send(self, subject: str, lines: Sequence[str]) -> None:
        """Queues one letter with the null sender, so that nothing ever answers it. Raises OSError and
        sqlalchemy.exc.OperationalError as Queue.put does."""
        ident = self._new_id()
        message = letter(ident, self._hostname, str(self._to), subject, lines, self._now())
        envelope = Envelope(id=ident, mail_from=None, body_8bit=True)
        self._queue.put(envelope, message, [Recipient(self._to, frozenset({"NEVER"}))])


def letter(ident: str, hostname: str, to: str, subject: str, lines: Sequence[str], at: float) -> Message:
    """The letter as it will be delivered; ``lines`` are its text."""
    head = (
        f"From: mailguard on {hostname} <postmaster@{hostname}>",
        f"To: {to}",
        f"Subject: {Header(subject, 'utf-8' if not subject.isascii() else 'us-ascii', header_name='Subject').encode()}",
        f"Date: {formatdate(at, localtime=True)}",
        f"Message-ID: <{ident}@{hostname}>",
        "Auto-Submitted: auto-generated",  # RFC 3834 §5
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    )
    text = "".join(f"{line}\r\n" for line in (*head, "", *(" ".join(line.splitlines()) for line in lines)))
    return Message(text.encode("utf-8", "replace"))
