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
    ``full`` whether an account has no room.

    Local parts are never taken apart: ``user%other@ours`` and ``other!user@ours`` are names like any other, and
    there is nobody of that name.
    """

    def __init__(
        self,
        directory: Directory,
        rewriter: Rewriter | None = None,
        full: Callable[[Account], bool] = lambda account: False,
    ) -> None:
        self.directory = directory
        self._full = full
        self._rewriter = rewriter

    def is_local(self, domain: str) -> bool:
        """Whether the domain is ours."""
        return self.directory.is_local(domain)

    def route(self, address: Address, *, may_relay: bool) -> Route | Reply:
        """The route, or the reply that refuses the recipient."""
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
        if found.accounts and not found.remote and not always and all(map(self._full, found.accounts)):
            return Reply.of(452, "4.2.2", f"the mailbox {address} is full; try again later")
        return Route(found.accounts, found.remote, forwarded=bool(found.remote))
