"""What a reader would see of a message: decoded, normalised, lower-case UTF-8 text, and the tricks played on it."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from .part import Part, Tree, decode

MAX_TEXT = 16 * 1024
MAX_BODY = 32 * 1024
_MAX_ENTITIES = 4000

_CHARSET = re.compile(
    r"utf-?8|us-ascii|ascii|iso-?8859-?\d+|latin-?1|windows-?12\d\d|cp12\d\d|gb2312|gbk|gb18030|big5|euc-\w+"
    r"|shift[_-]jis|iso-2022-\w+|koi8-\w|tis-620"
)
_INVISIBLE = re.compile("[\u00ad\u034f\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]+")
_INVISIBLE_SIGNS = (
    *(b"\xc2\xad", b"\xcd\x8f", b"\xe1\x85\x9f", b"\xe1\x85\xa0", b"\xe1\xa0\x8e", b"\xe2\x80\x8b", b"\xe2\x80\x8c"),
    *(
        b"\xe2\x80\x8d",
        b"\xe2\x80\x8e",
        b"\xe2\x80\x8f",
        b"\xe2\x80\xaa",
        b"\xe2\x80\xab",
        b"\xe2\x80\xac",
        b"\xe2\x80\xad",
    ),
    *(
        b"\xe2\x80\xae",
        b"\xe2\x81\xa0",
        b"\xe2\x81\xa1",
        b"\xe2\x81\xa2",
        b"\xe2\x81\xa3",
        b"\xe2\x81\xa4",
        b"\xef\xb8",
    ),
    b"\xef\xbb\xbf",
)
_GREEK_CYRILLIC = bytes(range(0xCD, 0xD5))  # first octets of U+0340 to U+053F
_BROKEN = re.compile("[a-z][\u00ad\u180e\u200b-\u200d\u2060-\u2064\ufeff]+[a-z]", re.I)
_MIXED = re.compile("[a-z][\u0370-\u052f]|[\u0370-\u052f][a-z]")
_TWIN = str.maketrans("аеорсухіѕјԁһкмтвнгαοριυνκτ", "aeopcyxisjdhkmtbhraopiuvkt")

_SPLIT = re.compile(rb"[a-z]<!--[^>]{0,80}-->[a-z]")
_DROPPED = (b"script", b"style", b"title")
_HIDING = re.compile(
    rb"display\s*:\s*none|font-size\s*:\s*[01](?:px|pt)?\s*(?:[;\"']|$)|visibility\s*:\s*hidden|opacity\s*:\s*0\s*(?:[;\"']|$)"
)
_MAY_HIDE = (b"none", b"hidden", b"opacity", b"size:0", b"size: 0", b"size:1", b"size: 1")
_INLINE = frozenset(b"b i u em strong font span big small sup sub wbr o:p".split())
_INLINE_TAGS = _INLINE | {b"/" + name for name in _INLINE}
_TAG = re.compile(rb"<(/?[a-z!][a-z0-9:]{0,15})([^<>]{0,3000})>")
# Patterns that begin with a literal are searched at memory speed; the scheme before "://" does not matter.
_URL = re.compile(rb"://([^\s\"'<>\\)\]]{3,400})")
_BARE_URL = re.compile(rb"www\.[a-z0-9.-]{4,100}(?:/[^\s\"'<>\\)\]]{0,200})?")
_HREF = re.compile(rb"href\s*=\s*[\"']?\s*([^\s\"'>]{4,400})")
_UPPER = bytes(range(65, 91))
_MAX_LINKS = 40


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
    quoted: int = 0
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


def tidy(text: str, seen: Seen) -> bytes:
    """Lower-case UTF-8, compatible forms folded, invisible characters out, look-alikes put back; counted in `seen`."""
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    data = text.encode("utf-8", "replace")
    # Whether there is anything to do is seen in the octets, at a tenth of the price of a pattern over characters.
    if any(sign in data for sign in _INVISIBLE_SIGNS):
        before = len(text)
        seen.broken += len(_BROKEN.findall(text))
        text = _INVISIBLE.sub("", text)
        seen.invisible += before - len(text)
    text = text.lower()
    if len(data.translate(None, _GREEK_CYRILLIC)) < len(data) and _MIXED.search(text):
        words = text.split(" ")
        for i, word in enumerate(words):
            if _MIXED.search(word):
                seen.mixed_sample = seen.mixed_sample or word
                words[i] = word.translate(_TWIN)
                seen.mixed += 1
        text = " ".join(words)
    return text.encode("utf-8", "replace")


def look(tree: Tree) -> Seen:
    """Collect the text of all text parts, up to 16 KiB; attachments that claim to be text count too, but last."""
    seen = Seen()
    leaves = [p for p in tree.parts if p.kind.startswith(b"text/") and p.kind not in (b"text/calendar", b"text/css")]
    if len(leaves) > 1:
        leaves.sort(key=lambda p: p.disposition == b"attachment")
    pieces: list[bytes] = []
    room, work = MAX_TEXT, 2 * MAX_BODY
    for part in leaves:
        if room <= 0 or work <= 0:
            break
        body = decode(part.body[: 2 * MAX_BODY], part.encoding)[: min(work, MAX_BODY)]
        work -= len(body)
        piece = _leaf(part, body, seen)[:room]
        room -= len(piece)
        pieces.append(piece)
    seen.text = b"\n".join(pieces)
    return seen


def _leaf(part: Part, body: bytes, seen: Seen) -> bytes:
    part.plain = ascii_only = body.isascii()
    charset = part.params.get(b"charset", b"")
    seen.charsets.add(charset.lower()[:20])
    size = len(body)
    if not ascii_only or charset[:8].lower() == b"iso-2022":
        upper = size - len(body.translate(None, _UPPER))
        body = tidy(to_text(body, charset), seen)
    else:
        lower = body.lower()
        upper = size - len(body.translate(None, _UPPER))
        body = lower
    if part.kind == b"text/html" or body[:100].lstrip().startswith((b"<html", b"<!doctype html")):
        seen.html_size += len(body)
        body = _html(body, seen)
        seen.html_text_size += len(body)
    else:
        seen.plain_size += len(body)
        seen.urls += urls_in(body)
        seen.quoted += body.count(b"\n>")
    if size > 40:
        seen.upper = max(seen.upper, upper / size)
    if len(body) > 40 and not seen.html_size:
        seen.shouting = max(seen.shouting, upper / len(body))
    return body


def urls_in(body: bytes) -> list[bytes]:
    """What follows ``://`` in a lower-case text, and what begins with ``www.`` without one."""
    found: list[bytes] = _URL.findall(body) if b"://" in body else []
    if body.count(b"www.") > body.count(b"://www."):
        ends = b"/.@-"
        found += [m[0] for m in _BARE_URL.finditer(body) if body[max(0, m.start() - 1) : m.start()] not in ends]
    return found


