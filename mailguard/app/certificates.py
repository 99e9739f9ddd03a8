"""Our own certificate, kept up: which names it needs, when it is due, what to do when the CA says no."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mailguard.app.publication import NEXT_KEY, hosted
from mailguard.config.edit import replace_file
from mailguard.config.schema import Config
from mailguard.net.acme import Acme, AcmeError, new_key, write_pair
from mailguard.net.resolver import DnsTemporaryError, Resolver, addresses
from mailguard.net.selfsigned import write_private
from mailguard.net.tls import Certificate, TlsError, read_certificate
from mailguard.protocol.autoconfig.records import certificate_names

MAX_NAMES = 100  # in one certificate, by the CAs' own limit
_MEMORY = "memory.json"
_GUESSED = ("mail", "imap", "pop", "pop3", "smtp")  # what clients try; covered where it leads to us
_SETTLED = datetime.timedelta(hours=2)  # names published one after the other do not cost an order each
_ROUNDS = 3  # of one attempt, each without the names that the CA could not verify
_HOUR = 3600.0
_LONGEST = 24 * _HOUR  # between two attempts
_NAME_LONGEST = 7 * 24 * _HOUR


@dataclass(slots=True)
class Hold:
    """A name that the CA could not verify: not asked for again before ``until``, a Unix time."""

    until: float
    reason: str
    times: int


@dataclass(slots=True)
class Memory:
    """What is remembered from one attempt to the next."""

    failures: int = 0
    next_attempt: float = 0.0
    error: str = ""
    error_since: float = 0.0
    told: float = 0.0
    holds: dict[str, Hold] = field(default_factory=dict)


def remembered(issued: Path) -> Memory:
    """What is remembered beside the certificate file ``issued``; nothing where nothing can be read."""
    try:
        data = json.loads(issued.with_name(_MEMORY).read_text())
        holds = {name: Hold(**hold) for name, hold in data.pop("holds").items()}
        return Memory(**data, holds=holds)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Memory()


class Certificates:
    """The certificate of one configuration with ``[acme]`` enabled. Not for several threads at a time."""

    def __init__(self, config: Config, resolver: Resolver, log: Any, now: Callable[[], float]) -> None:
        self._config = config
        self._resolver = resolver
        self._log = log
        self._now = now
        assert config.issued is not None
        self.path: Path = config.issued
        self.acme = Acme(config.main.acme, self.path.parent, config.data_dir / "challenges")
        self.memory = remembered(self.path)

    # -- when ---------------------------------------------------------------------------------------------------

    def current(self) -> Certificate | None:
        """The certificate that a CA gave us, None if there is none."""
        try:
            return read_certificate(self.path)
        except TlsError:
            return None

    def why_due(self) -> str:
        """Why a new certificate is needed now, ``""`` if it is not."""
        found = self.current()
        if found is None:
            return "there is none yet"
        now = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
        if now >= found.not_after - (found.not_after - found.not_before) / 3:
            return f"it ends on {found.not_after:%Y-%m-%d}"
        if now < found.not_before + _SETTLED:
            return ""
        missing = [name for name in self.wanted() if name not in found.names]
        return f"{', '.join(missing)} is not in it" if missing else ""

    def may_try(self) -> bool:
        """Whether the time of waiting after a failure is over."""
        return self._now() >= self.memory.next_attempt

    # -- for which names ----------------------------------------------------------------------------------------

    def wanted(self) -> list[str]:
        """Every published name of ours, our host name first; without those that the CA could not verify lately."""
        main = self._config.main
        names = [main.hostname]
        for provider in hosted(self._config).values():
            names += certificate_names(provider, sts=main.web.mta_sts != "none", with_pacc=main.web.pacc)[1:]
            names += [*(f"{word}.{provider.domain}" for word in _GUESSED), provider.domain]
        names += main.acme.names
        found = self.current()
        ours = self._addresses(main.hostname)
        kept = [
            name
            for name in dict.fromkeys(names)
            if name == main.hostname or (not self._held(name) and self._leads_here(name, ours, found))
        ]
        return kept[:MAX_NAMES]

    def _held(self, name: str) -> bool:
        hold = self.memory.holds.get(name)
        return hold is not None and self._now() < hold.until

    def _addresses(self, name: str) -> set[str] | None:
        try:
            return set(addresses(self._resolver, name))
        except DnsTemporaryError:
            return None

    def _leads_here(self, name: str, ours: set[str] | None, found: Certificate | None) -> bool:
        there = self._addresses(name)
        if there is None or ours is None:  # no answer is no reason to drop a name
            return found is not None and name in found.names
        return bool(there & ours)

    # -- now ----------------------------------------------------------------------------------------------------

    def renew(self, *, change_key: bool = False) -> list[str]:
        """Gets a certificate; returns its names. Raises AcmeError, after which ``may_try`` is False for a while.

        ``change_key`` takes the key of ``prepare_key`` into use.
        """
        try:
            names = self._attempt(self.wanted(), self.prepare_key() if change_key else self._key("key.pem"))
        except (AcmeError, OSError) as error:
            failed = error if isinstance(error, AcmeError) else AcmeError(str(error))
            self._failed(failed)
            raise failed from None
        holds = {name: hold for name, hold in self.memory.holds.items() if name not in names}
        self.memory = Memory(holds=holds)
        self._remember()
        return names

    def prepare_key(self) -> bytes:
        """The key that is to follow, made if need be: its TLSA record has to be published before it is used."""
        return self._key(NEXT_KEY)

    def _attempt(self, names: list[str], key: bytes) -> list[str]:
        for left in range(_ROUNDS - 1, -1, -1):
            try:
                chain = self.acme.issue(names, key)
            except AcmeError as error:
                others = [name for name in names if name not in error.names]
                if not left or len(others) == len(names) or self._config.main.hostname not in others:
                    raise
                self._hold(error)
                names = others
            else:
                write_pair(self.path, chain, key)
                if key != self._key("key.pem"):
                    self.path.with_name(NEXT_KEY).replace(self.path.with_name("key.pem"))
                return names
        raise AssertionError("the last round returns or raises")

    def _key(self, name: str) -> bytes:
        """``key.pem`` is the key of every certificate, so that TLSA records stay true."""
        path = self.path.with_name(name)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            write_private(path, new_key())
        return path.read_bytes()

    def _hold(self, error: AcmeError) -> None:
        for name, reason in error.names.items():
            if name != self._config.main.hostname:
                times = self.memory.holds[name].times + 1 if name in self.memory.holds else 1
                until = self._now() + min(_HOUR * 4**times, _NAME_LONGEST)
                self.memory.holds[name] = Hold(until, reason, times)
                self._log.warning("the certificate goes without a name for now", name=name, reason=reason)

    def _failed(self, error: AcmeError) -> None:
        memory, now = self.memory, self._now()
        self._hold(error)
        memory.failures += 1
        shortest = 6 * _HOUR if error.limited else 300.0
        memory.next_attempt = now + min(shortest * 2 ** (memory.failures - 1), _LONGEST)
        memory.error_since = memory.error_since or now
        memory.error = str(error)
        self._remember()

    # -- memory -------------------------------------------------------------------------------------------------

    def _remember(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self.path.with_name(_MEMORY), json.dumps(asdict(self.memory)), mode=0o600)

    def tell(self) -> tuple[str, Sequence[str]] | None:
        """A letter for postmaster, once a day while it has been failing for a day; None if there is nothing to say."""
        memory, now = self.memory, self._now()
        if not memory.error or now - memory.error_since < _LONGEST or now - memory.told < _LONGEST:
            return None
        memory.told = now
        self._remember()
        found = self.current()
        state = f"The one in use ends on {found.not_after:%Y-%m-%d}." if found else "A self-signed one is in use."
        return "No new certificate", [
            f"The certificate authority has given us no certificate since {_day(memory.error_since)}. {state}",
            "",
            memory.error,
            "",
            "`mailguard certificate renew` tries at once, `dns check` and `mailguard doctor` look for causes.",
        ]


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d")
