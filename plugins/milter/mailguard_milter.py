"""milter: any milter as a check (protocol version 6). It sees the whole mail at the end of DATA; of what it wants
changed, header fields are put on top and the rest is told, not done: mailguard never changes a message."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pydantic import Field

from mailguard.plugin import (
    Address,
    Context,
    Envelope,
    Finding,
    Message,
    Options,
    Place,
    PluginInfo,
    Session,
    Talk,
    Verdict,
    hookimpl,
)

VERSION = 6
ACTIONS = 0x1FF  # all: many milters refuse to work for less; what is not done is told
STEPS = 0x1FFFFF  # everything that may be skipped or left unanswered
NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_BODY, NO_HEADERS, NO_EOH, NO_DATA = 1, 2, 4, 8, 16, 32, 64, 0x200
QUIET_HEADER, QUIET_CONNECT, QUIET_HELO, QUIET_MAIL = 0x80, 0x1000, 0x2000, 0x4000
QUIET_RCPT, QUIET_DATA, QUIET_EOH, QUIET_BODY, LEADING_SPACE = 0x8000, 0x10000, 0x40000, 0x80000, 0x100000
_CHUNK = 65_535
_MAX_PACKET = 4_000_000
_NOT_DONE = {
    "m": "change a header field", "b": "replace the body", "+": "add a recipient", "2": "add a recipient",
    "-": "remove a recipient", "e": "change the envelope sender",
}  # fmt: skip
_FINAL = {"a": "pass", "r": "reject", "t": "tempfail", "d": "discard", "4": "tempfail", "f": "tempfail"}


class MilterOptions(Options):
    """Options of the check."""

    address: Place = Field(description="where the milter listens: host:port, inet:port@host, /path or unix:/path")
    recipients: bool = Field(default=False, description="ask at each RCPT TO, too, so that it can refuse single ones")
    name: str = Field(default="mailguard", description="the daemon name told to it (`{daemon_name}`)")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "milter",
        summary="What does a milter say?",
        words={
            "pass": "accept",
            "reject": "reject",
            "tempfail": "defer",
            "discard": "discard",
            "quarantine": "quarantine",
        },
        options=MilterOptions,
        network=True,
        explain={"pass": "the milter has nothing against it; what it adds is put on top of the message"},
    )


@hookimpl
def check_recipient(
    ctx: Context[MilterOptions], session: Session, envelope: Envelope, recipient: Address
) -> Finding | None:
    if not ctx.options.recipients:
        return None
    with Talk(ctx.options.address, ctx.deadline * 0.95) as talk:
        dialogue = Dialogue(talk, ctx, session, envelope)
        word = dialogue.open() or dialogue.recipient(recipient)
        dialogue.quit()
    return None if word in ("", "pass") else Finding(word, dialogue.text)


@hookimpl
def check_message(ctx: Context[MilterOptions], session: Session, envelope: Envelope, message: Message) -> Finding:
    with Talk(ctx.options.address, ctx.deadline * 0.95) as talk:
        dialogue = Dialogue(talk, ctx, session, envelope)
        word = dialogue.whole(message)
        dialogue.quit()
    if dialogue.held and word == "pass":
        word = "quarantine"
    told = [f"it wanted to {_NOT_DONE[kind]}, which is not done" for kind in sorted(set(dialogue.not_done))]
    told += [f"it refused {rcpt}" for rcpt in dialogue.refused]
    return Finding(
        word,
        dialogue.text or dialogue.held or f"the milter at {ctx.options.address} says {word}",
        "; ".join(told),
        facts={"add": dialogue.fields, "refused": dialogue.refused},
    )


@hookimpl
def stamp(ctx: Context[MilterOptions], verdict: Verdict) -> list[tuple[str, str]]:
    finding = verdict.findings.get(ctx.name)
    return [(name, value) for name, value in finding.facts.get("add", ())] if finding else []


@dataclass(slots=True)
class Dialogue:
    """One connection to a milter: what it answered, and what it wants to add. Each step returns the word that ends
    the dialogue, ``""`` to go on. Raises OSError, EOFError, ValueError."""

    talk: Talk
    ctx: Context[MilterOptions]
    session: Session
    envelope: Envelope
    text: str = ""
    held: str = ""
    fields: list[list[str]] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    steps: int = 0

    def whole(self, message: Message) -> str:
        """A mail from first to last."""
        word = self.open() or self._recipients() or self._step("T", b"", NO_DATA, QUIET_DATA)
        word = word or self._headers(message) or self._body(message)
        return word or self._end()

    def open(self) -> str:
        """Negotiation, client, HELO and sender."""
        self._send("O", struct.pack("!III", VERSION, ACTIONS, STEPS))
        kind, data = self._receive()
        if kind != "O" or len(data) < 12:
            raise ValueError(f"the milter answered {kind!r} to the negotiation")
        version, _, self.steps = struct.unpack("!III", data[:12])
        if version < 2:
            raise ValueError(f"the milter speaks version {version} of the protocol, which is too old")
        ip, session = self.session.peer_ip, self.session
        client = session.ptr or f"[{ip}]"
        self._macros("C", {"j": self.ctx.hostname, "{daemon_name}": self.ctx.options.name, "{client_addr}": ip,
                           "{client_name}": client, "{client_ptr}": session.ptr, "_": f"{client} [{ip}]"})  # fmt: skip
        family = b"6" if ":" in ip else b"4"
        place = ("IPv6:" if ":" in ip else "") + ip
        connect = _z(client) + family + struct.pack("!H", session.peer_port) + _z(place)
        word = self._step("C", connect, NO_CONNECT, QUIET_CONNECT)
        tls = session.tls
        self._macros("H", {"{tls_version}": tls.version, "{cipher}": tls.cipher} if tls else {})
        word = word or self._step("H", _z(session.helo or "unknown"), NO_HELO, QUIET_HELO)
        sender = self.envelope.reverse_path
        self._macros("M", {"i": self.envelope.id, "{mail_addr}": sender, "{auth_authen}": session.user,
                           "{auth_type}": "PLAIN" if session.user else ""})  # fmt: skip
        return word or self._step("M", _z(f"<{sender}>"), NO_MAIL, QUIET_MAIL)

    def recipient(self, recipient: Address) -> str:
        """One recipient."""
        self._macros("R", {"{rcpt_addr}": str(recipient)})
        return self._step("R", _z(f"<{recipient}>"), NO_RCPT, QUIET_RCPT)

    def quit(self) -> None:
        """Says good-bye."""
        self._send("Q", b"")

    def _recipients(self) -> str:
        words = []
        for recipient in self.envelope.recipients:
            word = self.recipient(recipient.address)
            if word in ("pass", "discard"):
                return word
            if word:
                self.refused.append(str(recipient.address))
            words.append(word)
        # The client is told one thing for all: a refusal counts only where it is everybody's.
        if words and all(words):
            return "tempfail" if "tempfail" in words else "reject"
        self.text = ""
        return ""

    def _headers(self, message: Message) -> str:
        if not self.steps & NO_HEADERS:
            for header in message.fields:
                value = header.raw[header.raw.index(b":") + 1 :].rstrip(b"\r\n").replace(b"\r\n", b"\n")
                if not self.steps & LEADING_SPACE:
                    value = value.removeprefix(b" ")
                if word := self._step("L", header.name.encode() + b"\0" + value + b"\0", 0, QUIET_HEADER):
                    return word
        return self._step("N", b"", NO_EOH, QUIET_EOH)

    def _body(self, message: Message) -> str:
        if self.steps & NO_BODY:
            return ""
        for start in range(0, len(message.body), _CHUNK):
            word = self._step("B", bytes(message.body[start : start + _CHUNK]), 0, QUIET_BODY)
            if word == "skip":
                return ""
            if word:
                return word
        return ""

    def _end(self) -> str:
        self._macros("E", {"i": self.envelope.id})
        self._send("E", b"")
        return self._answer() or "pass"

    def _step(self, command: str, data: bytes, unwanted: int, quiet: int) -> str:
        if self.steps & unwanted:
            return ""
        self._send(command, data)
        return "" if self.steps & quiet else self._answer()

    def _answer(self) -> str:
        while True:
            kind, data = self._receive()
            if kind in _FINAL:
                return _FINAL[kind]
            if kind == "c":
                return ""
            if kind == "s":
                return "skip"
            if kind == "y":
                self.text = _texts(data)[0].partition(" ")[2]
                return "tempfail" if data[:1] == b"4" else "reject"
            self._wish(kind, data)

    def _wish(self, kind: str, data: bytes) -> None:
        """Something the milter wants done, or a sign of life."""
        if kind in ("h", "i"):
            name, value, *_ = [*_texts(data[4:] if kind == "i" else data), "", ""]
            self.fields.append([name, value])
        elif kind == "q":
            self.held = _texts(data)[0] or "held by the milter"
        elif kind in _NOT_DONE:
            self.not_done.append(kind)
        elif kind not in ("p", "l"):
            raise ValueError(f"the milter sent {kind!r}, which is nothing known")

    def _macros(self, command: str, values: dict[str, str]) -> None:
        told = b"".join(_z(name) + _z(value) for name, value in values.items() if value)
        if told:
            self._send("D", command.encode() + told)

    def _send(self, command: str, data: bytes) -> None:
        self.talk.send(struct.pack("!I", len(data) + 1) + command.encode() + data)

    def _receive(self) -> tuple[str, bytes]:
        (length,) = struct.unpack("!I", self.talk.read(4))
        if not 1 <= length <= _MAX_PACKET:
            raise ValueError(f"the milter sent a packet of {length} octets")
        packet = self.talk.read(length)
        return packet[:1].decode("latin-1"), packet[1:]


def _z(text: str) -> bytes:
    return text.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0"


def _texts(data: bytes) -> list[str]:
    return [part.decode("utf-8", "replace") for part in data.split(b"\0")]
