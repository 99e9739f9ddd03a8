"""What the pipeline itself costs: every check on signed 10 KB mail, DNS answered at once; and its single parts."""

from __future__ import annotations

import base64
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dkim
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from harness import SHARED, Row, all_checks

from mailguard.model.message import Message
from mailguard.pipeline.compiler import parse_policy
from mailguard.pipeline.decide import decide
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.facts import Stage
from mailguard.pipeline.record import Recorder
from mailguard.pipeline.registry import Registry
from mailguard.pipeline.replay import replay
from mailguard.plugin import verify_dkim
from mailguard.state import record
from mailguard.state.database import Database, metadata
from mailguard.state.history import History
from mailguard.state.kv import KeyValueStore
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeResolver, make_envelope, make_message, make_session

LISTS = ('{ zone = "bl.example" }', '{ zone = "list.dnswl.org", kind = "allow" }')
RULES = """
[[rule]]
name = "bank"
when = 'from.domain == "bank.example" && found["dmarc"] == "pass"'
then = "accept"
[[rule]]
name = "night"
when = 'time.getHours() > 30 && size > 1000000 && header["list-id"] != ""'
then = "score 1"
"""
POLICY = all_checks(*LISTS, rules=RULES)
WORDS = re.findall(r"\w+", "the office has sent minutes of our meeting about prices and next weeks plan please find")


