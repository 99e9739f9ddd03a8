"""What is remembered of senders: to whom an account wrote, whose mail it kept, whose it threw away. Counts fade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mailguard.plugin import Store

from .name import FREEMAIL, Signals, registered

_HALF_LIFE = 45 * 86400.0
_KEEP = 400 * 86400.0
_COUNTS = ("wrote", "good", "bad", "answered")


@dataclass(frozen=True, slots=True)
class Past:
    """Faded counts of one sender: messages written to it, kept, thrown into Junk, read or answered."""

    wrote: float = 0.0
    good: float = 0.0
    bad: float = 0.0
    answered: float = 0.0
    at: float = 0.0

    def __add__(self, other: Past) -> Past:
        wrote, good, bad = self.wrote + other.wrote, self.good + other.good, self.bad + other.bad
        return Past(wrote, good, bad, self.answered + other.answered, max(self.at, other.at))


class History:
    """Keeps ``Past`` by account and address, and by domain or network for all."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def past(self, key: str, now: float) -> Past:
        """What is remembered under a key, faded to now."""
        return self.pasts([key], now)[0]

    def pasts(self, keys: Sequence[str], now: float) -> list[Past]:
        """What is remembered under several keys, faded to now."""
        rows = self._store.get_all([f"h:{key}" for key in keys])
        return [_faded(rows.get(f"h:{key}"), now) for key in keys]

    def add(
        self, key: str, now: float, *, wrote: float = 0, good: float = 0, bad: float = 0, answered: float = 0
    ) -> None:
        """Adds to the counts of a key."""
        self.add_all({key: Past(wrote, good, bad, answered)}, now)

    def add_all(self, more: Mapping[str, Past], now: float) -> None:
        """Adds to the counts of several keys in one transaction."""
        names = list(more)
        rows = {}
        for key, old in zip(names, self.pasts(names, now), strict=True):
            rows[f"h:{key}"] = {name: round(max(0.0, getattr(old + more[key], name)), 3) for name in _COUNTS}
            rows[f"h:{key}"]["at"] = now
        self._store.put_all(rows, ttl=_KEEP)


def _faded(row: Any, now: float) -> Past:
    if not isinstance(row, Mapping):
        return Past(at=now)
    fade = 0.5 ** (max(0.0, now - row.get("at", now)) / _HALF_LIFE)
    wrote, good, bad, answered = (row.get(name, 0.0) * fade for name in _COUNTS)
    return Past(wrote, good, bad, answered, now)


def keys(account: str, address: str, network: str) -> tuple[str, ...]:
    """The keys of a sender: as this account knows it, its domain, and the network it sends from."""
    domain = registered(address.rsplit("@", 1)[-1].encode("utf-8", "replace")).decode("utf-8", "replace")
    place = address if domain.encode() in FREEMAIL else domain
    return f"{account}/{address}", f"*/{place}", f"*/{network}"


def network_of(ip: str) -> str:
    """The /24 of an IPv4 address, the /48 of an IPv6 one."""
    if ":" in ip:
        return ":".join(ip.split(":")[:3]) + "::/48"
    return ip.rsplit(".", 1)[0] + ".0/24"


def known(own: Past, place: Past) -> bool:
    """Whether the account wrote to a sender, answered it, or mail from it was wanted here more than it was not."""
    good = own.good + place.good
    return own.wrote + own.answered >= 0.2 or (good >= 1 and good > own.bad + place.bad)


def history_signals(own: Past, place: Past, net: Past, address: str, *, vouched: bool) -> tuple[Signals, list[bytes]]:
    """Signals and tokens. What speaks for a sender counts only when something vouches that it is the sender."""
    signals: Signals = {}
    tokens: list[bytes] = []
    if vouched:
        if own.wrote >= 0.2:
            signals["known"] = (address,)
        elif own.answered >= 0.2:
            signals["answered"] = (address,)
        elif place.good >= 3 and place.bad < place.good / 20:
            signals["sender_good"] = (address,)
    if own.bad + place.bad >= 1 and own.bad + place.bad > 2 * (own.good + place.good + own.answered + own.wrote):
        signals["sender_bad"] = (address,)
    if own == Past(at=own.at):
        signals["first_contact"] = (address,)
    for tag, past in ((b"own", own), (b"place", place), (b"net", net)):
        tokens.append(b"hist:%s:%d:%d" % (tag, min(3, int(past.good).bit_length()), min(3, int(past.bad).bit_length())))
    return signals, tokens
