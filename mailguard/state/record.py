"""Verdict records: one row for every refused connection, refused recipient and message, and what came of it later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from mailguard.state.database import Database, metadata

verdict = sa.Table(
    "verdict",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("stage", sa.String(10), nullable=False),
    sa.Column("session", sa.String(64), nullable=False),
    sa.Column("peer_ip", sa.String(64), nullable=False),
    sa.Column("account", sa.String(320), nullable=False),
    sa.Column("mail_from", sa.String(320), nullable=False),
    sa.Column("author", sa.String(320), nullable=False),
    sa.Column("rcpt", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("message_id", sa.String(1000), nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("action", sa.String(10), nullable=False),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)
"""``data`` is JSON: facts, findings, effects weighed."""

verdict_event = sa.Table(
    "verdict_event",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("who", sa.String(320), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
"""What happened to a message later: stored, delivered, deferred, bounced, held, moved, released."""

_V, _E = verdict.c, verdict_event.c
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Happening:
    """One later event of a message."""

    at: float
    kind: str
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """One verdict as stored; ``data`` decoded."""

    id: str
    at: float
    stage: str
    session: str
    peer_ip: str
    account: str
    mail_from: str
    author: str
    rcpt: tuple[str, ...]
    subject: str
    message_id: str
    size: int
    action: str
    score: float
    decision: str
    place: str
    reply: str
    data: dict[str, Any]
    events: tuple[Happening, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; empty fields are not asked for. Each of ``words`` may stand in any address or in the subject;
    ``since`` and ``until`` are Unix times."""

    words: str = ""
    sender: str = ""
    recipient: str = ""
    subject: str = ""
    action: str = ""
    stage: str = ""
    since: float = 0.0
    until: float = 0.0
    limit: int = 50


def insert(connection: sa.Connection, rows: Sequence[Row], events: Sequence[Row]) -> None:
    """Writes a batch."""
    if rows:
        connection.execute(sa.insert(verdict), list(rows))
    if events:
        connection.execute(sa.insert(verdict_event), list(events))


def find(database: Database, name: str) -> list[Record]:
    """The records of a message or connection id, or of a Message-ID (with or without ``<>``), oldest first."""
    bare = name.strip().strip("<>")
    where = sa.or_(_V.id == bare, _V.message_id.in_([bare, f"<{bare}>"]), _V.session == bare)
    query = sa.select(verdict).where(where).order_by(_V.at, _V.seq).limit(1000)
    with database.read() as connection:
        records = [_record(row) for row in connection.execute(query)]
        return [_with_events(connection, record) for record in records]


def search(database: Database, wanted: Query) -> list[Record]:
    """The newest records that fit, newest first, without their events."""
    query = sa.select(verdict).order_by(_V.at.desc()).limit(wanted.limit)
    for word in wanted.words.split():
        anywhere = (_V.mail_from, _V.author, _V.rcpt, _V.subject)
        query = query.where(sa.or_(*(_contains(column, word) for column in anywhere)))
    if wanted.sender:
        query = query.where(sa.or_(_contains(_V.mail_from, wanted.sender), _contains(_V.author, wanted.sender)))
    if wanted.recipient:
        query = query.where(_contains(_V.rcpt, wanted.recipient))
    for word in wanted.subject.split():
        query = query.where(_contains(_V.subject, word))
    if wanted.action:
        query = query.where(_V.action == wanted.action)
    if wanted.stage:
        query = query.where(_V.stage == wanted.stage)
    if wanted.since:
        query = query.where(_V.at >= wanted.since)
    if wanted.until:
        query = query.where(_V.at < wanted.until)
    with database.read() as connection:
        return [_record(row) for row in connection.execute(query)]


def since(database: Database, at: float) -> Iterator[Record]:
    """All records from this Unix time on, oldest first; read in batches."""
    query = sa.select(verdict).where(_V.at >= at).order_by(_V.at, _V.seq)
    with database.read() as connection:
        for row in connection.execution_options(yield_per=500).execute(query):
            yield _record(row)


def prune(connection: sa.Connection, before: float, keep: int) -> int:
    """Removes records and events older than a Unix time, and all but the newest ``keep``; returns how many."""
    connection.execute(sa.delete(verdict_event).where(_E.at < before))
    gone = connection.execute(sa.delete(verdict).where(_V.at < before)).rowcount
    last = connection.execute(sa.select(_V.seq).order_by(_V.seq.desc()).offset(keep).limit(1)).scalar()
    if last is not None:
        gone += connection.execute(sa.delete(verdict).where(_V.seq <= last)).rowcount
    return gone


def _contains(column: sa.ColumnElement[str], text: str) -> sa.ColumnElement[bool]:
    return sa.func.lower(column).contains(text.lower(), autoescape=True)


def from_row(row: Row) -> Record:
    """A record from a row; its ``data`` may still be a mapping where it was never written."""
    values = {key: value for key, value in row.items() if key != "seq"}
    text = values["data"] if isinstance(values["data"], str) else json.dumps(values["data"], default=str)
    return Record(**{**values, "rcpt": tuple(values["rcpt"].split()), "data": json.loads(text)})


def _record(row: Any) -> Record:
    return from_row(dict(row._mapping))


def _with_events(connection: sa.Connection, record: Record) -> Record:
    if record.stage != "message":
        return record
    query = sa.select(_E.at, _E.kind, _E.who, _E.text).where(_E.id == record.id).order_by(_E.at, _E.seq)
    events = tuple(Happening(*row) for row in connection.execute(query))
    fields = {name: getattr(record, name) for name in record.__slots__}
    return Record(**{**fields, "events": events})