class Mail:
    """A signed message, and the DNS that vouches for it."""

    def __init__(self, size: int) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.body = "\n".join(" ".join(WORDS[(n + i) % len(WORDS)] for i in range(11)) for n in range(size // 75))
        der = self.rsa.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.zone = {
            "9.113.0.203.in-addr.arpa PTR": "mail.example.net",
            "mail.example.net A": "203.0.113.9",
            "example.net TXT": "v=spf1 a:mail.example.net include:spf.example.org -all",
            "spf.example.org TXT": "v=spf1 ip4:198.51.100.0/24 -all",
            "_dmarc.example.net TXT": "v=DMARC1; p=reject",
            "r._domainkey.example.net TXT": f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}",
        }

    def make(self, number: int) -> Message:
        """One of many, each with a subject and an id of its own."""
        plain = make_message(self.body, raw=None, subject=f"Minutes {number}", headers=[("X-Number", str(number))])
        octets = bytes(plain).replace(b"<test@", f"<{number}@".encode())
        pem = self.rsa.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        headers = [b"from", b"to", b"subject", b"date", b"message-id"]
        sig = dkim.sign(
            octets, b"r", b"example.net", pem, canonicalize=(b"relaxed", b"relaxed"), include_headers=headers
        )  # fmt: skip
        return Message(sig + octets)


def rows() -> Iterator[Row]:
    """Costs beside their limits; the ratio is cost over limit."""
    mail = Mail(10_000)
    with tempfile.TemporaryDirectory(prefix="mailguard-bench-") as name:
        yield from _whole(mail, Path(name))
    yield from _signatures(mail)


def _whole(mail: Mail, folder: Path) -> Iterator[Row]:
    database = Database(StateSettings(), folder)
    metadata.create_all(database.engine)
    recorder = Recorder(database)
    policy = parse_policy("policy.toml", POLICY, Registry().load, dict)
    engine = _engine(policy, folder, database, recorder, FakeResolver(mail.zone))
    messages = [mail.make(n) for n in range(300)]
    for message in messages[:50]:
        _through(engine, message)
    costs = []
    for at in range(50, 300, 50):
        begun = time.process_time()
        for message in messages[at : at + 50]:
            _through(engine, message)
        costs.append((time.process_time() - begun) / 50 * 1000)
    recorder.flush()
    yield Row("all checks, 10 KB: CPU of a message", statistics.median(costs), 4.0, "ms", 1, False, "limit")
    (found,) = record.find(database, "<60@example.net>")[:1]
    points: dict[str, float] = {}
    took = _each(lambda: decide(policy, Stage.MESSAGE, found.data["facts"], points), 2000)
    yield Row("policy: one decision", took, 0.2, "ms", 1, False, "limit")
    yield from _records(database, recorder, found)
    begun = time.process_time()
    count = replay(policy, record.since(database, 0)).count
    spent = (time.process_time() - begun) / count * 10_000
    yield Row("replay of 10,000 verdicts: CPU", spent, 5.0, "s", 1, False, "limit")
    engine.stop()
    recorder.stop()
    database.close()
    empty = _engine(parse_policy("policy.toml", "", Registry().load, dict), folder, None, None, FakeResolver())
    took = _each(lambda: _through(empty, messages[0]), 2000)
    yield Row("no checks: a message", took * 1000, 50, "us", 1, False, "limit")


def _records(database: Database, recorder: Recorder, like: record.Record) -> Iterator[Row]:
    row = {name: getattr(like, name) for name in like.__slots__ if name != "events"}
    row |= {"rcpt": " ".join(like.rcpt)}
    begun = time.process_time()
    for n in range(10_000):
        recorder.verdict({**row, "id": f"R{n}", "message_id": f"<{n}@x>", "data": dict(like.data)})
        if n % 500 == 499:
            recorder.flush()
    recorder.flush()
    yield Row("verdict record, written in batches", (time.process_time() - begun) / 10, 0.3, "ms", 1, False, "limit")


def _signatures(mail: Mail) -> Iterator[Row]:
    message, dns, now = mail.make(1), FakeResolver(mail.zone), time.time()
    assert verify_dkim(message, dns, now=now)[0].result == "pass"
    took = _each(lambda: verify_dkim(Message(message.raw), dns, now=now), 300)
    key = mail.zone["r._domainkey.example.net TXT"].encode()
    theirs = _each(lambda: dkim.verify(message.raw, dnsfunc=lambda *_, **__: key), 50)
    yield Row("DKIM: one RSA signature, 10 KB", took, theirs, "ms", 0.5, False, "dkimpy alone")
    folder = SHARED / "testdata" / "dkim" / "rfc8463"
    if not folder.is_dir():
        return
    lines = [line.partition(" TXT ") for line in (folder / "dns.txt").read_text().splitlines()]
    dns = FakeResolver({f"{name} TXT": text.strip('"') for name, _, text in lines})
    both = Message(re.sub(rb"\r?\n", b"\r\n", (folder / "rfc8463-appendix-a.eml").read_bytes()))
    assert [r.result for r in verify_dkim(both, dns, now=1_528_637_909.0)] == ["pass", "pass"]
    took = _each(lambda: verify_dkim(Message(both.raw), dns, now=1_528_637_909.0), 300)
    yield Row("DKIM: Ed25519 and RSA signature of RFC 8463", took, 1.0, "ms", 1, False, "limit")


def _engine(policy: Any, folder: Path, database: Database | None, recorder: Any, dns: FakeResolver) -> Engine:
    engine = Engine(
        policy,
        dns=dns,
        store_for=lambda name: KeyValueStore(database, name),  # type: ignore[arg-type]
        state_dir=folder,
        hostname="mx.example.org",
        log=structlog.get_logger(),
        recorder=recorder,
        history=History(database) if database else None,
    )
    engine.start()
    return engine


def _through(engine: Engine, message: Message) -> None:
    session = make_session("203.0.113.9", ptr="mail.example.net")
    envelope = make_envelope()
    mail = engine.connect(session).mail(session, envelope)
    mail.recipient(envelope, envelope.recipients[0].address)
    verdict = mail.message(envelope, Message(message.raw))
    mail.stamp(envelope, message, verdict)


def _each(call: Callable[[], Any], count: int) -> float:
    """Milliseconds of CPU that one call takes: the median of five rounds."""
    rounds = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(count // 5):
            call()
        rounds.append((time.process_time() - begun) / (count // 5) * 1000)
    return statistics.median(rounds)
