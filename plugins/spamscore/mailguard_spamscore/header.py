"""Tokens of the header: those any server would see alike, and those that only mean something at this one."""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Callable

from .part import Tree
from .visible import Seen, tidy, to_text

_ENCODED = re.compile(rb"=\?([^?\s]{1,40})\?([bq])\?([^?\s]{0,400})\?=(?:\s+(?==\?))?", re.I)
_ADDRESS = re.compile(rb"<?\s*([^\s<>\"@,;]{1,80})@([a-z0-9.\-\[\]]{1,200})", re.I)
_IP = re.compile(rb"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b")
_HELO = re.compile(rb"from\s+(\S{1,100})|helo[= ]([^\s)]{1,100})", re.I)
_ALNUM = re.compile(rb"[a-z0-9]{2,24}")
_DIGITS = re.compile(rb"[0-9]+")
_MAX_HOPS = 4
_LETTERS = re.compile(rb"[a-zA-Z]+")


def unword(value: bytes) -> str:
    """A header value with its RFC 2047 encoded words decoded, best effort."""

    def piece(match: re.Match[bytes]) -> bytes:
        charset, kind, text = match.groups()
        if kind in b"bB":
            clean = re.sub(rb"[^A-Za-z0-9+/]", b"", text)
            data = binascii.a2b_base64(clean + b"=" * (-len(clean) % 4)) if len(clean) % 4 != 1 else b""
        else:
            data = binascii.a2b_qp(text.replace(b"_", b" "), header=True)
        return to_text(data, charset).encode("utf-8", "replace")

    return to_text(_ENCODED.sub(piece, value) if b"=?" in value else value, b"utf-8")


def subject_of(tree: Tree) -> bytes:
    """The subject as lower-case UTF-8, tidied like the text."""
    value = tree.first(b"subject")[:1000]
    if value.isascii() and b"=?" not in value:
        return value.lower()
    return tidy(unword(value), Seen())


def shape(value: bytes) -> bytes:
    """A value's pattern: runs of letters become a, runs of digits 9."""
    return _LETTERS.sub(b"a", _DIGITS.sub(b"9", value))[:40]


def address_of(value: bytes) -> tuple[bytes, bytes, bytes]:
    """(display name, local part, domain) of the first address in a field, lower case but the name."""
    match = _ADDRESS.search(value)
    if not match:
        return value, b"", b""
    return value[: match.start()].strip(b' "<'), match[1].lower(), match[2].lower()


def header_tokens(tree: Tree, subject: bytes, words_of: Callable[[bytes], list[bytes]]) -> list[bytes]:
    """Source-neutral: From, Reply-To, Subject, mailer and Content-* only."""
    out: set[bytes] = set()
    domains = {}
    for tag, name in ((b"f", b"from"), (b"r", b"reply-to")):
        value = tree.first(name)
        if not value:
            out.add(tag + b":none")
            continue
        display, local, domain = address_of(value[:1000])
        domains[tag] = domain
        labels = domain.split(b".")
        out |= {tag + b"a:" + local + b"@" + domain, tag + b"d:" + domain, tag + b"t:" + labels[-1]}
        out |= {tag + b"l:" + local, tag + b"s:" + shape(local), tag + b"r:" + b".".join(labels[-2:])}
        if display:
            text = unword(display)
            out.update([tag + b"n:" + w for w in words_of(text.lower().encode("utf-8", "replace"))[:12]])
            out.add(tag + b"case:%d%d%d" % (text.isupper(), text.islower(), "@" in text))
            out.add(tag + b"enc:" + display[:10].lower() if display.startswith(b"=?") else tag + b"raw")
        else:
            out.add(tag + b"n:none")
    if b"r" in domains and b"f" in domains:
        out.add(b"r=f:%d" % (domains[b"r"] == domains[b"f"]))
    raw = tree.first(b"subject")
    out.update([b"s:" + w for w in words_of(subject)[:40]])
    out.add(b"sl:%d" % len(subject).bit_length())
    out.add(b"sc:%d%d%d%d" % (raw.isupper(), b"!" in raw, b"?" in subject, b"=?" in raw))
    out.add(b"s0:" + b" ".join(subject.split()[:1])[:16])
    for name in (b"x-mailer", b"user-agent"):
        value = tree.first(name)
        if value:
            out |= {b"m:" + w for w in _ALNUM.findall(value.lower()[:100])[:8]}
            out.add(b"ms:" + name[:1] + shape(value))
    out.add(b"mv:" + tree.first(b"mime-version")[:20])
    ctype = tree.first(b"content-type")
    out |= {b"ct:" + w for w in _ALNUM.findall(ctype.lower()[:60])[:4]}
    if b"oundary" in ctype:
        out.add(b"bs:" + shape(ctype.split(b"oundary", 1)[1][:60]))
    out.update([b"h:" + n for n, _ in tree.fields if n.startswith(b"content-")])
    return list(out)


