"""Signals in the header: what a sender's fields give away before a word of the text is read."""

from __future__ import annotations

import re
from email.utils import mktime_tz, parsedate_tz

from .header import address_of, unword
from .name import BRAND, CHEAP_TLD, FREEMAIL, Signals, registered
from .part import Tree

_SHOWN = re.compile(r"[\w.+-]{1,64}@([\w-]{1,63}(?:\.[\w-]{1,63}){1,4})")
_DIGITS = re.compile(rb"[a-z]*\d{5,}|(?:[a-z]{1,3}\d{1,3}){4,}|[bcdfghjklmnpqrstvwxz]{7,}")
_PICTOGRAPH = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")
_REPLY = re.compile(r"(?:re|aw|sv|antw|res|回复)\s*(?:\[\d+\])?\s*[::]", re.I)
_DAY = 86400.0


def header_signals(tree: Tree, now: float | None = None) -> Signals:
    """What the header shows. ``now`` (Unix time) lets the Date be judged; None leaves that out."""
    found: Signals = {}
    _sender(tree, found)
    _subject(tree, found)
    _recipients(tree, found)
    if not tree.first(b"message-id"):
        found["id_none"] = ()
    _date(tree, now, found)
    _goodwill(tree, found)
    return found


def _sender(tree: Tree, found: Signals) -> None:
    display, local, domain = address_of(tree.first(b"from")[:1000])
    if not domain:
        found["from_none"] = ()
        return
    name = unword(display)
    shown = _SHOWN.search(name)
    if shown and registered(shown[1].lower().encode()) != registered(domain):
        found["from_names_other"] = (shown[0], text(local + b"@" + domain))
    _brand(name, domain, found)
    if _DIGITS.search(local) and len(local) > 8:
        found["from_random"] = (text(local + b"@" + domain),)
    if domain.rsplit(b".", 1)[-1] in CHEAP_TLD:
        found["from_cheap_tld"] = (text(domain),)
    _, _, reply = address_of(tree.first(b"reply-to")[:1000])
    if reply and registered(reply) != registered(domain):
        kind = "reply_freemail" if reply in FREEMAIL and domain not in FREEMAIL else "reply_elsewhere"
        found[kind] = (text(reply), text(domain))
    _, to_local, to_domain = address_of(tree.first(b"to")[:1000])
    if (to_local, to_domain) == (local, domain):
        found["from_is_to"] = ()


def _brand(name: str, domain: bytes, found: Signals) -> None:
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    for brand in words & BRAND.keys():
        if not any(own in domain for own in BRAND[brand]):
            found["from_brand"] = (brand, text(domain))


def _subject(tree: Tree, found: Signals) -> None:
    raw = tree.first(b"subject")[:1000]
    if not raw.strip():
        found["subject_none"] = ()
        return
    subject = unword(raw)
    letters = sum(map(str.isalpha, subject))
    if letters > 9 and subject.isupper():
        found["subject_shouts"] = ()
    marks = subject.count("!") + subject.count("$")
    if marks > 1:
        found["subject_exclaims"] = (str(marks),)
    if not subject.isascii() and _PICTOGRAPH.search(subject):
        found["subject_dressed"] = ()
    if b"=?" in raw and b"?b?" in raw.lower() and subject.isascii():
        found["subject_wrapped"] = ()
    if _REPLY.match(subject) and not (tree.first(b"in-reply-to") or tree.first(b"references")):
        found["reply_faked"] = ()


def _recipients(tree: Tree, found: Signals) -> None:
    to = tree.first(b"to")
    if b"undisclosed" in to.lower():
        found["to_undisclosed"] = ()
    elif not to and not tree.first(b"cc"):
        found["to_none"] = ()


def _date(tree: Tree, now: float | None, found: Signals) -> None:
    value = tree.first(b"date")
    if not value:
        found["date_none"] = ()
        return
    if now is None:
        return
    try:
        parsed = parsedate_tz(value[:100].decode("ascii", "replace"))
        off = now - mktime_tz(parsed) if parsed else None
    except (ValueError, OverflowError, TypeError):
        off = None
    if off is None:
        found["date_off"] = ("an unknown time",)
    elif off > 5 * _DAY or off < -_DAY:
        found["date_off"] = (f"{abs(off) / _DAY:.0f} days",)


def _goodwill(tree: Tree, found: Signals) -> None:
    if tree.first(b"in-reply-to") or tree.first(b"references"):
        found["is_answer"] = ()
    list_id = tree.first(b"list-id")
    if list_id and tree.first(b"list-post"):
        found["list_post"] = (text(list_id.rsplit(b"<", 1)[-1].strip(b"> "))[:80],)
    if b"one-click" in tree.first(b"list-unsubscribe-post").lower():
        found["one_click_leave"] = ()


def text(value: bytes) -> str:
    """Octets for a reason people read: no control characters, at most 100 long."""
    return "".join(c if c.isprintable() else "?" for c in value[:100].decode("utf-8", "replace"))
