"""Shared mailboxes as their members see them: ``Shared/info@office.example`` and what lies below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailguard.store.account import AccountStore

NAMESPACE = "Shared"
ALL_RIGHTS = "lrswipkxtea"
"""What an owner may do, in the letters of RFC 4314 §2.1."""

_MEMBER = "lrswipkxte"  # who is a member is decided in accounts.toml
_MEMBER_OF_INBOX = "lrswipkte"


class Shares:
    """The shared accounts that one account, ``member``, belongs to, by address; in those of ``apart`` it has its own
    \\Seen."""

    def __init__(self) -> None:
        self.accounts: dict[str, AccountStore] = {}
        self.apart: frozenset[str] = frozenset()
        self.member = ""

    def find(self, name: str) -> tuple[AccountStore, str] | None:
        """The account and the name within it that a mailbox name means, None if it means one of the account's own."""
        first, _, rest = name.partition("/")
        if first != NAMESPACE:
            return None
        label, _, inner = rest.partition("/")
        account = self.accounts.get(label)
        return None if account is None else (account, inner or "INBOX")

    def reader(self, name: str) -> str:
        """The member, where the mailbox of this name has what each has seen apart; else ``""``."""
        return self.member if name.split("/", 2)[1] in self.apart else ""

    @staticmethod
    def name(label: str, inner: str) -> str:
        """The name that a member sees."""
        return f"{NAMESPACE}/{label}" if inner == "INBOX" else f"{NAMESPACE}/{label}/{inner}"

    @staticmethod
    def rights(inner: str) -> str:
        """What a member may do with a mailbox of a shared account."""
        return _MEMBER_OF_INBOX if inner == "INBOX" else _MEMBER
