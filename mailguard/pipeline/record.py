"""Verdict records on their way to the state database: batched, bounded, never in a session's way."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from mailguard.model.event import Bounced, Deferred, Delivered, Event, Held, Moved
from mailguard.pipeline.decide import Applied, Outcome
from mailguard.pipeline.facts import Facts
from mailguard.pipeline.finding import Finding
from mailguard.state import history, kv, record
from mailguard.state.database import Database
from mailguard.state.history import Meeting
from mailguard.state.record import Row

_JSON = json.JSONEncoder(separators=(",", ":"), default=str).encode
_AT_ONCE, _REST = 10, 0.001  # rows made without a rest, and its seconds
_MAX_REASON, _MAX_DETAIL = 500, 2000  # characters kept of what a plugin says

Later = Callable[[sa.Connection], None]


class Records(Protocol):
    """What the engine asks of a recorder."""

    def verdict(self, row: Row | Callable[[], Row]) -> None:
        """One decision."""

    def note(self, id: str, kind: str, who: str, text: str) -> None:
        """Something happened to a message."""

    def later(self, job: Later) -> None:
        """Something to write with the next batch."""

    def met(self, meetings: Iterable[Meeting]) -> None:
        """Correspondents were written to, or good mail came from them."""

    def event(self, event: Event) -> None:
        """An event, of which a message's story may be a part."""


class Collector:
    """Keeps the rows it is given and writes nothing: for trials."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def verdict(self, row: Row | Callable[[], Row]) -> None:
        """See Records."""
        self.rows.append(row if isinstance(row, dict) else row())

    def note(self, id: str, kind: str, who: str, text: str) -> None:
        """Dropped."""

    def later(self, job: Later) -> None:
        """Dropped."""

    def met(self, meetings: Iterable[Meeting]) -> None:
        """Dropped."""

    def event(self, event: Event) -> None:
        """Dropped."""


class Recorder:
    """Buffers rows and writes them from a thread of its own every ``interval`` seconds, and at ``stop``.

    At most ``capacity`` rows wait; when the database stays away longer, the oldest are given up and counted in
    ``lost``. The thread starts with the first row, so an instance may be built before the fork.
    """

    def __init__(
        self,
        database: Database,
        *,
        interval: float = 0.2,
        capacity: int = 20_000,
        keep_days: int = 30,
        keep_records: int = 200_000,
        now: Callable[[], float] = time.time,
        log: Any = None,
    ) -> None:
        self._database = database
        self._interval = interval
        self._rows: deque[tuple[str, Any]] = deque(maxlen=capacity)
        self._keep = (keep_days * 86_400.0, keep_records)
        self._now = now
        self._log = log
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()
        self._pruned_at = 0.0
        self.lost = 0

    def verdict(self, row: Row | Callable[[], Row]) -> None:
        """One row of the table ``verdict``, or what makes it when it is written; its ``data`` may be a mapping."""
        self._put(("verdict", row))

    def note(self, id: str, kind: str, who: str, text: str) -> None:
        """Something happened to a message."""
        row = {"id": id, "at": self._now(), "kind": kind, "who": who[:320], "text": text}
        self._put(("event", row))

    def later(self, job: Later) -> None:
        """Runs ``job(connection)`` in the next batch's transaction."""
        self._put(("job", job))

    def met(self, meetings: Iterable[Meeting]) -> None:
        """See Records."""
        for meeting in meetings:
            self._put(("meeting", meeting))

    def event(self, event: Event) -> None:
        """Keeps what belongs to a message's story, ignores the rest."""
        if told := _story(event):
            self._put(("event", {"id": event.id, "at": event.at, **told}))

    def flush(self) -> None:
        """Writes all that waits, now."""
        with self._lock:
            batch = [self._rows.popleft() for _ in range(len(self._rows))]
            if not batch:
                return
            batch = list(self._encoded(batch))
            try:
                with self._database.write() as connection:
                    self._write(connection, batch)
            except sa.exc.SQLAlchemyError as error:
                if self._log is not None:
                    self._log.error("verdict records wait: the state database cannot be written", error=str(error))
                self.lost += max(0, len(batch) + len(self._rows) - (self._rows.maxlen or 0))
                self._rows.extendleft(reversed(batch))

    def stop(self) -> None:
        """Writes all that waits and ends the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None
        self.flush()

    def prune(self) -> int:
        """Removes records past their time, expired plugin values and forgotten correspondents."""
        now = self._now()
        with self._database.write() as connection:
            kv.prune(connection, now)
            history.prune(connection, now)
            return record.prune(connection, now - self._keep[0], self._keep[1])

    def _put(self, item: tuple[str, Any]) -> None:
        if len(self._rows) == self._rows.maxlen:
            self.lost += 1
        self._rows.append(item)
        if self._thread is None and not self._stopping:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="verdict-recorder", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        self._pruned_at = self._now()
        while not self._stopping:
            self._wake.wait(self._interval)
            self.flush()
            if self._now() - self._pruned_at > 3600:
                self._pruned_at = self._now()
                self.prune()

    def _encoded(self, batch: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """With rows ready to be written; rests now and then while it makes them, so that sessions need not wait for
        Python's lock. What is ready already waits for nothing: thousands of events may come at once."""
        made = 0
        for kind, item in batch:
            if kind == "verdict":
                item = _encode(item)
                made += 1
                if made % _AT_ONCE == 0 and not self._stopping:
                    time.sleep(_REST)
            yield kind, item

    def _write(self, connection: sa.Connection, batch: Sequence[tuple[str, Any]]) -> None:
        kinds = "verdict", "event", "meeting", "job"
        verdicts, events, meetings, jobs = ([item for kind, item in batch if kind == wanted] for wanted in kinds)
        record.insert(connection, verdicts, events)
        history.note(connection, meetings)
        for job in jobs:
            job(connection)


