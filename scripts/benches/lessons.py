"""What both filters are taught before they are measured, and the proof that all their checks ran on what was sent."""

from __future__ import annotations

import json
import random
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdataclass
import harness

COUNT = 150  # letters of each kind; rspamd wants 100 of both before its Bayes speaks, as we let it
NAMESERVER = "127.5.3.1"
_LEAST = 100
_TEXT = (
    "free winner prize casino pills cheap loan credit cash bonus click here unsubscribe guaranteed million dollars"
    " lottery urgent transfer inheritance verify limited act now deal discount watches replica weight loss miracle"
    " cure investment profit double income singles dating"
)
_SPAM = _TEXT.split()
_CONTROLLER = ("-h", "127.0.0.1:11334", "-P", "secret")
_SYMBOLS = {"R_SPF_ALLOW", "R_DKIM_ALLOW", "DMARC_POLICY_ALLOW", "ARC_NA", "BAYES_HAM"}
_QUESTIONS = 10  # of the DNS for each message: rspamd's block lists ask most of them
_FOUND = {"spf": "pass", "dkim": "pass", "dmarc": "pass", "dnsbl": "clean", "greylist": "known", "spamscore": "ham"}
_RAN = {*_FOUND, "iprev", "arc", "attachments"}


def write(base: Path, corpus: Path) -> None:
    """Letters below ``base``: ham made of the words of the mail that will be sent, and spam."""
    bodies = b" ".join(path.read_bytes().partition(b"\r\n\r\n")[2] for path in sorted(corpus.glob("*.eml"))[:5])
    words = sorted(set(re.findall(r"\b[a-z]{2,}\b", bodies.decode())) - {"html", "body", "charset", "utf"})
    for kind, some, domain in (("ham", words, "partner.example"), ("spam", _SPAM, "prizes.example")):
        folder, rng = base / kind, random.Random(kind)
        folder.mkdir()
        for number in range(COUNT):
            (folder / f"{number}.eml").write_bytes(_letter(number, some, domain, rng))


def _letter(number: int, words: Sequence[str], domain: str, rng: random.Random) -> bytes:
    text = "\r\n".join(" ".join(rng.choices(words, k=11)) for _ in range(120))
    return (
        f"Received: from mx.{domain} (mx.{domain} [198.51.100.7])\r\n\tby mx.a.test with ESMTP id {number};\r\n"
        f'\tTue, 24 Nov 2026 10:00:00 +0000\r\nFrom: "Person {number % 31}" <p{number % 31}@{domain}>\r\n'
        f"To: <u0@b.test>\r\nSubject: {' '.join(rng.choices(words, k=5))}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{number}@{domain}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}"
    ).encode()


def teach_ours(base: Path, folder: Path, users: Sequence[str]) -> None:
    """Every account is taught all letters, before the server starts."""
    for user in users:
        for kind in ("ham", "spam"):
            config = str(folder / "mailguard.toml")
            harness.command("junk", "train", f"--{kind}", str(base / kind), "--account", f"{user}@a.test", "-c", config)


def teach_rspamd(base: Path) -> None:
    """Its Bayes is taught as many of both kinds as it wants to have seen."""
    for kind in ("ham", "spam"):
        line = ["rspamc", *_CONTROLLER, f"learn_{kind}", str(base / kind)]
        told = subprocess.run(line, capture_output=True, text=True).stdout
        if (learnt := told.count("success = true")) < _LEAST:
            raise SystemExit(f"rspamd learnt {learnt} {kind} only: {told[-500:]}")


def wait_for_patterns(log: Path, scanners: int) -> None:
    """Until each process that scans has taken in the compiled patterns: it is slower before."""
    until = time.monotonic() + 120
    while len(re.findall(r"\(rspamd_proxy\).*hyperscan database of .* has been loaded", log.read_text())) < scanners:
        if time.monotonic() > until:
            raise SystemExit("rspamd did not compile its patterns within two minutes")
        time.sleep(0.2)


def questions() -> int:
    """How many the DNS of the benchmark has answered so far."""
    asked = dns.message.make_query("hits.bind", "TXT", dns.rdataclass.CHAOS)
    answer = dns.query.udp(asked, NAMESERVER, timeout=5).answer[0]
    return int(str(answer[0]).strip('"'))


def prove_rspamd(log: Path, *, messages: int, asked: int) -> None:
    """Raises SystemExit unless its modules ran on the messages sent last, and ``asked`` the DNS for them."""
    request = urllib.request.Request("http://127.0.0.1:11334/history", headers={"Password": "secret"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        told = json.load(answer)
    rows: list[dict[str, Any]] = told["rows"] if isinstance(told, dict) else told
    sent = [set(row["symbols"]) for row in rows[: min(messages, 100)] if "symbols" in row]
    if not sent or (missing := set().union(*(_SYMBOLS - symbols for symbols in sent))):
        raise SystemExit(f"rspamd did not find {', '.join(sorted(missing if sent else _SYMBOLS))} in all messages")
    if asked < messages * _QUESTIONS:
        raise SystemExit(f"rspamd asked the DNS {asked} questions for {messages} messages: its lists were not asked")
    if "greylist.lua" not in log.read_text():
        raise SystemExit("rspamd's greylisting did not run")


def prove_ours(folder: Path, *, messages: int) -> None:
    """Raises SystemExit unless every check of ours ran on the messages received last, with what it must find."""
    for data in _verdicts(folder, messages):
        ran = {*data["findings"], *data["times"]}
        learnt = data["facts"]["facts"].get("spamscore", {})
        found = {name: data["facts"]["found"].get(name) for name in _FOUND}
        if not ran >= _RAN or found != _FOUND:
            raise SystemExit(f"not all of our checks ran: {sorted(_RAN - ran)} are missing, found {found}")
        if min(learnt["learnt_ham"], learnt["learnt_spam"]) < _LEAST or not learnt["shared"]:
            raise SystemExit(f"our filter scored without what it was taught: {learnt}")


def _verdicts(folder: Path, messages: int) -> Iterator[dict[str, Any]]:
    config, count = str(folder / "mailguard.toml"), min(messages, 100)
    until = time.monotonic() + 10
    while True:  # records are written a moment later
        told = harness.command("trace", "--stage", "message", "--limit", str(count), "--json", "-c", config)
        rows: list[dict[str, Any]] = json.loads(told)
        if len(rows) == count:
            break
        if time.monotonic() > until:
            raise SystemExit(f"{len(rows)} verdicts of ours instead of {count}")
        time.sleep(0.2)
    yield from (row["data"] for row in rows)
