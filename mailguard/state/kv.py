"""A small key-value store for plugins in the state database, one namespace each, shared by all workers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from mailguard.state.database import Database, metadata

plugin_value = sa.Table(
    "plugin_value",
    metadata,
    sa.Column("plugin", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(512), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Float, index=True),
)
"""JSON values; ``expires_at`` is a Unix time or null."""

_T = plugin_value.c
_LIVE = sa.select(_T.value).where(
    _T.plugin == sa.bindparam("plugin"),
    _T.key == sa.bindparam("key"),
    sa.or_(_T.expires_at.is_(None), _T.expires_at > sa.bindparam("now")),
)
_MOST = 100  # keys asked for or removed at once
MAX_KEY = 512  # characters
MAX_VALUE = 65_536  # characters of JSON


class KeyValueStore:
    """The store of one plugin; see ``mailguard.plugin.Store``. Raises ValueError for a key over 512 characters or a
    value over 64 KiB of JSON, sqlalchemy.exc.OperationalError as Database does."""

    def __init__(self, database: Database, plugin: str, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._plugin = plugin
        self._now = now

    def get(self, key: str) -> Any:
        """The JSON value, None if absent or expired."""
        row = self._database.lookup(_LIVE, plugin=self._plugin, key=key, now=self._now())
        return None if row is None else json.loads(row[0])

    def get_all(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values of those of these keys that are there."""
        found: dict[str, Any] = {}
        for at in range(0, len(keys), _MOST):
            some = {f"key{n}": key for n, key in enumerate(keys[at : at + _MOST])}
            rows = self._database.lookup_all(_live(len(some)), plugin=self._plugin, now=self._now(), **some)
            found.update((key, json.loads(text)) for key, text in rows)
        return found

    def put_all(self, values: Mapping[str, Any], *, ttl: float | None = None) -> None:
        """Sets several JSON values in one transaction, each for ``ttl`` seconds if given."""
        prepared = {key: self._prepare(key, value, ttl) for key, value in values.items()}
        rows = [
            {"plugin": self._plugin, "key": key, "value": text, "expires_at": until}
            for key, (text, until) in prepared.items()
        ]
        if not rows:
            return
        with self._database.write() as connection:
            for at in range(0, len(rows), _MOST):
                keys = [row["key"] for row in rows[at : at + _MOST]]
                connection.execute(sa.delete(plugin_value).where(_T.plugin == self._plugin, _T.key.in_(keys)))
            connection.execute(sa.insert(plugin_value), rows)

    def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Sets a JSON value, for ``ttl`` seconds if given."""
        text, until = self._prepare(key, value, ttl)
        with self._database.write() as connection:
            self._set(connection, key, text, until)

    def put_if_absent(self, key: str, value: Any, *, ttl: float | None = None) -> Any:
        """Sets the value unless one is there; returns the value that now stands."""
        standing = self.get(key)  # mostly there: no writer lock then
        if standing is not None:
            return standing
        text, until = self._prepare(key, value, ttl)
        with self._database.write() as connection:
            standing = self._get(connection, key)
            if standing is None:
                self._set(connection, key, text, until)
        return value if standing is None else standing

    def delete(self, key: str) -> None:
        """Removes the key, if it is there."""
        with self._database.write() as connection:
            connection.execute(sa.delete(plugin_value).where(self._is(key)))

    def items(self, prefix: str = "") -> list[tuple[str, Any]]:
        """All live pairs whose key starts so, in order of key."""
        query = (
            sa.select(_T.key, _T.value)
            .where(_T.plugin == self._plugin, _T.key.startswith(prefix, autoescape=True), self._live())
            .order_by(_T.key)
        )
        with self._database.read() as connection:
            return [(key, json.loads(value)) for key, value in connection.execute(query)]

    def _is(self, key: str) -> sa.ColumnElement[bool]:
        return sa.and_(_T.plugin == self._plugin, _T.key == key)

    def _live(self) -> sa.ColumnElement[bool]:
        return sa.or_(_T.expires_at.is_(None), _T.expires_at > self._now())

    def _get(self, connection: sa.Connection, key: str) -> Any:
        text = connection.execute(sa.select(_T.value).where(self._is(key), self._live())).scalar()
        return None if text is None else json.loads(text)

    def _set(self, connection: sa.Connection, key: str, text: str, until: float | None) -> None:
        values = {"value": text, "expires_at": until}
        if not connection.execute(sa.update(plugin_value).where(self._is(key)).values(values)).rowcount:
            connection.execute(sa.insert(plugin_value).values(plugin=self._plugin, key=key, **values))

    def _prepare(self, key: str, value: Any, ttl: float | None) -> tuple[str, float | None]:
        text = json.dumps(value)
        if len(key) > MAX_KEY or len(text) > MAX_VALUE:
            raise ValueError(f"a key may have {MAX_KEY} characters and a value {MAX_VALUE} of JSON")
        return text, None if ttl is None else self._now() + ttl


@cache
def _live(count: int) -> sa.Select[Any]:
    """The live ones of so many keys."""
    keys: list[sa.BindParameter[str]] = [sa.bindparam(f"key{n}") for n in range(count)]
    live = sa.or_(_T.expires_at.is_(None), _T.expires_at > sa.bindparam("now"))
    return sa.select(_T.key, _T.value).where(_T.plugin == sa.bindparam("plugin"), _T.key.in_(keys), live)


class DryStore:
    """A store over another one, or over nothing, whose changes stay in memory: for trials."""

    def __init__(self, below: KeyValueStore | None = None) -> None:
        self._below = below
        self._changed: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """The JSON value, None if absent."""
        if key in self._changed:
            return self._changed[key]
        return self._below.get(key) if self._below else None

    def get_all(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values of those of these keys that are there."""
        return {key: value for key in keys if (value := self.get(key)) is not None}

    def put_all(self, values: Mapping[str, Any], *, ttl: float | None = None) -> None:
        """Sets several values for as long as the object lives."""
        for key, value in values.items():
            self.put(key, value)

    def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Sets a value for as long as the object lives."""
        self._changed[key] = json.loads(json.dumps(value))

    def put_if_absent(self, key: str, value: Any, *, ttl: float | None = None) -> Any:
        """Sets the value unless one is there; returns the value that now stands."""
        standing = self.get(key)
        if standing is None:
            self.put(key, value)
        return value if standing is None else standing

    def delete(self, key: str) -> None:
        """Hides the key."""
        self._changed[key] = None

    def items(self, prefix: str = "") -> list[tuple[str, Any]]:
        """All pairs whose key starts so, in order of key."""
        pairs = dict(self._below.items(prefix)) if self._below else {}
        pairs |= {key: value for key, value in self._changed.items() if key.startswith(prefix)}
        return sorted((key, value) for key, value in pairs.items() if value is not None)


def prune(connection: sa.Connection, now: float) -> int:
    """Removes what has expired, of all plugins; returns how many."""
    return connection.execute(sa.delete(plugin_value).where(_T.expires_at <= now)).rowcount
