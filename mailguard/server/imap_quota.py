"""QUOTA and ACL: what an account may hold, and who may do what (RFC 9208, RFC 4314)."""

from __future__ import annotations

from mailguard.protocol.imap.arguments import Names
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.quota import Acl, QuotaRoot
from mailguard.protocol.imap.text import astring
from mailguard.server.imap_client import Client, Handler

ROOT = ""
"""The only quota root: the account."""


def get_quota(client: Client, command: QuotaRoot) -> None:
    """GETQUOTA."""
    if command.root != ROOT:
        raise CommandError("there is no such quota root", status="NO", code="NONEXISTENT")
    client.send(quota_line(client))


def get_quota_root(client: Client, command: Names) -> None:
    """GETQUOTAROOT, of mailboxes that do not exist, too; those of shared accounts count there."""
    quota = client.store.quota()
    # Without limits no root is named: Thunderbird takes an empty list for a syntax error and hangs up, again and again.
    limited = (quota.storage_limit or quota.messages_limit) and not client.store.shares.find(command.mailbox)
    client.send(b"* QUOTAROOT %b%b\r\n" % (client.printed(command.mailbox), b' ""' if limited else b""))
    if limited:
        client.send(quota_line(client))


def set_quota(_client: Client, _command: QuotaRoot) -> None:
    """SETQUOTA: not for users to decide."""
    raise CommandError("accounts.toml sets the quotas", status="NO", code="NOPERM")


def quota_line(client: Client) -> bytes:
    """``* QUOTA``: storage in units of 1024 octets, as the RFC has it."""
    quota = client.store.quota()
    found = []
    if quota.storage_limit:
        found.append(f"STORAGE {(quota.storage_used + 1023) // 1024} {quota.storage_limit // 1024}")
    if quota.messages_limit:
        found.append(f"MESSAGE {quota.messages_used} {quota.messages_limit}")
    return f'* QUOTA "" ({" ".join(found)})\r\n'.encode()


def my_rights(client: Client, command: Acl) -> None:
    """MYRIGHTS."""
    client.mailbox(command.mailbox)
    rights = client.store.rights(command.mailbox)
    client.send(b"* MYRIGHTS %b %b\r\n" % (client.printed(command.mailbox), rights.encode()))


def get_acl(client: Client, command: Acl) -> None:
    """GETACL: an account's own mailboxes are its alone."""
    client.mailbox(command.mailbox)
    client.demand(command.mailbox, "a")
    owner = astring(str(client.account.address).encode())
    rights = client.store.rights(command.mailbox).encode()
    client.send(b"* ACL %b %b %b\r\n" % (client.printed(command.mailbox), owner, rights))


def list_rights(client: Client, command: Acl) -> None:
    """LISTRIGHTS: the owner has all rights, nobody else can be given any."""
    client.mailbox(command.mailbox)
    client.demand(command.mailbox, "a")
    owner = command.identifier == str(client.account.address)
    rights = client.store.rights(command.mailbox) if owner else '""'
    name, who = client.printed(command.mailbox), astring(command.identifier.encode())
    client.send(b"* LISTRIGHTS %b %b %b\r\n" % (name, who, rights.encode()))


def set_acl(client: Client, command: Acl) -> None:
    """SETACL and DELETEACL: not for users to decide."""
    client.mailbox(command.mailbox)
    raise CommandError("accounts.toml says who shares what", status="NO", code="NOPERM")


HANDLERS: dict[str, Handler] = {
    "GETQUOTA": get_quota, "GETQUOTAROOT": get_quota_root, "SETQUOTA": set_quota, "MYRIGHTS": my_rights,
    "GETACL": get_acl, "LISTRIGHTS": list_rights, "SETACL": set_acl, "DELETEACL": set_acl,
}  # fmt: skip
