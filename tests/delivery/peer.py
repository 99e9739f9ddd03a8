"""A next hop on loopback that plays whatever a test scripts."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping

from loopback import Loopback

Handler = Callable[["Talk"], None]


class Talk:
    """One accepted connection."""

    def __init__(self, peer: Peer, sock: socket.socket) -> None:
        self.peer = peer
        self.sock: socket.socket = sock
        self.buffer = b""

    def say(self, text: str) -> None:
        self.sock.sendall(text.replace("\n", "\r\n").encode() + b"\r\n")

    def line(self) -> str:
        while b"\r\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode()

    def body(self) -> bytes:
        while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        if self.buffer.startswith(b".\r\n"):
            self.buffer = self.buffer[3:]
            return b""
        body, _, self.buffer = self.buffer.partition(b"\r\n.\r\n")
        return body + b"\r\n"

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.buffer = b""


class Peer(Loopback):
    """Listens on 127.0.0.1. ``answers`` maps the start of a command line to what is said instead of 250."""

    def __init__(
        self,
        *,
        extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 10000000"),
        answers: Mapping[str, str] | None = None,
        handler: Handler | None = None,
        context: ssl.SSLContext | None = None,
        name: str = "mx.peer.test",
    ) -> None:
        self.extensions = extensions + (("STARTTLS",) if context else ())
        self.answers = dict(answers or {})
        self.handler = handler or self.serve
        self.context = context
        self.name = name
        self.messages: list[bytes] = []
        self.transactions: list[list[str]] = []
        self.changed = threading.Condition()
        super().__init__()

    def run(self, sock: socket.socket) -> None:
        talk = Talk(self, sock)
        with contextlib.suppress(OSError, EOFError):
            self.handler(talk)
        with contextlib.suppress(OSError):
            talk.sock.close()

    def serve(self, talk: Talk) -> None:
        talk.say(self.answers.get("greeting", f"220 {self.name} ESMTP"))
        transaction: list[str] = []
        while True:
            line = talk.line()
            verb = line.split(" ", 1)[0].upper()
            scripted = next((a for start, a in self.answers.items() if line.upper().startswith(start.upper())), None)
            if scripted == "close":
                return
            if verb == "EHLO" and scripted is None:
                extensions = [e for e in self.extensions if e != "STARTTLS" or not isinstance(talk.sock, ssl.SSLSocket)]
                lines = [self.name, *extensions]
                talk.say("\n".join(f"250{' ' if n == len(lines) - 1 else '-'}{e}" for n, e in enumerate(lines)))
            elif verb == "STARTTLS" and scripted is None and self.context:
                talk.say("220 go")
                talk.start_tls(self.context)
            elif verb == "DATA" and scripted is None:
                talk.say("354 go")
                body = talk.body()
                with self.changed:
                    self.messages.append(body)
                    self.transactions.append(transaction)
                    self.changed.notify_all()
                transaction = []
                if self.answers.get("dot") == "close":
                    return
                talk.say(self.answers.get("dot", "250 2.0.0 queued"))
            elif verb == "QUIT":
                talk.say("221 bye")
                return
            else:
                if verb in ("MAIL", "RCPT"):
                    transaction.append(line)
                talk.say(scripted or ("235 ok" if verb == "AUTH" else "250 2.0.0 ok"))

    def wait(self, count: int, seconds: float = 20) -> list[bytes]:
        until = time.monotonic() + seconds
        with self.changed:
            while len(self.messages) < count:
                left = until - time.monotonic()
                assert left > 0, f"{len(self.messages)} of {count} messages came"
                self.changed.wait(left)
            return list(self.messages)
