"""From a message to features: words, tagged tokens and 4-grams, all as bytes or integers, with nothing learnt yet."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from .header import header_tokens, local_tokens, subject_of
from .part import Tree, walk
from .visible import Seen, look

MAX_WORDS = 1500
MAX_URLS = 40

WORD = re.compile(rb"[\xe3-\xed][\x80-\xbf]{2}|[a-z0-9'\x80-\xbf\xc2-\xe2\xee-\xf4-]{1,24}|[$!%]+")
_HOST = re.compile(rb"(?:[a-z]+://)?(?:([^/@?#]*)@)?([^/:?#]*)(?::(\d+))?([^?#]*)(.*)", re.S)
_PATHWORD = re.compile(rb"[a-z]{3,20}")
_STYLE = re.compile(rb"([a-z-]{3,24})\s*:\s*([^;\"'>]{1,20})")
_ATTR = re.compile(rb"\b([a-z]{2,12})\s*=\s*[\"']?([a-z0-9#%.-]{1,14})")
_SECOND = frozenset(b"co com net org gov edu ac or ne go".split())


@dataclass(slots=True)
class Features:
    """All that the learners are given. `words` keep their order; the other lists are sets in all but name."""

    words: list[bytes]
    tags: list[bytes]
    local: list[bytes]
    gram: bytes
    tree: Tree
    seen: Seen
    extra: list[bytes] = field(default_factory=list)


def registered(host: bytes) -> bytes:
    """The registrable part of a host name by rule of thumb: two labels, three below `co.uk` and its like."""
    labels = host.split(b".")
    if len(labels) > 2 and labels[-2] in _SECOND and len(labels[-1]) == 2:
        return b".".join(labels[-3:])
    return b".".join(labels[-2:])


def split_url(url: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """(user information, host, port, path, rest) of a lower-case URL."""
    match = _HOST.match(url)
    user, host, port, path, rest = match.groups(b"") if match else (b"", b"", b"", b"", b"")
    return user, host.strip(b"."), port, path, rest


def url_tokens(urls: list[bytes]) -> list[bytes]:
    out: set[bytes] = set()
    distinct = list(dict.fromkeys(urls))
    hosts = set()
    for url in distinct[:MAX_URLS]:
        if b"%" in url:
            url = unquote_to_bytes(url)
        user, host, port, path, rest = split_url(url)
        hosts.add(host)
        reg = registered(host)
        out |= {b"uh:" + host, b"ur:" + reg, b"ut:" + host.rsplit(b".", 1)[-1][:12], b"un:%d" % host.count(b".")}
        out.update([b"up:" + w for w in _PATHWORD.findall(path)[:8]])
        out.add(b"ux:" + path.rsplit(b".", 1)[-1][:5] if b"." in path[-6:] else b"ux:")
        out.add(b"ul:%d" % (len(path) + len(rest)).bit_length())
        if port:
            out.add(b"uport:" + port)
        if user:
            out.add(b"uuser")
        if host.replace(b".", b"").isdigit():
            out.add(b"uip")
        if host.startswith(b"xn--") or b".xn--" in host:
            out.add(b"uidn")
        if b"-" in reg:
            out.add(b"udash:%d" % min(3, reg.count(b"-")))
        if any(48 <= c < 58 for c in reg):
            out.add(b"udigit")
    out.add(b"urls:%d" % len(distinct).bit_length())
    out.add(b"hosts:%d" % len(hosts).bit_length())
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
    out.update([b"t:" + t for t in seen.tags])
    out.update(
        [
            b"tn:" + t + b":%d" % n.bit_length()
            for t, n in seen.tags.items()
            if t in (b"img", b"a", b"table", b"font", b"br", b"p", b"div")
        ]
    )
    markup = seen.markup
    out.update([b"st:" + k + b":" + v.strip() for k, v in _STYLE.findall(markup)[:80]])
    out.update([b"at:" + k + b"=" + v for k, v in _ATTR.findall(markup)[:80]])
    for name, value in (
        (b"plain", seen.plain_size),
        (b"html", seen.html_size),
        (b"htext", seen.html_text_size),
        (b"hidden", seen.hidden),
        (b"invis", seen.invisible),
        (b"mixed", seen.mixed),
        (b"comm", seen.comments),
        (b"caps", int(seen.upper * 20)),
    ):
        out.add(b"n:" + name + b":%d" % value.bit_length())
    if seen.html_size:
        out.add(b"n:ratio:%d" % (10 * seen.html_text_size // seen.html_size))
    out.add(b"noalt:%d" % (seen.html_size > 0 and seen.plain_size == 0))
    return list(out)


def extract(raw: bytes) -> Features:
    """Everything a message says about itself. Bounded time and memory whatever the input; never raises."""
    tree = walk(raw)
    seen = look(tree)
    subject = subject_of(tree)
    words = WORD.findall(subject + b" . " + seen.text)[:MAX_WORDS]
    tags = header_tokens(tree, subject, WORD) + url_tokens(seen.urls) + shape_tokens(tree, seen)
    heads = [tree.first(n)[:160] for n in (b"from", b"reply-to")]
    heads += [subject[:160]]
    heads += [tree.first(n)[:160] for n in (b"x-mailer", b"user-agent", b"content-type", b"content-transfer-encoding")]
    gram = b"\n".join(heads) + b"\n" + b" ".join(seen.text[:4000].split())[:2000]
    return Features(words, tags, local_tokens(tree), gram, tree, seen)
