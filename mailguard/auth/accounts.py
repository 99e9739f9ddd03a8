"""The directory: which addresses are ours and whom each of them means. Immutable; a reload makes a new one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from mailguard.auth.accountsfile import DEFAULTS, AccountsFile, DomainEntry
from mailguard.model.address import Address, AddressError

_DEPTH = 20  # aliases of aliases


@dataclass(frozen=True, slots=True)
class Domain:
    """A mail domain of ours; ``canonical`` is its own name, or the domain whose alias it is."""

    name: str
    canonical: str
    catch_all: Address | None = None
    postmaster: Address | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A mailbox owner. ``maildir`` is the folder of the INBOX; quotas of 0 mean none; ``send_as`` holds address
    keys and ``*@domain`` patterns; ``members`` the address keys of those who see a shared mailbox, in which
    nobody signs in; ``seen_apart`` says that each of them has a \\Seen of his own."""

    address: Address
    name: str = ""
    maildir: Path = Path()
    quota: int = 0
    quota_messages: int = 0
    disabled: bool = False
    send_as: frozenset[str] = frozenset()
    shared: bool = False
    members: frozenset[str] = frozenset()
    seen_apart: bool = False
    hide_capabilities: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return str(self.address)

    @property
    def key(self) -> str:
        """The account's name in databases and lookups."""
        return self.address.key

    def may_send_as(self, address: Address, separator: str = "+") -> bool:
        """Whether this user owns the address, subaddresses (``user+tag``) included."""
        plain = Address(address.local.partition(separator)[0] if separator else address.local, address.domain)
        return any(key in self.send_as for key in (address.key, plain.key, f"*@{address.domain}"))


@dataclass(frozen=True, slots=True)
class Resolution:
    """Whom an address means: our ``accounts``, outside addresses, or nobody (``unknown``).

    ``disabled`` says that every mailbox behind it is disabled; ``detail`` is the tag of a subaddress.
    """

    accounts: tuple[Account, ...] = ()
    remote: tuple[Address, ...] = ()
    detail: str = ""
    unknown: bool = False
    disabled: bool = False


@dataclass(slots=True)
class _Walk:
    accounts: dict[str, Account] = field(default_factory=dict)
    remote: dict[str, Address] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    disabled: bool = False


class Directory:
    """All domains, accounts and aliases. Lookups ignore case; ``separator`` divides user and tag; ``first`` is the
    domain named first, ``""`` if there is none."""

    def __init__(
        self,
        domains: Mapping[str, Domain],
        accounts: Mapping[str, Account],
        names: Mapping[str, str],
        aliases: Mapping[str, tuple[Address, ...]],
        *,
        separator: str = "+",
        first: str = "",
    ) -> None:
        self.domains = domains
        self.accounts = accounts
        self.separator = separator
        self._names = names
        self._aliases = aliases
        self.first = first

    @classmethod
    def build(cls, file: AccountsFile, data_dir: Path, *, separator: str = "+") -> Directory:
        """The directory of an ``accounts.toml`` that has passed ``accountcheck``."""
        domains = dict(_domains(file))
        accounts, names = {}, {}
        for account, aliases in _accounts(file, domains, data_dir):
            accounts[account.key] = account
            names[account.key] = account.key
            for alias in aliases:
                names[_canonical(alias, domains)] = account.key
        forwards = {_canonical(Address.parse(a.address), domains): tuple(map(Address.parse, a.to)) for a in file.alias}
        first = file.domain[0].name if file.domain else ""
        return cls(domains, accounts, names, forwards, separator=separator, first=first)

    def is_local(self, domain: str) -> bool:
        """Whether mail for the domain is ours to deliver; the empty domain is (the bare ``postmaster``)."""
        return domain in self.domains or domain == ""

    def account(self, address: str) -> Account | None:
        """The account that signs in with this name: its address or one of its aliases, in any of its domains."""
        try:
            parsed = Address.parse(address.strip())
        except AddressError:
            return None
        account = self.accounts.get(self._names.get(_canonical(parsed, self.domains), ""))
        return None if account is None or account.shared else account

    def owner(self, address: Address) -> str | None:
        """The key of the account, alias or shared mailbox of exactly this address, None if there is none."""
        key = _canonical(address, self.domains)
        return self._names.get(key) or (key if key in self._aliases else None)

    def is_alias(self, address: Address) -> bool:
        """Whether an ``[[alias]]`` has this address; there may be an account behind it that has it, too."""
        return _canonical(address, self.domains) in self._aliases

    def shared_with(self, account: Account) -> tuple[Account, ...]:
        """The shared mailboxes that this account is a member of."""
        return tuple(a for a in self.accounts.values() if a.shared and account.key in a.members)

    def may_send_as(self, account: Account, address: Address) -> bool:
        """Whether the account owns the address: its own, its aliases, its shared mailboxes', the send-as table's."""
        return account.may_send_as(address, self.separator)

    def resolve(self, address: Address) -> Resolution:
        """Whom mail for the address goes to, after aliases, subaddresses, catch-all and defaults."""
        walk = _Walk()
        domain = self.domains.get(address.domain or self.first)
        if domain is None:
            return Resolution(remote=(address,)) if address.domain else Resolution(unknown=True)
        local = Address(address.local.casefold(), domain.canonical)
        detail = self._visit(local, walk, 0)
        if not walk.accounts and not walk.remote:
            return Resolution(unknown=not walk.disabled, disabled=walk.disabled)
        return Resolution(tuple(walk.accounts.values()), tuple(walk.remote.values()), detail)

    def _visit(self, address: Address, walk: _Walk, depth: int) -> str:
        """Adds whom a local, canonical address means; returns the subaddress tag that was cut off."""
        found, detail = self._find(address)
        if depth > _DEPTH:
            return ""
        if found is None:
            domain = self.domains[address.domain]
            if fallback := domain.postmaster if address.local in DEFAULTS else domain.catch_all:
                self._follow(fallback, walk, depth)
        elif found in self._aliases and found not in walk.seen:
            walk.seen.add(found)
            for target in self._aliases[found]:
                self._follow(target, walk, depth)
        elif found in self._names:
            account = self.accounts[self._names[found]]
            walk.disabled |= account.disabled
            if not account.disabled:
                walk.accounts[account.key] = account
        return detail

    def _follow(self, target: Address, walk: _Walk, depth: int) -> None:
        domain = self.domains.get(target.domain)
        if domain is None:
            walk.remote[target.key] = target
        else:
            self._visit(Address(target.local.casefold(), domain.canonical), walk, depth + 1)

    def _find(self, address: Address) -> tuple[str | None, str]:
        """The key that stands for a local, canonical address, and the tag cut off."""
        known = (self._aliases, self._names)
        if any(address.key in names for names in known):
            return address.key, ""
        user, _, detail = address.local.partition(self.separator) if self.separator else (address.local, "", "")
        plain = Address(user, address.domain)
        if user and detail and any(plain.key in names for names in known):
            return plain.key, detail
        return None, ""