def verdict_row(
    *,
    id: str,
    session_id: str,
    stage: str,
    facts: Facts,
    outcome: Outcome,
    reply: str,
    findings: Mapping[str, Finding],
    times: Mapping[str, float],
) -> Row:
    """The row for one decision; ``times`` are the milliseconds that each check took."""
    header = facts.get("header", {})
    return {
        "id": id,
        "at": facts.get("time", 0.0),
        "stage": stage,
        "session": session_id,
        "peer_ip": facts.get("client.ip", ""),
        "account": facts.get("user", ""),
        "mail_from": facts.get("mail_from", ""),
        "author": facts.get("from", ""),
        "rcpt": " ".join(facts.get("rcpt", ())),
        "subject": facts.get("subject", ""),
        "message_id": header.get("message-id", "").strip(),
        "size": facts.get("size", 0),
        "action": outcome.action.value,
        "score": outcome.score,
        "decision": outcome.decision.source,
        "place": outcome.decision.where,
        "reply": reply,
        "data": {
            "facts": facts,
            "findings": {name: _finding(f, times.get(name)) for name, f in findings.items()},
            "times": {name: round(ms, 2) for name, ms in times.items() if name not in findings},
            "applied": [_applied(a) for a in outcome.applied],
            "would": outcome.would.value,
            "limits": dict(outcome.limits),
            "notes": outcome.notes,
            "per_recipient": {rcpt: action.value for rcpt, action in outcome.per_recipient.items()},
        },
    }


def _finding(finding: Finding, ms: float | None) -> Row:
    told: Row = {
        "word": finding.word,
        "reason": finding.reason[:_MAX_REASON],
        "detail": finding.detail[:_MAX_DETAIL],
        "points": finding.points,
        "reasons": [[points, str(text)[:_MAX_REASON]] for points, text in finding.reasons[:20]],
    }
    told["ms"] = None if ms is None else round(ms, 2)
    return {key: value for key, value in told.items() if value not in ("", None, [])}


def _applied(applied: Applied) -> list[Any]:
    return [applied.source, applied.word, applied.effect.text, applied.points, applied.effect.where, applied.observed]


def _encode(row: Row | Callable[[], Row]) -> Row:
    row = row if isinstance(row, dict) else row()
    if isinstance(row["data"], str):
        return row
    told = {key: _clean(value) for key, value in row.items() if value.__class__ is str}
    return {**row, **told, "data": _JSON(row["data"])}


def _clean(text: str) -> str:
    # The database takes neither lone surrogates nor NUL.
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _story(event: Event) -> Row | None:
    match event:
        case Delivered():
            return {"kind": "delivered", "who": event.recipient, "text": event.where}
        case Deferred():
            return {"kind": "deferred", "who": event.recipient, "text": str(event.reply)}
        case Bounced():
            return {"kind": "bounced", "who": event.recipient, "text": str(event.reply)}
        case Held():
            return {"kind": "held", "who": "", "text": event.reason}
        case Moved():
            return {"kind": "moved", "who": event.account, "text": f"{event.source} to {event.target}"}
        case _:
            return None
