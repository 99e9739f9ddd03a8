"""Signals in links, text and attachments."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from .name import BRAND, CHEAP_TLD, FREE_HOST, MACRO, PAGE, PAPER, PROGRAM, SHORTENER, URL_BRAND, Signals
from .part import MAX_PARTS, Tree
from .signal_header import text
from .token import MAX_URLS, registered, split_url
from .visible import Seen

_HOSTLIKE = re.compile(rb"(?:https?://)?((?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,12})(?:[/:?#]\S*)?")
_PIECE = re.compile(rb"[.-]")
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


def content_signals(tree: Tree, seen: Seen) -> Signals:
    """What links, text, HTML and attachments show."""
    found: Signals = {}
    for url in list(dict.fromkeys(seen.urls))[:MAX_URLS]:
        _url(url, found)
    for target, label in seen.links:
        _link(target, label, found)
    _dress(tree, seen, found)
    _speech(seen, found)
    for part in tree.parts:
        if part.filename:
            _attachment(part.filename.lower(), found)
    if any(p.kind in (b"multipart/report", b"message/delivery-status") for p in tree.parts):
        found["bounce"] = ()
    if any(p.kind == b"text/calendar" for p in tree.parts):
        found["calendar"] = ()
    if any(p.kind in (b"multipart/signed", b"application/pkcs7-mime", b"multipart/encrypted") for p in tree.parts):
        found["signed"] = ()
    return found


def _url(url: bytes, found: Signals) -> None:
    user, host, port, path, _ = split_url(unquote_to_bytes(url) if b"%" in url[:60] else url)
    if not host or b"." not in host:
        return
    shown = (text(host),)
    reg = registered(host)
    if host.replace(b".", b"").isdigit():
        found["url_ip"] = shown
    if user:
        found["url_user"] = (text(url),)
    if b"xn--" in host and any(c in host for c in (b".com", b".net", b".org")):
        found["url_idn_mixed"] = shown
    if port and port not in (b"80", b"443", b"8443", b"8080"):
        found["url_port"] = (text(host + b":" + port),)
    if host in SHORTENER:
        found["url_shortener"] = shown
    if host.rsplit(b".", 1)[-1] in CHEAP_TLD:
        found["url_cheap_tld"] = shown
    if reg in FREE_HOST or host in FREE_HOST:
        found["url_free_host"] = shown
    if host.count(b".") > 4:
        found["url_deep_host"] = shown
    extension = path.rsplit(b"/", 1)[-1].rsplit(b".", 1)
    if len(extension) == 2 and extension[1] in PROGRAM - {b"com", b"js"}:
        found["url_program"] = (text(url),)
    for brand in URL_BRAND:
        if brand in _PIECE.split(host) and not any(own in reg for own in BRAND[brand.decode()]):
            found["url_brand_host"] = (text(host), brand.decode())


def _link(target: bytes, label: bytes, found: Signals) -> None:
    """A label that looks like a host of its own, with a target elsewhere."""
    named = _HOSTLIKE.fullmatch(label)
    if not named or not target.startswith(b"http"):
        return
    host = split_url(target)[1]
    if host and registered(named[1]) != registered(host):
        found["link_names_other"] = (text(named[1]), text(host))


def _dress(tree: Tree, seen: Seen, found: Signals) -> None:
    if seen.tags[b"form"] and seen.tags[b"input"]:
        found[
            "html_password" if b'type="password' in seen.markup or b"type=password" in seen.markup else "html_form"
        ] = ()
    if seen.scripts:
        found["html_script"] = ()
    if seen.hidden > 400:
        found["html_hidden"] = (str(seen.hidden),)
    if seen.html_size and seen.tags[b"img"] and len(seen.text.split()) < 12:
        found["html_picture_only"] = ()
    if seen.split > 2:
        found["html_comments"] = (str(seen.split),)
    if seen.broken > 1:
        found["invisible_letters"] = (str(seen.broken),)
    if seen.mixed:
        found["mixed_script"] = (str(seen.mixed), seen.mixed_sample[:40])
    if any(p.encoding == b"base64" and p.kind.startswith(b"text/") and p.plain for p in tree.parts):
        found["text_in_base64"] = ()
    if seen.shouting > 0.5:
        found["shouting"] = ()
    if tree.truncated or len(tree.parts) >= MAX_PARTS:
        found["many_parts"] = ()


def _speech(seen: Seen, found: Signals) -> None:
    words = seen.text
    if b"gtube" in words and _GTUBE in words:
        found["test_string"] = ()
    if (b"bitcoin" in words or b"btc" in words or b"wallet" in words) and _BITCOIN.search(words):
        found["bitcoin_address"] = ()
    money = _MILLIONS.search(words)
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
