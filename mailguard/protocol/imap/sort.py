"""Sort keys: base subject, collation, sent date (RFC 5256 §2), display names (RFC 5957)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from mailguard.model.charset import decode_header
from mailguard.protocol.imap.address import Mailbox

_SPACES = re.compile(r"[ \t\r\n]+")
_TRAILER = re.compile(r"(?:[ \t]|\(fwd\))+\Z", re.I)
_BLOB = r"\[[^\[\]]*\][ \t]*"
_LEADER = re.compile(rf"(?:{_BLOB})*(?:re|fwd?)[ \t]*(?:{_BLOB})?:|[ \t]+", re.I)
_LEADING_BLOB = re.compile(_BLOB)
_FWD = re.compile(r"\[fwd:(.*)\]\Z", re.I | re.S)
_DATE = re.compile(
    r"\s*(?:[A-Za-z]+\s*,?\s*)?(\d{1,2})[\s\-]+([A-Za-z]{3})[A-Za-z]*[\s\-]+(\d{2,4})"
    r"(?:[\s,]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d+)?)?\s*(?:([+-])(\d\d):?(\d\d)|([A-Za-z]{1,5}))?)?"
)
_ASCTIME = re.compile(
    r"\s*[A-Za-z]+,?\s+([A-Za-z]{3})[a-z]*\s+(\d{1,2})\s+(\d{1,2}):(\d{1,2}):(\d{1,2})\s+(?:[A-Za-z]+\s+)?(\d{4})"
)
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: n + 1 for n, name in enumerate(_MONTH_NAMES)}
_ZONES = {"ut": 0, "gmt": 0, "utc": 0, "z": 0, "est": -300, "edt": -240, "cst": -360, "cdt": -300, "mst": -420,
          "mdt": -360, "pst": -480, "pdt": -420, "cet": 60, "cest": 120, "met": 60, "bst": 60, "jst": 540}  # fmt: skip
_EPOCH = date(1970, 1, 1).toordinal()


MAX_SUBJECT = 1_000
"""Characters of a subject that are looked at for its base subject."""


@dataclass(frozen=True, slots=True)
class SortKey:
    """One criterion: ``name`` is ARRIVAL, CC, DATE, FROM, SIZE, SUBJECT, TO, DISPLAYFROM or DISPLAYTO."""

    name: str
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class SentDate:
    """A Date field: ``at`` seconds since 1970 in UTC, ``day`` the day it names itself, as days since 1970."""

    at: int
    day: int


def collation(text: str) -> str:
    """The key to compare under i;unicode-casemap: titlecase, then decomposed (RFC 5051)."""
    if text.isascii():
        return text.upper()
    return unicodedata.normalize("NFKD", "".join([c.title() if len(c.title()) == 1 else c for c in text]))


def fold(text: str) -> str:
    """The form in which SEARCH compares: decomposed, case folded, white space collapsed."""
    text = _SPACES.sub(" ", text)
    return (
        text.lower()
        if text.isascii()
        else unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    )


def base_subject(subject: str) -> tuple[str, bool]:
    """The base subject and whether anything that says reply or forward was taken off (RFC 5256 §2.1).

    ``subject`` is decoded and unfolded. The result keeps its case.
    """
    text = _SPACES.sub(" ", subject[:MAX_SUBJECT]).strip(" ")
    changed = False
    while True:
        trimmed = _TRAILER.sub("", text)
        changed = changed or (trimmed != text and "(" in text[len(trimmed) :])
        text, replied = _strip_leaders(trimmed)
        changed = changed or replied
        match = _FWD.match(text)
        if not match:
            return text, changed
        text, changed = match[1], True


def _strip_leaders(text: str) -> tuple[str, bool]:
    at, changed = 0, False
    while at < len(text):
        if match := _LEADER.match(text, at):
            changed = changed or ":" in match[0]
            at = match.end()
        elif (match := _LEADING_BLOB.match(text, at)) and match.end() < len(text):
            if text[match.end() :].strip(" \t") == "":
                break
            at = match.end()
        else:
            break
    return text[at:], changed


def sent_date(value: bytes | None) -> SentDate | None:
    """What a Date field says (RFC 5322 §3.3, §4.3); None where no date can be read in it."""
    if not value:
        return None
    text = value[:200].decode("latin-1")
    try:
        if match := _DATE.match(text):
            day, month, year, hour, minute, second, sign, zh, zm, zone = match.groups()
            offset = (
                (int(zh) * 60 + int(zm)) * (-1 if sign == "-" else 1) if sign else _ZONES.get((zone or "").lower(), 0)
            )
            return _sent(_year(year), month, day, hour, minute, second, offset)
        if match := _ASCTIME.match(text):
            month, day, hour, minute, second, year = match.groups()
            return _sent(int(year), month, day, hour, minute, second, 0)
    except (ValueError, KeyError):
        pass
    return None


def _year(text: str) -> int:
    year = int(text)
    if len(text) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year


def _sent(year: int, month: str, day: str, hour: str | None, minute: str | None, second: str | None,
          offset: int) -> SentDate:  # fmt: skip
    if year < 1900:
        raise ValueError("no year of a message (RFC 5322 §3.3)")
    days = date(year, _MONTHS[month.lower()], int(day)).toordinal() - _EPOCH
    h, m, s = int(hour or 0), int(minute or 0), int(second or 0)
    if h > 24 or m > 59 or s > 60:
        raise ValueError("no such time of day")
    return SentDate(days * 86400 + h * 3600 + m * 60 + s - offset * 60, days)


def mailbox_key(addresses: Sequence[Mailbox]) -> str:
    """SORT FROM, TO, CC: the local part of the first address (RFC 5256 §3), collated."""
    return collation((addresses[0].local or b"").decode("utf-8", "replace")) if addresses else ""


def display_key(addresses: Sequence[Mailbox]) -> str:
    """SORT DISPLAYFROM, DISPLAYTO: the name shown, else the address (RFC 5957 §3), collated."""
    for a in addresses:
        if a.local is None:
            continue
        if a.domain is None:
            return collation(decode_header(a.local))
        if a.name:
            return collation(decode_header(a.name))
        return collation(f"{a.local.decode('utf-8', 'replace')}@{a.domain.decode('utf-8', 'replace')}")
    return ""
