"""What a reader would see of a message: decoded, normalised, lower-case UTF-8 text, and the tricks played on it."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from .part import Part, Tree, decode

MAX_TEXT = 40 * 1024
_MAX_ENTITIES = 4000

_CHARSET = re.compile(
    r"utf-?8|us-ascii|ascii|iso-?8859-?\d+|latin-?1|windows-?12\d\d|cp12\d\d|gb2312|gbk|gb18030|big5|euc-\w+"
    r"|shift[_-]jis|iso-2022-\w+|koi8-\w|tis-620"
)
_INVISIBLE = re.compile("[\u00ad\u034f\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]+")
_BROKEN = re.compile("[a-z][\u00ad\u180e\u200b-\u200d\u2060-\u2064\ufeff]+[a-z]", re.I)
_MIXED = re.compile("[a-z][\u0370-\u052f]|[\u0370-\u052f][a-z]")
_TWIN = str.maketrans("аеорсухіѕјԁһкмтвнгαοριυνκτ", "aeopcyxisjdhkmtbhraopiuvkt")

_COMMENT = re.compile(rb"<!--.{0,2000}?-->", re.S)
_SPLIT = re.compile(rb"[a-z]<!--[^>]{0,80}-->[a-z]")
_DROP = re.compile(rb"<(script|style|title)\b.{0,20000}?</\1\s*>", re.S)
_HIDDEN = re.compile(
    rb"<(div|span|p|font|td)\b[^>]{0,400}?(?:display\s*:\s*none|font-size\s*:\s*[01](?:px|pt)?\s*[;\"']|visibility\s*:\s*hidden"
    rb"|opacity\s*:\s*0\s*[;\"'])[^>]{0,400}>(.{0,4000}?)</\1",
    re.S,
)
_INLINE = re.compile(rb"</?(?:b|i|u|em|strong|font|span|big|small|sup|sub|wbr|o:p)\b[^>]{0,1000}>")
_TAG = re.compile(rb"<(/?[a-z!][a-z0-9:]{0,15})([^>]{0,3000})>")
_URL = re.compile(rb"(?:https?|ftp)://[^\s\"'<>\\)\]]{3,400}|\bwww\.[a-z0-9.-]{4,100}(?:/[^\s\"'<>\\)\]]{0,200})?")
_LINK = re.compile(rb"<a\b[^>]{0,600}?href\s*=\s*[\"']?\s*([^\s\"'>]{4,400})[^>]{0,600}>(.{0,400}?)</a", re.S)
_UPPER = bytes(range(65, 91))


@dataclass(slots=True)
class Seen:
    """The readable content of a message and counts of what was done to hide or dress it."""

    text: bytes = b""
    urls: list[bytes] = field(default_factory=list)
    links: list[tuple[bytes, bytes]] = field(default_factory=list)
    tags: Counter[bytes] = field(default_factory=Counter)
    markup: bytes = b""
    charsets: set[bytes] = field(default_factory=set)
    plain_size: int = 0
    html_size: int = 0
    html_text_size: int = 0
    hidden: int = 0
    invisible: int = 0
    mixed: int = 0
    mixed_sample: str = ""
    broken: int = 0
    scripts: int = 0
    comments: int = 0
    split: int = 0
    shouting: float = 0.0
    upper: float = 0.0


def to_text(data: bytes, charset: bytes) -> str:
    """Decode with the named charset when it is a known text encoding, else as UTF-8, else as Latin-1."""
    name = charset.decode("ascii", "replace").strip().lower()
    if _CHARSET.fullmatch(name):
        try:
            return data.decode(name, "replace")
        except LookupError:
            pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def tidy(text: str, seen: Seen) -> str:
    """Lower case, compatible forms folded, invisible characters out, look-alikes put back; counted in `seen`."""
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    if _INVISIBLE.search(text):
        before = len(text)
        seen.broken += len(_BROKEN.findall(text))
        text = _INVISIBLE.sub("", text)
        seen.invisible += before - len(text)
    text = text.lower()
    if _MIXED.search(text):
        words = text.split(" ")
        for i, word in enumerate(words):
            if _MIXED.search(word):
                seen.mixed_sample = seen.mixed_sample or word
                words[i] = word.translate(_TWIN)
                seen.mixed += 1
        text = " ".join(words)
    return text


def look(tree: Tree) -> Seen:
    """Collect the text of all text parts, up to 40 KiB; attachments that claim to be text count too, but last."""
    seen = Seen()
    leaves = [p for p in tree.parts if p.kind.startswith(b"text/") and p.kind not in (b"text/calendar", b"text/css")]
    pieces: list[bytes] = []
    room = MAX_TEXT
    for part in sorted(leaves, key=lambda p: p.disposition == b"attachment"):
        if room <= 0:
            break
        piece = _leaf(part, seen, room)
        room -= len(piece)
        pieces.append(piece)
    seen.text = b"\n".join(pieces)
    return seen


def _leaf(part: Part, seen: Seen, room: int) -> bytes:
    body = decode(part.body, part.encoding)[: MAX_TEXT * 2]
    part.plain = body.isascii()
    charset = part.params.get(b"charset", b"")
    seen.charsets.add(charset.lower()[:20])
    size = len(body)
    upper = size - len(body.translate(None, _UPPER))
    if not body.isascii() or charset.startswith((b"iso-2022", b"ISO-2022")):
        body = tidy(to_text(body, charset), seen).encode("utf-8", "replace")
    else:
        body = body.lower()
    if part.kind == b"text/html" or body.lstrip()[:14].startswith((b"<html", b"<!doctype html")):
        seen.html_size += len(body)
        body = _html(body, seen)
        seen.html_text_size += len(body)
    else:
        seen.plain_size += len(body)
        seen.urls += _URL.findall(body[:MAX_TEXT])
    if size > 40:
        seen.upper = max(seen.upper, upper / size)
    if len(body) > 40 and not seen.html_size:
        seen.shouting = max(seen.shouting, upper / len(body))
    return body[:room]


def _html(body: bytes, seen: Seen) -> bytes:
    seen.urls += _URL.findall(body)
    if b"<!--" in body:
        seen.split += len(_SPLIT.findall(body))
        body, n = _COMMENT.subn(b"", body)
        seen.comments += n
    seen.scripts += body.count(b"<script")
    body = _DROP.sub(b" ", body)
    if b"<a" in body:
        seen.links += [(href, _TAG.sub(b"", label).strip()) for href, label in _LINK.findall(body)[:60]]
    if b"display" in body or b"font-size" in body or b"hidden" in body or b"opacity" in body:
        seen.hidden += sum(len(m[1]) for m in _HIDDEN.findall(body))
    found = _TAG.findall(body)
    seen.tags.update([name for name, _ in found[:2000]])
    seen.markup += b" ".join([attrs for _, attrs in found[:300]])[:8192]
    body = _TAG.sub(b" ", _INLINE.sub(b"", body))
    if b"&" in body:
        if body.count(b"&") <= _MAX_ENTITIES:
            text = html.unescape(body.decode("utf-8", "replace"))
            body = (text.lower() if text.isascii() else tidy(text, seen)).encode("utf-8", "replace")
        else:
            seen.hidden += body.count(b"&")
    return body
