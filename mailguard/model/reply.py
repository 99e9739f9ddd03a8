"""SMTP replies and the errors that carry one (RFC 5321 §4.2, RFC 2034, RFC 3463)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply.

    ``code`` is the three-digit reply code, ``status`` the enhanced status code such as ``"5.7.1"`` or
    ``""`` where none belongs (banner, EHLO, 3xx), ``lines`` the text without CRLF, ASCII unless the client
    asked for SMTPUTF8.
    """

    code: int
    status: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, code: int, status: str, *lines: str) -> Reply:
        """The reply with these text lines; raises ValueError if code and status disagree (RFC 2034 §4)."""
        if not 200 <= code <= 599:
            raise ValueError(f"reply code {code} is not in 200..599")
        if status and status[0] != str(code)[0]:
            raise ValueError(f"enhanced status {status} does not match reply code {code}")
        return cls(code, status, lines or ("",))

    @property
    def ok(self) -> bool:
        """Whether the command succeeded or may go on (2xx, 3xx)."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """Whether the client should try again later (4xx)."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """Whether trying again is pointless (5xx)."""
        return self.code >= 500

    @property
    def text(self) -> str:
        """All text lines joined by a space."""
        return " ".join(self.lines)

    def with_text(self, *lines: str) -> Reply:
        """The same codes with another text."""
        return replace(self, lines=lines)

    def encode(self) -> bytes:
        """The reply as sent: the code on every line, the status repeated (RFC 2034 §4)."""
        return _octets(self.code, self.status, self.lines)

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.status, self.text) if part)


@lru_cache(maxsize=256)
def _octets(code: int, status: str, lines: tuple[str, ...]) -> bytes:
    """Kept for the few that are nearly all: most clients hear the same six replies."""
    status = f"{status} " if status else ""
    last = len(lines) - 1
    return b"".join(
        f"{code}{'-' if n < last else ' '}{status}{_one_line(line)}\r\n".encode() for n, line in enumerate(lines)
    )


def _one_line(text: str) -> str:
    # A reply line must not smuggle a second one, whatever text a plugin or a peer supplied.
    return text.replace("\r", " ").replace("\n", " ")


class MailError(Exception):
    """Something went wrong with one message or recipient; ``reply`` says it in SMTP's words.

    ``detail`` is for the log only and never reaches the peer.
    """

    def __init__(self, reply: Reply, detail: str = "") -> None:
        super().__init__(f"{reply} ({detail})" if detail else str(reply))
        self.reply = reply
        self.detail = detail


class TransientError(MailError):
    """Worth trying again later (4xx)."""


class PermanentError(MailError):
    """Will not work however often it is tried (5xx)."""


def error_for(reply: Reply, detail: str = "") -> MailError:
    """The error class that fits the reply's first digit."""
    return (TransientError if reply.temporary else PermanentError)(reply, detail)
