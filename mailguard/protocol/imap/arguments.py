"""What the simpler commands carry: names, parameters, passwords (RFC 9051 §6)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailguard.protocol.imap.sequence import SequenceSet


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE; ``response`` is the initial response, None if there is none (RFC 4959)."""

    mechanism: str
    response: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Id:
    """ID: what the client says of itself (RFC 2971)."""

    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Resync:
    """The QRESYNC parameter: what the client knew of the mailbox (RFC 7162 §3.2.5)."""

    uid_validity: int
    modseq: int
    known_uids: SequenceSet | None = None
    match_numbers: SequenceSet | None = None
    match_uids: SequenceSet | None = None


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT, or EXAMINE where ``read_only``."""

    mailbox: str
    read_only: bool
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE, with the special uses asked for (RFC 6154 §5)."""

    mailbox: str
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """One mailbox name, or the two of RENAME."""

    mailbox: str
    other: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS."""

    mailbox: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """ENABLE: words in capitals."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE, or UID EXPUNGE of a set (RFC 4315 §2.1)."""

    set: SequenceSet | None = None
    uid: bool = False
