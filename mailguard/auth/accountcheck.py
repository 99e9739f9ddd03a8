"""Mistakes in ``accounts.toml`` that no single entry shows: doubles, foreign domains, targets that do not exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mailguard.auth.accountsfile import DEFAULTS, AccountsFile
from mailguard.model.address import Address

Path = tuple[str | int, ...]


def mistakes(file: AccountsFile, separator: str = "+") -> Iterator[tuple[Path, str, str]]:
    """Yields ``(where, what is wrong, the cure)`` for every mistake. ``separator`` divides user and tag."""
    yield from _domain_doubles(file)
    canonical = {alias: entry.name for entry in file.domain for alias in (entry.name, *entry.aliases)}
    taken: dict[str, Path] = {}
    for path, text, kind in _addresses(file):
        address = Address.parse(text)
        if address.domain not in canonical:
            cure = f'add `[[domain]]` with `name = "{address.domain}"`'
            yield path, f"{address}: {address.domain} is none of our domains", cure
        key = _key(address, canonical)
        # An alias may bear an account's address: it then stands in front of the account.
        spot = ("alias" if kind == "alias" else "owner") + key
        if spot in taken:
            first = ".".join(map(str, taken[spot]))
            yield path, f"{address} is already taken by {first}", "remove one of the two"
        taken.setdefault(spot, path)
    yield from _members(file)
    yield from _targets(file, canonical, separator)


def _domain_doubles(file: AccountsFile) -> Iterator[tuple[Path, str, str]]:
    seen: set[str] = set()
    for number, entry in enumerate(file.domain):
        for name in (entry.name, *entry.aliases):
            if name in seen:
                yield ("domain", number, "name"), f"the domain {name} is named twice", "remove one of the two"
            seen.add(name)


def _addresses(file: AccountsFile) -> Iterator[tuple[Path, str, str]]:
    for kind in ("account", "shared", "alias"):
        for number, entry in enumerate(getattr(file, kind)):
            yield (kind, number, "address"), entry.address, kind
            for n, alias in enumerate(getattr(entry, "aliases", ())):
                yield (kind, number, "aliases", n), alias, kind


def _members(file: AccountsFile) -> Iterator[tuple[Path, str, str]]:
    people = {Address.parse(entry.address).key for entry in file.account}
    for number, group in enumerate(file.shared):
        for n, member in enumerate(group.members):
            if Address.parse(member).key not in people:
                yield ("shared", number, "members", n), f"{member} is no account", "members are addresses of accounts"


def _targets(file: AccountsFile, canonical: Mapping[str, str], separator: str) -> Iterator[tuple[Path, str, str]]:
    """Addresses of ours that mail is to go to and that nobody has: it would be refused, or lost for one of several."""
    open_ = {entry.name for entry in file.domain if entry.catch_all}
    known = {_key(Address.parse(text), canonical) for _, text, _ in _addresses(file)}
    for path, text in _sent_to(file):
        address = Address.parse(text)
        plain = Address(address.local.partition(separator)[0] if separator else address.local, address.domain)
        default = address.local.casefold() in DEFAULTS or canonical.get(address.domain) in open_
        if address.domain not in canonical or (default and path[-1] != "catch_all"):
            continue
        if not {_key(address, canonical), _key(plain, canonical)} & known:
            yield path, f"there is no {address} here", "write an address that exists, or make an `[[account]]` of it"


def _sent_to(file: AccountsFile) -> Iterator[tuple[Path, str]]:
    for number, domain in enumerate(file.domain):
        for name, text in (("catch_all", domain.catch_all), ("postmaster", domain.postmaster)):
            if text is not None:
                yield ("domain", number, name), text
    for number, alias in enumerate(file.alias):
        for n, text in enumerate(alias.to):
            yield ("alias", number, "to", n), text


def _key(address: Address, canonical: Mapping[str, str]) -> str:
    return Address(address.local, canonical.get(address.domain, address.domain)).key
