"""The facts: everything a policy condition may read, typed, and kept with each verdict so that it can be replayed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from mailguard.model.address import Address, AddressError
from mailguard.model.addresslist import read_addresses
from mailguard.model.envelope import Envelope
from mailguard.model.message import Message
from mailguard.model.session import Session

Facts = dict[str, Any]
"""Dotted names to JSON-able values; ``found``, ``facts`` and ``header`` are mappings."""


class Stage(IntEnum):
    """The four moments at which the policy decides."""

    CLIENT = 0
    SENDER = 1
    RECIPIENT = 2
    MESSAGE = 3

    @property
    def word(self) -> str:
        """Its name as in records: client, sender, recipient, message."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: its CEL type, its value before it is known, the stage from which it is known, and its meaning."""

    type: str
    absent: Any
    stage: Stage
    meaning: str


FACTS: Mapping[str, Fact] = {
    "client.ip": Fact("string", "", Stage.CLIENT, "the client's IP address"),
    "client.ptr": Fact("string", "", Stage.CLIENT, 'its forward-confirmed host name, `""` if it has none'),
    "client.early": Fact("bool", False, Stage.SENDER, "it spoke before our greeting, as no mail server does"),
    "client.known": Fact(
        "bool", False, Stage.SENDER, "our users have written to this sender, or good mail came from it with a pass"
    ),
    "role": Fact("string", "mx", Stage.CLIENT, "`mx`, `submission` or `lmtp`"),
    "user": Fact("string", "", Stage.CLIENT, 'the signed-in account, `""` for mail from outside'),
    "helo": Fact("string", "", Stage.SENDER, "the name the client gave in EHLO, HELO or LHLO"),
    "tls": Fact("bool", False, Stage.CLIENT, "whether the connection is encrypted"),
    "tls.version": Fact("string", "", Stage.CLIENT, '`TLSv1.3`, ... or `""`'),
    "mail_from": Fact("string", "", Stage.SENDER, 'the envelope sender in lower case, `""` for bounces'),
    "mail_from.local": Fact("string", "", Stage.SENDER, "its part before the @"),
    "mail_from.domain": Fact("string", "", Stage.SENDER, "its domain"),
    "rcpt": Fact("list(string)", [], Stage.RECIPIENT, "the recipients so far, in lower case"),
    "from": Fact("string", "", Stage.MESSAGE, "the address of the From field in lower case"),
    "from.local": Fact("string", "", Stage.MESSAGE, "its part before the @"),
    "from.domain": Fact("string", "", Stage.MESSAGE, "its domain"),
    "from.name": Fact("string", "", Stage.MESSAGE, "the name beside it"),
    "subject": Fact("string", "", Stage.MESSAGE, "the subject, decoded"),
    "header": Fact("map(string, string)", {}, Stage.MESSAGE, 'the first field of a name: `header["list-id"]`'),
    "size": Fact("int", 0, Stage.MESSAGE, "the size of the message in octets (before: the size announced)"),
    "attachments": Fact("list(string)", [], Stage.MESSAGE, "the file names of the parts, in lower case"),
    "found": Fact("map(string, string)", {}, Stage.CLIENT, 'the word a check found: `found["spf"] == "pass"`'),
    "facts": Fact("map(string, dyn)", {}, Stage.CLIENT, 'what a check tells besides: `facts["dkim"].domains`'),
    "score": Fact("double", 0.0, Stage.MESSAGE, "the sum of the points so far"),
    "time": Fact("timestamp", 0.0, Stage.CLIENT, "now: `time.getHours()`, `time.getDayOfWeek()` (UTC, 0 is Sunday)"),
}
"""Every fact, by its dotted name."""

HEADERS = (
    "auto-submitted", "content-type", "date", "errors-to", "from", "in-reply-to", "list-id", "list-unsubscribe",
    "message-id", "organization", "precedence", "reply-to", "sender", "subject", "to", "user-agent", "x-mailer",
)  # fmt: skip
"""The header fields kept with each verdict; those that the policy names are kept besides."""

# The form that nearly all have, read at a tenth of the cost: words or one quoted string, and an address.
_ATEXT = r"[\w!#$%&'*+/=?^`{|}~-]"
_PLAIN_AUTHOR = re.compile(
    rf"(?:(?:({_ATEXT}+(?: {_ATEXT}+)*)|\"([^\"\\\r\n]*)\") )?"
    rf"<({_ATEXT}+(?:\.{_ATEXT}+)*@{_ATEXT}+(?:\.{_ATEXT}+)*)>\Z"
    rf"|({_ATEXT}+(?:\.{_ATEXT}+)*@{_ATEXT}+(?:\.{_ATEXT}+)*)\Z",
    re.ASCII,
)

