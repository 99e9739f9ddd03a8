"""Where a domain's mail goes (RFC 5321 §5.1, RFC 7505)."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from dataclasses import dataclass

from mailguard.model.reply import PermanentError, Reply, TransientError
from mailguard.net.resolver import DnsTemporaryError, Resolver

Shuffle = Callable[[MutableSequence[str]], None]


@dataclass(frozen=True, slots=True)
class MailHosts:
    """The hosts to try in this order; ``implicit`` where the domain has no MX; ``authentic`` under DNSSEC."""

    names: tuple[str, ...]
    implicit: bool = False
    authentic: bool = False


def mail_hosts(resolver: Resolver, domain: str, *, own_name: str, shuffle: Shuffle) -> MailHosts:
    """The MX hosts of a domain, best first, equals shuffled, none that is not better than ourselves.

    Raises TransientError where DNS does not answer, PermanentError where no mail can ever be delivered.
    """
    if domain.startswith("["):
        raise PermanentError(Reply.of(550, "5.1.2", f"mail for the address literal {domain} is not relayed"))
    try:
        answer = resolver.query(domain, "MX")
    except DnsTemporaryError as error:
        raise TransientError(Reply.of(451, "4.4.3", f"DNS gave no answer for the MX of {domain}"), str(error)) from None
    if not answer.exists:
        raise PermanentError(Reply.of(550, "5.1.2", f"the domain {domain} does not exist"))
    if not answer.records:
        return MailHosts((domain,), implicit=True, authentic=answer.authentic)
    records = _parse(answer.records)
    if [name for _, name in records] == ["."]:
        raise PermanentError(Reply.of(556, "5.1.10", f"the domain {domain} says that it takes no mail (null MX)"))
    names = _in_order(records, own_name.lower(), shuffle)
    if not names:
        raise PermanentError(
            Reply.of(554, "5.3.5", f"DNS says that we are the mail server of {domain}, but it is none of our domains")
        )
    return MailHosts(tuple(names), authentic=answer.authentic)


def _parse(records: tuple[str, ...]) -> list[tuple[int, str]]:
    found = []
    for record in records:
        preference, _, name = record.partition(" ")
        found.append((int(preference), name))
    return sorted(found)


def _in_order(records: list[tuple[int, str]], own_name: str, shuffle: Shuffle) -> list[str]:
    # Ourselves and every host that is not better are no way forward: they would hand the mail back to us.
    ours = min((preference for preference, name in records if name == own_name), default=1 << 16)
    names: list[str] = []
    for preference in sorted({p for p, _ in records if p < ours}):
        equal = [name for p, name in records if p == preference and name != "."]
        shuffle(equal)
        names += equal
    return list(dict.fromkeys(names))