def _hop_tokens(number: int, hop: bytes) -> list[bytes]:
    # What our own server writes behind the client's names differs between arrival and delivery.
    lower = hop[:600].lower()
    if not number:
        lower = lower.split(b" by ", 1)[0]
    out = []
    for ip in _IP.findall(lower)[:2]:
        net = ip.rpartition(b".")[0]
        out += [b"i24:" + net, b"i16:" + net.rpartition(b".")[0]]
    for helo, helo2 in _HELO.findall(lower)[:2]:
        host = (helo or helo2).strip(b"()[]")
        out += [b"he:" + host, b"hr:" + b".".join(host.rsplit(b".", 2)[-2:])]
        out.append(b"hs:%d:" % min(number, 2) + shape(host))
    if number < 2:
        out += [b"hw:%d:" % number + w for w in _ALNUM.findall(lower)[:24]]
    return out


def local_tokens(tree: Tree) -> list[bytes]:
    """What the way to this server left behind: hops, recipients, ids, dates, list fields, names and order of fields."""
    out: set[bytes] = set()
    hops = [v for n, v in tree.fields if n == b"received"]
    out.add(b"hops:%d" % len(hops))
    for i, hop in enumerate(hops[:_MAX_HOPS]):
        out.update(_hop_tokens(i, hop))
    names = [n for n, _ in tree.fields][:60]
    out.update([b"h:" + n for n in names])
    trimmed = [n for n in dict.fromkeys(names) if n != b"received"]
    out.update([b"ho:" + a + b">" + b for a, b in itertools.pairwise(trimmed)])
    for tag, name in ((b"to", b"to"), (b"cc", b"cc"), (b"rp", b"return-path"), (b"sn", b"sender"), (b"li", b"list-id")):
        value = tree.first(name)[:2000].lower()
        if value:
            found = _ADDRESS.findall(value)[:10]
            out.update([tag + b"a:" + local + b"@" + domain for local, domain in found])
            out.update([tag + b"d:" + domain for _, domain in found])
            out.add(tag + b"c:%d" % value.count(b"@").bit_length())
    mid = tree.first(b"message-id")
    out |= {b"mi:" + shape(mid), b"md:" + mid.rsplit(b"@", 1)[-1].strip(b"> ").lower()[:60]}
    date = tree.first(b"date")
    out |= {b"tz:" + date[-12:].strip()[-5:], b"ds:" + shape(date)}
    for value in [v for n, v in tree.fields if n == b"dkim-signature"][:3]:
        out.update(
            [b"dk:" + w.strip() for w in value.lower().split(b";") if w.strip()[:2] in (b"d=", b"s=", b"a=", b"c=")]
        )
    for name in (
        b"precedence",
        b"x-priority",
        b"importance",
        b"x-mailer",
        b"mime-version",
        b"x-originating-ip",
        b"auto-submitted",
    ):
        value = tree.first(name)
        if value:
            out.add(name + b":" + value.lower()[:40])
    return list(out)