_MAX_TEXT = 300  # characters kept of one header field
_MAX_LIST = 50  # recipients and attachments kept


def of_session(session: Session, now: float) -> Facts:
    """What is known of a connection."""
    return {
        "time": now,
        "client.ip": session.peer_ip,
        "client.ptr": session.ptr,
        "client.early": session.early,
        "role": "submission" if session.user else session.role.value,
        "user": session.user,
        "helo": session.helo,
        "tls": session.tls is not None,
        "tls.version": session.tls.version if session.tls else "",
    }


def of_envelope(envelope: Envelope, *, known: bool = False) -> Facts:
    """What is known of a transaction besides its recipients."""
    facts = {"client.known": known, "size": envelope.size}
    return facts | _of_address("mail_from", envelope.mail_from)


def of_recipients(addresses: Iterable[Address]) -> Facts:
    """The recipients, at most 50 of them."""
    keys = [address.key for address in addresses]
    return {"rcpt": keys[:_MAX_LIST]}


def of_message(message: Message, headers: Iterable[str] = ()) -> Facts:
    """What is known of a message; ``headers`` are the fields, in lower case, that the policy reads besides."""
    wanted = {*HEADERS, *headers}
    header: dict[str, str] = {}
    for field in message.fields:
        name = field.name.lower()
        if name in wanted and name not in header:
            header[name] = field.decoded[:_MAX_TEXT]
    name, address = author(header.get("from", ""))
    return {
        **_of_address("from", address),
        "from.name": name,
        "subject": header.get("subject", ""),
        "header": header,
        "size": len(message),
        "attachments": attachment_names(message) if header.get("content-type") else [],
    }


def author(value: str) -> tuple[str, Address | None]:
    """Name and address of the first address of a decoded From field; None if it cannot be read."""
    if plain := _PLAIN_AUTHOR.match(value):
        name = plain[1] or plain[2] or ""
        try:
            return name, Address.parse(plain[3] or plain[4])
        except AddressError:
            return name, None
    for name, spec in read_addresses([value]):
        try:
            return name, Address.parse(spec)
        except AddressError:
            return name, None
    return "", None


def author_domains(message: Message) -> set[str]:
    """The domains of every address in every From field."""
    values = [field.value for field in message.get_all("From")]
    plain = _PLAIN_AUTHOR.match(values[0]) if len(values) == 1 else None
    specs = [plain[3] or plain[4]] if plain else [spec for _, spec in read_addresses(values)]
    found = set()
    for spec in specs:
        with suppress(AddressError):
            found.add(Address.parse(spec.encode("utf-8", "surrogateescape").decode("utf-8", "replace")).domain)
    return found


def attachment_names(message: Message) -> list[str]:
    """The file names that the parts of a message have, in lower case, in order, each once."""
    found: dict[str, None] = {}
    for part in message.tree.walk():
        if name := part.filename:
            found[name[:_MAX_TEXT].lower()] = None
            if len(found) >= _MAX_LIST:
                break
    return list(found)


def _of_address(name: str, address: Address | None) -> Facts:
    if address is None:
        return {name: "", f"{name}.local": "", f"{name}.domain": ""}
    return {name: address.key, f"{name}.local": address.local.casefold(), f"{name}.domain": address.domain}


def complete(given: Mapping[str, Any]) -> Facts:
    """Facts as someone writes them in a test, with what follows from them: ``from`` gives ``from.domain``..."""
    facts = dict(given)
    for name in ("from", "mail_from"):
        text = facts.get(name)
        if isinstance(text, str) and "@" in text:
            local, _, domain = text.lower().rpartition("@")
            facts = {f"{name}.local": local, f"{name}.domain": domain, **facts, name: text.lower()}
    if isinstance(facts.get("rcpt"), str):
        facts["rcpt"] = [facts["rcpt"]]
    if "rcpt" in facts:
        facts["rcpt"] = [rcpt.lower() for rcpt in facts["rcpt"]]
    if "header" in facts:
        facts["header"] = {key.lower(): value for key, value in facts["header"].items()}
        facts.setdefault("subject", facts["header"].get("subject", ""))
    return facts
