"""What a plugin says of itself and what it is handed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from mailguard.model.event import Event
from mailguard.net.resolver import Resolver

if TYPE_CHECKING:
    import structlog


class Options(BaseModel):
    """Base of a plugin's options; unknown keys are errors with a suggestion."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What a plugin is.

    ``words`` maps each word it may find to the action it has where the policy says nothing, written as in the
    policy file: ``accept``, ``score 1.5``, ``junk``, ``quarantine``, ``defer``, ``reject``, ``discard``. The word
    ``error`` is every plugin's (it raised or missed its deadline) and defaults to ``accept``. ``options`` is the
    model of its options. ``after`` names plugins whose findings it reads. ``network`` says that it mostly waits
    for the network, so that it runs beside others of its stage. ``quick`` promises that it only computes, for
    milliseconds, and never waits: it is then called without a thread of its own, its deadline checked afterwards.
    ``repeatable`` promises that a check is quick but for what it asks ``ctx.dns``, changes nothing, and may be called
    again: it is called at once, and when what it missed has been asked for; only after several rounds on a thread.
    ``events`` are the kinds of event that ``observe`` wants; it is told of all where none is named.
    ``skip_if`` is the condition under which it need not run, where the policy gives none of its own; names of
    checks that the policy does not have read as ``"none"``.
    """

    name: str
    words: Mapping[str, str]
    options: type[Options] = Options
    after: tuple[str, ...] = ()
    network: bool = False
    quick: bool = False
    repeatable: bool = False
    events: tuple[type[Event], ...] = ()
    skip_if: str = ""
    summary: str = ""
    explain: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """A small durable key-value store in the state database, one namespace per plugin, shared by all workers."""

    def get(self, key: str) -> Any:
        """The JSON value, None if absent or expired."""

    def get_all(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values of those of these keys that are there, by one question to the database."""

    def put_all(self, values: Mapping[str, Any], *, ttl: float | None = None) -> None:
        """Sets several values in one transaction, each for ``ttl`` seconds if given."""

    def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Sets a JSON value, for ``ttl`` seconds if given."""

    def put_if_absent(self, key: str, value: Any, *, ttl: float | None = None) -> Any:
        """Sets the value unless one is there; returns the value that now stands."""

    def delete(self, key: str) -> None:
        """Removes the key, if it is there."""

    def items(self, prefix: str = "") -> list[tuple[str, Any]]:
        """All live pairs whose key starts so, in order of key."""


@dataclass(frozen=True, slots=True)
class Context(Generic[OptionsT]):
    """What a plugin is handed in every hook that asks for ``ctx``.

    ``options`` is its validated options model, ``dns`` the caching resolver, ``state_dir`` a folder of its own,
    ``store`` its key-value store, ``log`` a structured logger that already carries its name, ``now`` the clock
    (Unix time), ``hostname`` our own host name and authserv-id, ``deadline`` the seconds a check may take,
    ``local_domains`` those that are ours, ``name`` what the policy calls this check (its findings' name).
    ``stored`` gives the messages in an account's mailboxes, oldest first, to a filter that must learn anew; None
    outside of a running server.
    """

    options: OptionsT
    dns: Resolver
    state_dir: Path
    store: Store
    log: structlog.stdlib.BoundLogger
    now: Callable[[], float]
    hostname: str
    deadline: float = 5.0
    local_domains: frozenset[str] = frozenset()
    name: str = ""
    stored: Callable[[str], Iterable[bytes]] | None = None
