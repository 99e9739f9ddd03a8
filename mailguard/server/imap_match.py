"""Searching by looking at every message: right for every key, quick for none."""

from __future__ import annotations

import datetime
from functools import cached_property

from mailguard.model.charset import decode_header
from mailguard.model.mime import Part, parse, unfold
from mailguard.protocol.imap import search
from mailguard.protocol.imap.describe import Description, describe, strip_tags
from mailguard.protocol.imap.search import Key
from mailguard.protocol.imap.sort import fold
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import ExpungedError

_DAY = 86_400
_EPOCH = datetime.date(1970, 1, 1).toordinal()


def matching(mailbox: Mailbox, key: Key, now: float) -> list[int]:
    """The UIDs of the messages that match, ascending; ``now`` is the Unix time that WITHIN counts from."""
    found = []
    for row in mailbox.rows(None, ("uid", "flags", "size", "date", "saved", "modseq")):
        candidate = _Candidate(mailbox, *row)
        try:
            if _matches(candidate, key, now):
                found.append(candidate.uid)
        except ExpungedError:
            continue
    return found


class _Candidate:
    def __init__(self, mailbox: Mailbox, uid: int, flags: str, size: int, date: int, saved: int, modseq: int) -> None:
        self.mailbox, self.uid, self.size, self.date, self.saved, self.modseq = mailbox, uid, size, date, saved, modseq
        self.flags = flags.lower().split()

    @cached_property
    def raw(self) -> bytes:
        return self.mailbox.raw(self.uid)

    @cached_property
    def root(self) -> Part:
        return parse(self.raw)

    @cached_property
    def described(self) -> Description:
        return describe(self.raw)

    @cached_property
    def header(self) -> str:
        return fold(decode_header(unfold(self.root.header.replace(b"\r\n", b" "))))

    @cached_property
    def body(self) -> str:
        return fold(" ".join(_texts(self.root)))

    def values(self, name: str) -> list[str]:
        return [fold(decode_header(unfold(value))) for value in self.root.fields.get(name.encode(), ())]


def _texts(root: Part) -> list[str]:
    found = []
    for part in root.walk():
        kind = part.kind
        if kind.startswith("text/"):
            text = part.text()
            found.append(strip_tags(text) if kind == "text/html" else text)
        elif kind == "message/rfc822":
            found += [decode_header(child.header) for child in part.children]
        if part is not root:
            found.append(decode_header(part.header))
    return found


def _matches(message: _Candidate, key: Key, now: float) -> bool:
    match key:
        case search.All():
            return True
        case search.And(keys):
            return all(_matches(message, each, now) for each in keys)
        case search.Or(left, right):
            return _matches(message, left, now) or _matches(message, right, now)
        case search.Not(inner):
            return not _matches(message, inner, now)
        case search.Flag(name):
            return name.lower() in message.flags
        case search.Uids(ranges):
            return any(low <= message.uid <= high for low, high in ranges)
        case search.Size(larger, octets):
            return message.size > octets if larger else message.size < octets
        case search.Within(younger, seconds):
            return (message.date >= now - seconds) == younger
        case search.ModSeq(value):
            return message.modseq >= value
        case search.Date(kind, relation, day):
            return _dated(message, kind, relation, day.toordinal() - _EPOCH)
        case _:
            return _contains(message, key)


def _contains(message: _Candidate, key: Key) -> bool:
    match key:
        case search.Header(name, text):
            wanted = fold(text)
            if name in ("from", "to", "cc", "bcc", "subject"):
                value = getattr(message.described, "from_" if name == "from" else name)
                return value is not None and (wanted in value or any(wanted in v for v in message.values(name)))
            return any(wanted in value for value in message.values(name))
        case search.Body(text):
            return fold(text) in message.body
        case search.Text(text):
            return fold(text) in message.header or fold(text) in message.body
    return False


def _dated(message: _Candidate, kind: str, relation: str, day: int) -> bool:
    if kind == "sent":
        found = message.described.sent_day
        mine = message.date // _DAY if found is None else found
    else:
        mine = (message.date if kind == "internal" else message.saved) // _DAY
    return mine < day if relation == "before" else mine == day if relation == "on" else mine >= day
