"""From a message to features: words, tagged tokens and 4-grams, all as bytes or integers, with nothing learnt yet."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from .header import address_of, header_tokens, local_tokens, subject_of
from .name import registered
from .part import Tree, walk
from .visible import Seen, look

MAX_WORDS = 1000
MAX_GRAM = 2048
MAX_URLS = 30
_WORD_TEXT = 14 * 1024
_GRAM_TEXT = 1000

WORD = re.compile(rb"[a-z0-9'\x80-\xbf\xc2-\xe2\xee-\xf4-]{1,24}|[\xe3-\xed][\x80-\xbf]{2}|[$!%]+")
_WIDE = re.compile(rb"[\xe3-\xed]")
# Everything that is no part of a word becomes a space; $ ! % stand alone.
_APART = bytes(c if c > 127 or chr(c).isalnum() or c in b"'-$!%" else 32 for c in range(256))
_HOST = re.compile(rb"(?:[a-z]+://)?(?:([^/@?#]*)@)?([^/:?#]*)(?::(\d+))?([^?#]*)(.*)", re.S)
_PATHWORD = re.compile(rb"[a-z]{3,20}")
_STYLE = re.compile(rb"([a-z-]{3,24})\s*:\s*([^;\"'>]{1,20})")
_ATTR = re.compile(rb"\b([a-z]{2,12})\s*=\s*[\"']?([a-z0-9#%.-]{1,14})")
_COUNTED = (b"img", b"a", b"table", b"font", b"br", b"p", b"div")


@dataclass(frozen=True, slots=True)
class Url:
    """A URL taken apart, in lower case; ``name`` is the registrable part of ``host``."""

    whole: bytes
    user: bytes
    host: bytes
    port: bytes
    path: bytes
    rest: bytes
    name: bytes


@dataclass(slots=True)
class Features:
    """All that the learners are given. `words` keep their order; the other lists are sets in all but name. `dress` are
    the tags of what the text comes in: links, parts, HTML."""

    words: list[bytes]
    tags: list[bytes]
    dress: list[bytes]
    local: list[bytes]
    gram: bytes
    tree: Tree
    seen: Seen
    urls: list[Url] = field(default_factory=list)


def words_of(text: bytes, most: int | None = None) -> list[bytes]:
    """The words of a lower-case UTF-8 text, the first ``most`` if given: letters, digits, ' and -; each sign of $ ! %;
    each wide character."""
    if not text.isascii() and _WIDE.search(text):
        found: list[bytes] = WORD.findall(text)
        return found[:most]
    for mark in (b"$", b"!", b"%"):
        if mark in text:
            text = text.replace(mark, b" " + mark + b" ")
    return text.translate(_APART).split(None, -1 if most is None else most)[:most]


def split_url(url: bytes) -> Url:
    """Takes a lower-case URL apart, with or without its scheme."""
    if b"%" in url:
        url = unquote_to_bytes(url)
    match = _HOST.match(url)
    user, host, port, path, rest = match.groups(b"") if match else (b"", b"", b"", b"", b"")
    host = host.strip(b".")
    return Url(url, user, host, port, path, rest, registered(host))


def url_tokens(urls: list[Url], sender: bytes) -> list[bytes]:
    """Tokens of links; ``sender`` is the registrable domain of the From address."""
    out: set[bytes] = set()
    hosts = set()
    own = 0
    for url in urls:
        host, path, reg = url.host, url.path, url.name
        own += reg == sender
        out.update([b"up:" + w for w in _PATHWORD.findall(path)[:8]])
        out.add(b"ux:" + path.rsplit(b".", 1)[-1][:5] if b"." in path[-6:] else b"ux:")
        out.add(b"ul:%d" % (len(path) + len(url.rest)).bit_length())
        if url.port:
            out.add(b"uport:" + url.port)
        if url.user:
            out.add(b"uuser")
        if host in hosts:
            continue
        hosts.add(host)
        out |= {b"uh:" + host, b"ur:" + reg, b"ut:" + host.rsplit(b".", 1)[-1][:12], b"un:%d" % host.count(b".")}
        if host.replace(b".", b"").isdigit():
            out.add(b"uip")
        if b"xn--" in host:
            out.add(b"uidn")
        if b"-" in reg:
            out.add(b"udash:%d" % min(3, reg.count(b"-")))
        if any(48 <= c < 58 for c in reg):
            out.add(b"udigit")
    out.add(b"urls:%d" % len(urls).bit_length())
    out.add(b"hosts:%d" % len(hosts).bit_length())
    if urls:
        out.add(b"uown:%d" % (3 * own // len(urls)))
    return list(out)


def shape_tokens(tree: Tree, seen: Seen) -> list[bytes]:
    """MIME structure, attachments, charsets and HTML make-up."""
    out: set[bytes] = set()
    kinds = []
    for part in tree.parts:
        kinds.append(part.kind)
        out |= {b"k:" + part.kind, b"cte:" + part.kind[:5] + b":" + part.encoding}
        if part.filename:
            name = part.filename.lower()
            out |= {b"fx:" + name.rsplit(b".", 1)[-1][-8:], b"fn:%d" % len(name).bit_length()}
            out.update([b"fw:" + w for w in _PATHWORD.findall(name)[:6]])
        if part.disposition:
            out.add(b"disp:" + part.disposition)
        if not part.kind.startswith((b"text/", b"multipart/")):
            out.add(b"size:" + part.kind[:12] + b":%d" % part.size.bit_length())
    out.add(b"tree:" + b">".join(kinds[:6]))
    out.update([b"cs:" + c for c in seen.charsets])
    if seen.html_size:
        out.update(_markup_tokens(seen))
    for name, value in (
        (b"plain", seen.plain_size),
        (b"html", seen.html_size),
        (b"htext", seen.html_text_size),
        (b"hidden", seen.hidden),
        (b"invis", seen.invisible),
        (b"mixed", seen.mixed),
        (b"comm", seen.comments),
        (b"quoted", seen.quoted),
        (b"caps", int(seen.upper * 20)),
    ):
        out.add(b"n:" + name + b":%d" % value.bit_length())
    if b"\n-- \n" in seen.text or b"\n-- \r\n" in seen.text:
        out.add(b"n:sig")
    out.add(b"noalt:%d" % (seen.html_size > 0 and seen.plain_size == 0))
    return list(out)


def _markup_tokens(seen: Seen) -> list[bytes]:
    markup = seen.markup[:4096]
    tags = seen.tags
    out = [b"t:" + t for t in tags if t[:1] != b"/"]
    out += [b"tn:" + t + b":%d" % tags[t].bit_length() for t in _COUNTED if t in tags]
    out += [b"st:" + k + b":" + v.strip() for k, v in _STYLE.findall(markup)[:80]]
    out += [b"at:" + k + b"=" + v for k, v in _ATTR.findall(markup)[:80]]
    out.append(b"n:ratio:%d" % (10 * seen.html_text_size // seen.html_size))
    return out


def extract(raw: bytes) -> Features:
    """Everything a message says about itself. Bounded time and memory whatever the input; never raises."""
    tree = walk(raw)
    seen = look(tree)
    subject = subject_of(tree)
    sender = registered(address_of(tree.first(b"from")[:1000])[2])
    words = words_of(subject + b" . " + seen.text[:_WORD_TEXT], MAX_WORDS)
    urls = [split_url(u) for u in list(dict.fromkeys(seen.urls))[:MAX_URLS]]
    tags = header_tokens(tree, subject, words_of)
    dress = url_tokens(urls, sender) + shape_tokens(tree, seen)
    heads = [tree.first(n)[:160] for n in (b"from", b"reply-to")]
    heads += [subject[:160]]
    heads += [tree.first(n)[:160] for n in (b"x-mailer", b"user-agent", b"content-type", b"content-transfer-encoding")]
    gram = b"\n".join(heads) + b"\n" + beginning(seen.text[:4000])
    return Features(words, tags, dress, local_tokens(tree), gram[:MAX_GRAM], tree, seen, urls)


def beginning(text: bytes) -> bytes:
    """The first octets of a text, runs of white space made one space each."""
    begun = b" ".join(text[: _GRAM_TEXT * 3 // 2].split())
    return (begun if len(begun) >= _GRAM_TEXT else b" ".join(text.split()))[:_GRAM_TEXT]
