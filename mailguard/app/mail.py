"""Opens people's mail with what the accounts file says of them."""

from __future__ import annotations

from collections.abc import Callable

from mailguard.auth.accounts import Account, Directory
from mailguard.store.account import AccountStore
from mailguard.store.mailstore import MailStore, Owner
from mailguard.store.quota import Limits


def opener(stores: MailStore, directory: Directory) -> Callable[[Account], AccountStore]:
    """What opens an account's mail, with its limits and with what is shared with it."""

    def owner(account: Account) -> Owner:
        return Owner(account.key, account.maildir, Limits(account.quota, account.quota_messages), account.seen_apart)

    def open_store(account: Account) -> AccountStore:
        shared = {str(each.address): owner(each) for each in directory.shared_with(account)}
        key, maildir, limits, _ = owner(account)
        return stores.open(key, maildir, limits, shared)

    return open_store
