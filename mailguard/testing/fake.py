"""Stand-ins for what tests must not touch: the DNS, the clock, the state database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from mailguard.net.resolver import Answer, DnsTemporaryError


class FakeClock:
    """A clock that stands until it is moved; call it for the Unix time."""

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def tick(self, seconds: float) -> float:
        """Moves on; returns the new time."""
        self.at += seconds
        return self.at


class FakeResolver:
    """DNS out of a mapping ``{"name TYPE": record | [records] | exception}``, for instance::

        {"example.net TXT": "v=spf1 -all", "example.net MX": ["10 mx.example.net"], "slow.example A": TimeoutError}

    A name of which any type is given exists; others are NXDOMAIN. An exception (class or instance) as value
    raises DnsTemporaryError; so does the name's ``"name *"`` entry for every type. ``asked`` lists the questions.
    """

    def __init__(self, zone: Mapping[str, Any] | None = None, *, authentic: bool = False) -> None:
        self._records: dict[tuple[str, str], Any] = {}
        self._names: set[str] = set()
        self._authentic = authentic
        self.asked: list[tuple[str, str]] = []
        for key, value in (zone or {}).items():
            self.add(key, value)

    def add(self, key: str, value: Any) -> None:
        """Sets the records of ``"name TYPE"``."""
        name, _, rdtype = key.partition(" ")
        name = name.lower().rstrip(".")
        self._records[name, rdtype.strip().upper() or "A"] = value
        self._names.add(name)

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        """See ``mailguard.net.resolver.Resolver.query``; follows CNAMEs inside the mapping."""
        name = name.lower().rstrip(".")
        self.asked.append((name, rdtype))
        for _ in range(10):
            value = self._records.get((name, rdtype), self._records.get((name, "*")))
            alias = self._records.get((name, "CNAME"))
            if value is not None or alias is None:
                break
            name = (alias if isinstance(alias, str) else alias[0]).lower().rstrip(".")
        if isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException)):
            raise DnsTemporaryError(f"{name} {rdtype}: {value}")
        if value is None:
            return Answer((), exists=self._exists(name), ttl=60)
        records = [value] if isinstance(value, str) else list(cast("Sequence[str]", value))
        return Answer(tuple(records), ttl=300, authentic=self._authentic)

    def at_hand(self, name: str, rdtype: str) -> Answer:
        """The same: nothing here needs to be waited for."""
        return self.query(name, rdtype)

    def _exists(self, name: str) -> bool:
        # An empty non-terminal exists, too (RFC 8020).
        return any(known == name or known.endswith("." + name) for known in self._names)


class MemoryStore:
    """A plugin's key-value store in memory; values pass through JSON as they do in the real one."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or FakeClock()
        self._rows: dict[str, tuple[str, float | None]] = {}

    def get(self, key: str) -> Any:
        """See ``mailguard.plugin.Store.get``."""
        text, until = self._rows.get(key, ("null", None))
        return None if until is not None and until <= self._now() else json.loads(text)

    def get_all(self, keys: Sequence[str]) -> dict[str, Any]:
        """See ``mailguard.plugin.Store.get_all``."""
        return {key: value for key in keys if (value := self.get(key)) is not None}

    def put_all(self, values: Mapping[str, Any], *, ttl: float | None = None) -> None:
        """See ``mailguard.plugin.Store.put_all``."""
        for key, value in values.items():
            self.put(key, value, ttl=ttl)

    def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """See ``mailguard.plugin.Store.put``."""
        self._rows[key] = (json.dumps(value), None if ttl is None else self._now() + ttl)

    def put_if_absent(self, key: str, value: Any, *, ttl: float | None = None) -> Any:
        """See ``mailguard.plugin.Store.put_if_absent``."""
        standing = self.get(key)
        if standing is None:
            self.put(key, value, ttl=ttl)
        return value if standing is None else standing

    def delete(self, key: str) -> None:
        """See ``mailguard.plugin.Store.delete``."""
        self._rows.pop(key, None)

    def items(self, prefix: str = "") -> list[tuple[str, Any]]:
        """See ``mailguard.plugin.Store.items``."""
        pairs = ((key, self.get(key)) for key in sorted(self._rows) if key.startswith(prefix))
        return [(key, value) for key, value in pairs if value is not None]