def _html(body: bytes, seen: Seen) -> bytes:
    seen.urls += urls_in(body)
    if b"<!--" in body:
        seen.split += len(_SPLIT.findall(body))
        body = _without_comments(body, seen)
    for name in _DROPPED:
        if b"<" + name in body:
            seen.scripts += body.count(b"<script") if name == b"script" else 0
            body = _without_element(body, name)
    pieces = _TAG.split(body)
    names, attributes, texts = pieces[1::3], pieces[2::3], pieces[3::3]
    seen.tags.update(names)
    if b"a" in names:
        seen.links += _links(names, attributes, texts)
    markup = b" ".join(attributes[:300])
    seen.markup += markup[:8192]
    if b"display" in markup or b"font-size" in markup or b"hidden" in markup or b"opacity" in markup:
        seen.hidden += _hidden(names, attributes[:300], texts)
    joined = [text if name in _INLINE_TAGS else b" " + text for name, text in zip(names, texts, strict=True)]
    body = pieces[0] + b"".join(joined)
    return _entities(body, seen) if b"&" in body else body


def _without_comments(body: bytes, seen: Seen) -> bytes:
    first, *rest = body.split(b"<!--")
    seen.comments += len(rest)
    return first + b"".join([piece.partition(b"-->")[2] or piece[:80] for piece in rest])


def _without_element(body: bytes, name: bytes) -> bytes:
    """The text without these elements and what is in them; one that never ends is left."""
    start, end = b"<" + name, b"</" + name
    kept, at = [], 0
    while (begin := body.find(start, at)) >= 0 and (stop := body.find(end, begin)) >= 0:
        kept.append(body[at:begin])
        at = stop + len(end) + 1
    return b" ".join([*kept, body[at:]])


def _links(names: list[bytes], attributes: list[bytes], texts: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Targets and labels of the first links whose label could name a host."""
    found: list[tuple[bytes, bytes]] = []
    for i, name in enumerate(names):
        if name != b"a" or not (href := _HREF.search(attributes[i])):
            continue
        end = next((j for j in range(i + 1, min(i + 9, len(names))) if names[j] in (b"/a", b"a")), i + 1)
        label = b"".join(texts[i:end]).strip()
        if b"." in label and len(label) < 100:
            found.append((href[1], label))
            if len(found) == _MAX_LINKS:
                break
    return found


def _hidden(names: list[bytes], attributes: list[bytes], texts: list[bytes]) -> int:
    total = 0
    for i, attribute in enumerate(attributes):
        if attribute and any(sign in attribute for sign in _MAY_HIDE) and _HIDING.search(attribute):
            end = b"/" + names[i]
            for j in range(i, min(len(names), i + 60)):
                if j > i and names[j] == end:
                    break
                total += len(texts[j])
    return total


def _entities(body: bytes, seen: Seen) -> bytes:
    body = body.replace(b"&nbsp;", b" ")
    count = body.count(b"&")
    if not count:
        return body
    if count > _MAX_ENTITIES:
        seen.hidden += count
        return body
    text = html.unescape(body.decode("utf-8", "replace"))
    return text.lower().encode() if text.isascii() else tidy(text, seen)
