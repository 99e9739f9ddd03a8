"""The mail that tells somebody that the mailbox is nearly full."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate, make_msgid

from mailguard.state.database import Database
from mailguard.state.quota import due
from mailguard.store.account import AccountStore
from mailguard.store.quota import Quota


def warner(
    database: Database, hostname: str, thresholds: tuple[int, ...]
) -> Callable[[str, AccountStore, Quota], None]:
    """What puts a warning into an INBOX when a threshold (in percent) is reached."""

    def warn(key: str, account: AccountStore, quota: Quota) -> None:
        percent = due(database, key, quota.percent, thresholds)
        if percent:
            account.deliver([quota_mail(key, hostname, quota)])

    return warn


def quota_mail(address: str, hostname: str, quota: Quota) -> bytes:
    """The whole message."""
    lines = [
        f"From: Mail server <postmaster@{hostname}>",
        f"To: <{address}>",
        f"Subject: Your mailbox is {quota.percent} % full",
        f"Date: {formatdate(localtime=True)}",
        f"Message-ID: {make_msgid(domain=hostname)}",
        "Auto-Submitted: auto-generated",
        "Precedence: junk",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"The mailbox of {address} holds",
        "",
    ]
    if quota.storage_limit:
        lines.append(f"    {_megabytes(quota.storage_used)} of {_megabytes(quota.storage_limit)}")
    if quota.messages_limit:
        lines.append(f"    {quota.messages_used} of {quota.messages_limit} messages")
    lines += [
        "",
        "Once it is full, new mail is turned away until there is room again.",
        "Delete what is no longer needed, and empty the trash.",
        "",
    ]
    return "\r\n".join(lines).encode("ascii", "replace")


def _megabytes(octets: int) -> str:
    return f"{octets / 1_048_576:,.1f} MB"