def _canonical(address: Address, domains: Mapping[str, Domain]) -> str:
    domain = domains.get(address.domain)
    return Address(address.local, domain.canonical if domain else address.domain).key


def _domains(file: AccountsFile) -> Iterator[tuple[str, Domain]]:
    for entry in file.domain:
        catch_all = Address.parse(entry.catch_all) if entry.catch_all else None
        postmaster = _postmaster(entry, file)
        for name in (entry.name, *entry.aliases):
            yield name, Domain(name, entry.name, catch_all, postmaster)


def _postmaster(entry: DomainEntry, file: AccountsFile) -> Address | None:
    if entry.postmaster and not _disabled(Address.parse(entry.postmaster), file):
        return Address.parse(entry.postmaster)
    enabled = [Address.parse(a.address) for a in file.account if not a.disabled]
    own = next((a for a in enabled if a.domain == entry.name), None)
    return own or next(iter(enabled), None)


def _disabled(address: Address, file: AccountsFile) -> bool:
    return any(a.disabled and Address.parse(a.address).key == address.key for a in file.account)


def _accounts(
    file: AccountsFile, domains: Mapping[str, Domain], data_dir: Path
) -> Iterator[tuple[Account, tuple[Address, ...]]]:
    for entry in file.account:
        address = Address.parse(entry.address)
        aliases = tuple(map(Address.parse, entry.aliases))
        shared = [s for s in file.shared if address.key in {Address.parse(m).key for m in s.members}]
        groups = tuple(Address.parse(text) for s in shared for text in (s.address, *s.aliases))
        senders = {text.casefold() for text in entry.send_as}
        senders |= {key for a in (address, *aliases, *groups) for key in _spellings(a, domains)}
        yield (
            Account(
                address=address,
                name=entry.name,
                maildir=maildir_path(data_dir, address),
                quota=entry.quota,
                quota_messages=entry.quota_messages,
                disabled=entry.disabled,
                send_as=frozenset(senders),
                hide_capabilities=frozenset(name.upper() for name in entry.hide_capabilities),
            ),
            aliases,
        )
    for group in file.shared:
        address = Address.parse(group.address)
        members = frozenset(Address.parse(member).key for member in group.members)
        folder = maildir_path(data_dir, address)
        account = Account(
            address, group.name, folder, quota=group.quota, shared=True, members=members,
            seen_apart=group.seen_per_member,
        )  # fmt: skip
        yield account, tuple(map(Address.parse, group.aliases))


def _spellings(address: Address, domains: Mapping[str, Domain]) -> Iterator[str]:
    """The address in its own domain and in every alias of it."""
    yield address.key
    domain = domains.get(address.domain)
    for name, other in domains.items():
        if domain is not None and other.canonical == domain.canonical:
            yield Address(address.local, name).key


def maildir_path(data_dir: Path, address: Address) -> Path:
    """Where an account's mail lies: ``mail/DOMAIN/LOCAL`` in the data folder, both safe as file names."""
    local = quote(address.local.casefold(), safe="!#$&'*+-=^_`{|}~.@", errors="surrogateescape")
    if local.startswith("."):  # never hidden, never `..`
        local = "%2E" + local[1:]
    return data_dir / "mail" / address.domain / local
