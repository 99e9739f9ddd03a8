"""Where mail for an address goes: to our accounts, out to other servers, or nowhere (RFC 5321 §3.6, §4.5.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailguard.auth.accounts import Account, Directory
from mailguard.delivery.forward import Rewriter
from mailguard.model.address import Address
from mailguard.model.reply import Reply


@dataclass(frozen=True, slots=True)
class Route:
    """The ways of one recipient: ``accounts`` to deliver to here, ``remote`` addresses to send to; ``forwarded``
    where those stand for an address of ours."""

    accounts: tuple[Account, ...] = ()
    remote: tuple[Address, ...] = ()
    forwarded: bool = False


class Router:
    """Asks the directory; relays only for those who may. ``rewriter`` knows the reverse paths we made (SRS),
    ``full`` whether an account has no room for so many octets.

    Local parts are never taken apart: ``user%other@ours`` and ``other!user@ours`` are names like any other, and
    there is nobody of that name.
    """

    def __init__(
        self,
        directory: Directory,
        rewriter: Rewriter | None = None,
        full: Callable[[Account, int], bool] = lambda account, octets: False,
    ) -> None:
        self.directory = directory
        self._full = full
        self._rewriter = rewriter

    def is_local(self, domain: str) -> bool:
        """Whether the domain is ours."""
        return self.directory.is_local(domain)

    def route(self, address: Address, *, may_relay: bool, size: int = 1) -> Route | Reply:
        """The route, or the reply that refuses the recipient; ``size`` is that of the message in octets, as far as it
        is known (RFC 1870 §6.1)."""
        if not self.directory.is_local(address.domain):
            if not may_relay:
                return Reply.of(550, "5.7.1", f"we do not relay to {address.domain}: sign in to send mail there")
            if address.is_literal:
                return Reply.of(550, "5.1.2", "mail to address literals is not sent")
            return Route(remote=(address,))
        if self._rewriter is not None and (back := self._rewriter.reverse(address)):
            return Route(remote=(back,))
        found = self.directory.resolve(address)
        if found.disabled:
            return Reply.of(550, "5.2.1", f"the mailbox {address} is disabled")
        if found.unknown:
            return Reply.of(550, "5.1.1", f"there is no mailbox {address} here")
        always = address.local.casefold() == "postmaster"  # RFC 5321 §4.5.1
        if found.accounts and not found.remote and not always and self._full_up(found.accounts, max(size, 1)):
            what = "is full" if self._full_up(found.accounts, 1) else f"has no room for {size} octets"
            return Reply.of(452, "4.2.2", f"the mailbox {address} {what}; try again later")
        return Route(found.accounts, found.remote, forwarded=bool(found.remote))

    def _full_up(self, accounts: tuple[Account, ...], octets: int) -> bool:
        return all(self._full(account, octets) for account in accounts)
