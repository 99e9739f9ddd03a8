"""Made-up mail for the benchmark: Maildirs as Dovecot leaves them, of short letters or of an office's mix."""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Callable
from pathlib import Path

_TEXT = (
    "invoice offer meeting delivery contract order project report customer price machine travel budget question answer"
    " draft minutes agenda review schedule account payment support release quality version please find attached thanks"
    " regards tomorrow week month number street office phone before after because should could would about"
)
_WORDS = _TEXT.split()
VALIDITY = 1_700_000_000
_LETTER = 4_000  # octets, about
_WITH_FILES = 0.25  # of an office's mail, that has attachments
_FILE = (10.8, 1.1)  # of the logarithm of an attachment's octets: 50 kB as a rule, 90 kB on average, some megabytes


def letter(number: int, rng: random.Random, size: int = _LETTER) -> bytes:
    """A plain text letter of about so many octets."""
    return _head(number, rng) + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + _text(rng, size - 700)


def office(number: int, rng: random.Random) -> bytes:
    """One of an office's messages: text beside HTML, a quarter of them with one to three files."""
    size = int(rng.lognormvariate(7.3, 0.8))
    text = _text(rng, size)
    html = b"<html><body><p>" + text.replace(b"\r\n", b"<br>\r\n") + b"</p></body></html>\r\n"
    alternative = (
        b'Content-Type: multipart/alternative; boundary="alt"\r\n\r\n'
        b"--alt\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text + b"\r\n"
        b"--alt\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html + b"\r\n--alt--\r\n"
    )
    if rng.random() >= _WITH_FILES:
        return _head(number, rng) + alternative
    files = []
    for n in range(rng.choice((1, 1, 1, 2, 3))):
        data = base64.encodebytes(rng.randbytes(int(min(rng.lognormvariate(*_FILE), 5e6)))).replace(b"\n", b"\r\n")
        name = b"%b-%d.pdf" % (rng.choice(_WORDS).encode(), n)
        files.append(
            b"--mix\r\nContent-Type: application/pdf; name=%b\r\nContent-Transfer-Encoding: base64\r\n"
            b"Content-Disposition: attachment; filename=%b\r\n\r\n%b\r\n" % (name, name, data)
        )
    mixed = b'Content-Type: multipart/mixed; boundary="mix"\r\n\r\n--mix\r\n'
    return _head(number, rng) + mixed + alternative + b"".join(files) + b"--mix--\r\n"


def _head(number: int, rng: random.Random) -> bytes:
    sender, subject = rng.randrange(300), " ".join(rng.choices(_WORDS, k=4))
    reply = f"In-Reply-To: <{number - 1}@p.example>\r\nReferences: <{number - 1}@p.example>\r\n" if number % 3 else ""
    return (
        f"Return-Path: <p{sender}@example.net>\r\n"
        f"Received: from mx.example.net (mx.example.net [192.0.2.{sender % 250}])\r\n"
        f"\tby mx.office.example with ESMTPS id {number:08x};\r\n\tTue, 24 Nov 2026 10:00:00 +0000\r\n"
        f'From: "Person {sender}" <p{sender}@example.net>\r\nTo: "Ann" <ann@office.example>\r\n'
        f"Subject: {'Re: ' if reply else ''}{subject} {number}\r\n"
        f"Date: Tue, {1 + number % 28} Nov 2025 {number % 24:02}:{number % 60:02}:00 +0000\r\n"
        f"Message-ID: <{number}@p.example>\r\n{reply}MIME-Version: 1.0\r\n"
    ).encode()


def _text(rng: random.Random, size: int) -> bytes:
    lines = max(1, size // 70)
    return "".join(" ".join(rng.choices(_WORDS, k=10)) + "\r\n" for _ in range(lines)).encode()


def fill(root: Path, count: int, make: Callable[[int, random.Random], bytes] = letter) -> int:
    """Makes a Maildir of so many messages with Dovecot's list of their UIDs; returns their octets."""
    for folder in ("cur", "new", "tmp"):
        (root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    rng, octets = random.Random(1), 0
    with (root / "dovecot-uidlist").open("w") as listed:
        listed.write(f"3 V{VALIDITY} N{count + 1} G{'0123456789abcdef' * 2}\n")
        for number in range(count):
            data, at = make(number, rng), VALIDITY - count + number
            base = f"{at}.M{number % 1_000_000:06}P1.host,S={len(data)},W={len(data)}"
            path = root / "cur" / f"{base}:2,{'S' if number % 4 else ''}"
            path.write_bytes(data)
            os.utime(path, (at, at))
            listed.write(f"{number + 1} :{base}\n")
            octets += len(data)
    return octets
