"""Signals in links, text and attachments."""

from __future__ import annotations

import re

from .name import (
    BRAND,
    CHEAP_TLD,
    FREE_HOST,
    MACRO,
    PAGE,
    PAPER,
    PROGRAM,
    SHORTENER,
    URL_BRAND,
    Signals,
    registered,
)
from .part import MAX_PARTS, Tree
from .signal_header import text
from .token import Features, Url, split_url
from .visible import Seen

_HOSTLIKE = re.compile(rb"(?:https?://)?((?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,12})(?:[/:?#]\S*)?")
_LINKED_PROGRAM = PROGRAM - {b"com", b"js"}
_MONEY = (b"$", b"million", b"usd", b"eur", b"gbp")
_FOREIGN_MONEY = (b"\xe2\x82\xac", b"\xc2\xa3")  # the signs of the euro and the pound
_DIGITS = b"0123456789"
_WALLET = (b"bitcoin", b"btc", b"wallet")
_SPEECH = 12 * 1024
_BITCOIN = re.compile(rb"\b(?:bc1[a-z0-9]{25,60}|[13][a-km-z0-9]{25,34})\b")
_CURRENCY = rb"(?:us\$?|usd|\$|\xe2\x82\xac|\xc2\xa3|eur|gbp)\s?"
_MILLIONS = re.compile(
    _CURRENCY
    + rb"\d{1,3}(?:[.,]\d{1,3}){0,3}\s?(?:million|mio|m\b)"
    + rb"|"
    + _CURRENCY
    + rb"\d{1,3}(?:[.,]\d{3}){2,3}|\d{1,3}(?:[.,]\d{1,2})? million (?:us |united|dollars|euro)"
)
_GTUBE = b"xjs*c4jdbqadn1.nsbn3*2idneb*gtube-standard-anti-ube-test-email*c.34x"


def content_signals(features: Features) -> Signals:
    """What links, text, HTML and attachments show."""
    found: Signals = {}
    tree, seen = features.tree, features.seen
    hosts: set[bytes] = set()
    for url in features.urls:
        _url(url, found)
        if url.host not in hosts and b"." in url.host:
            hosts.add(url.host)
            _host(url, found)
    for target, label in seen.links:
        _link(target, label, found)
    _dress(tree, seen, found)
    _speech(seen, found)
    kinds = set()
    for part in tree.parts:
        kinds.add(part.kind)
        if part.filename:
            _attachment(part.filename.lower(), found)
    if kinds & {b"multipart/report", b"message/delivery-status"}:
        found["bounce"] = ()
    if b"text/calendar" in kinds:
        found["calendar"] = ()
    if kinds & {b"multipart/signed", b"application/pkcs7-mime", b"multipart/encrypted"}:
        found["signed"] = ()
    return found


def _url(url: Url, found: Signals) -> None:
    if url.user and b"." in url.host:
        found["url_user"] = (text(url.whole),)
    if url.port and url.port not in (b"80", b"443", b"8443", b"8080"):
        found["url_port"] = (text(url.host + b":" + url.port),)
    if b"." in url.path[-6:] and url.path.rsplit(b".", 1)[1] in _LINKED_PROGRAM:
        found["url_program"] = (text(url.whole),)


def _host(url: Url, found: Signals) -> None:
    host, reg = url.host, url.name
    if host.replace(b".", b"").isdigit():
        found["url_ip"] = (text(host),)
    if b"xn--" in host and any(c in host for c in (b".com", b".net", b".org")):
        found["url_idn_mixed"] = (text(host),)
    if host in SHORTENER:
        found["url_shortener"] = (text(host),)
    if host.rsplit(b".", 1)[-1] in CHEAP_TLD:
        found["url_cheap_tld"] = (text(host),)
    if reg in FREE_HOST or host in FREE_HOST:
        found["url_free_host"] = (text(host),)
    if host.count(b".") > 4:
        found["url_deep_host"] = (text(host),)
    for brand in URL_BRAND.intersection(host.replace(b"-", b".").split(b".")):
        if not any(own in reg for own in BRAND[brand.decode()]):
            found["url_brand_host"] = (text(host), brand.decode())


def _link(target: bytes, label: bytes, found: Signals) -> None:
    """A label that looks like a host of its own, with a target elsewhere."""
    named = _HOSTLIKE.fullmatch(label)
    if not named or not target.startswith(b"http"):
        return
    url = split_url(target)
    if url.host and registered(named[1]) != url.name:
        found["link_names_other"] = (text(named[1]), text(url.host))


def _dress(tree: Tree, seen: Seen, found: Signals) -> None:
    if seen.tags[b"form"] and seen.tags[b"input"]:
        found[
            "html_password" if b'type="password' in seen.markup or b"type=password" in seen.markup else "html_form"
        ] = ()
    if seen.scripts:
        found["html_script"] = ()
    if seen.hidden > 400:
        found["html_hidden"] = (str(seen.hidden),)
    if seen.html_size and seen.tags[b"img"] and len(seen.text[:1000].split()) < 12:
        found["html_picture_only"] = ()
    if seen.split > 2:
        found["html_comments"] = (str(seen.split),)
    if seen.broken > 1:
        found["invisible_letters"] = (str(seen.broken),)
    if seen.mixed:
        found["mixed_script"] = (str(seen.mixed), seen.mixed_sample[:40])
    if any(p.encoding == b"base64" and p.kind.startswith(b"text/") and p.plain for p in tree.parts):
        found["text_in_base64"] = ()
    if seen.quoted > 2:
        found["quotes"] = (str(seen.quoted),)
    if seen.shouting > 0.5:
        found["shouting"] = ()
    if tree.truncated or len(tree.parts) >= MAX_PARTS:
        found["many_parts"] = ()


def _speech(seen: Seen, found: Signals) -> None:
    words = seen.text[:_SPEECH]
    # Single octets, given as numbers, are looked for first: a word takes twenty times as long to find.
    if words.find(b"*") >= 0 and _GTUBE in words:
        found["test_string"] = ()
    if any(map(words.__contains__, b"13")) and any(map(words.__contains__, _WALLET)) and _BITCOIN.search(words):
        found["bitcoin_address"] = ()
    if any(map(words.__contains__, _DIGITS)):
        signs = _MONEY if words.isascii() else _MONEY + _FOREIGN_MONEY
        money = _MILLIONS.search(words) if any(map(words.__contains__, signs)) else None
        if money:
            found["millions"] = (text(money[0]),)
    sample = words[:6000]
    if len(sample) > 1500 and not seen.html_size and sum(map(sample.count, (b".", b",", b"!", b"?", b":", b"-"))) < 4:
        found["word_salad"] = ()


def _attachment(name: bytes, found: Signals) -> None:
    pieces = name.strip(b" .").rsplit(b".", 2)
    last = pieces[-1].strip()
    if len(pieces) == 3 and pieces[1].strip() in PAPER and last in PROGRAM | PAGE:
        found["attached_double"] = (text(name),)
    if len(pieces) > 1:
        for kind, names in (("attached_program", PROGRAM), ("attached_macro", MACRO), ("attached_page", PAGE)):
            if last in names:
                found[kind] = (text(name),)
