"""The shape of ``accounts.toml``: domains, accounts, aliases and shared mailboxes, as people write them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mailguard.model.address import Address, parse_domain
from mailguard.model.octets import Octets

DEFAULTS = ("postmaster", "abuse")
"""Local parts that every domain has (RFC 2142, RFC 5321 §4.5.1)."""


def _address(text: str) -> str:
    return str(Address.parse(text))


def _sender(text: str) -> str:
    return f"*@{parse_domain(text[2:])}" if text.startswith("*@") else _address(text)


AddressText = Annotated[str, AfterValidator(_address)]
SenderText = Annotated[str, AfterValidator(_sender)]
DomainText = Annotated[str, AfterValidator(parse_domain)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DomainEntry(_Model):
    """``[[domain]]``: a mail domain of ours."""

    name: DomainText = Field(description="the domain, such as `office.example`")
    aliases: tuple[DomainText, ...] = Field(
        default=(), description="other domains of which every address means the same address here"
    )
    catch_all: AddressText | None = Field(default=None, description="who gets mail for addresses that do not exist")
    postmaster: AddressText | None = Field(
        default=None, description="who gets mail for postmaster@ and abuse@; default: the domain's first account"
    )


class AccountEntry(_Model):
    """``[[account]]``: a person with a mailbox and a password (the password is set by `mailguard user passwd`)."""

    address: AddressText = Field(description="the mail address, which is also the name to sign in with")
    name: str = Field(default="", description="the person's name, for set-up pages and lists")
    aliases: tuple[AddressText, ...] = Field(default=(), description="further addresses of this mailbox")
    send_as: tuple[SenderText, ...] = Field(
        default=(), description="further addresses this user may send as; `*@domain` for a whole domain"
    )
    quota: Octets = Field(default=0, description="storage, such as `5G`; 0: no limit")
    quota_messages: int = Field(default=0, ge=0, description="messages; 0: no limit")
    disabled: bool = Field(default=False, description="no sign-in and no mail; the mailbox stays")
    hide_capabilities: tuple[str, ...] = Field(
        default=(), description="IMAP capabilities not shown to this user's (broken) client"
    )


class AliasEntry(_Model):
    """``[[alias]]``: an address that stands for others, here or outside."""

    address: AddressText = Field(description="the address")
    to: tuple[AddressText, ...] = Field(description="where its mail goes", min_length=1)


class SharedEntry(_Model):
    """``[[shared]]``: a mailbox of several people, such as info@; nobody signs in with it."""

    address: AddressText = Field(description="the mail address")
    name: str = Field(default="", description="how lists call it")
    members: tuple[AddressText, ...] = Field(description="the accounts that see it and may send as it", min_length=1)
    aliases: tuple[AddressText, ...] = Field(default=(), description="further addresses of this mailbox")
    quota: Octets = Field(default=0, description="storage, such as `5G`; 0: no limit")
    seen_per_member: bool = Field(
        default=False, description="whether each member has read and unread mail of his own; else all have the same"
    )


class AccountsFile(_Model):
    """The whole of ``accounts.toml``."""

    domain: tuple[DomainEntry, ...] = Field(default=(), description="mail domains")
    account: tuple[AccountEntry, ...] = Field(default=(), description="people")
    alias: tuple[AliasEntry, ...] = Field(default=(), description="addresses that stand for others")
    shared: tuple[SharedEntry, ...] = Field(default=(), description="mailboxes of several people")
