"""POP3 commands: one line of octets to a Command (RFC 1939 §3, RFC 2449 §4)."""

from __future__ import annotations

from dataclasses import dataclass

from mailguard.protocol.wire import ProtocolError

MAX_LINE = 1024  # octets; RFC 2449 §4 asks for 255, clients send longer initial responses
MAX_RESPONSE = 12_288  # octets of one SASL response, RFC 5034 §4

_ARGUMENTS = {
    "APOP": (2, 2), "AUTH": (0, 2), "CAPA": (0, 0), "DELE": (1, 1), "LANG": (0, 1), "LAST": (0, 0), "LIST": (0, 1),
    "NOOP": (0, 0), "QUIT": (0, 0), "RETR": (1, 1), "RSET": (0, 0), "STAT": (0, 0), "STLS": (0, 0), "TOP": (2, 2),
    "UIDL": (0, 1), "USER": (1, 1), "UTF8": (0, 0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """One command: ``verb`` in capitals, ``arguments`` as the octets between spaces."""

    verb: str
    arguments: tuple[bytes, ...] = ()

    def number(self, index: int) -> int:
        """An argument as a number of zero or more; raises ProtocolError."""
        text = self.arguments[index]
        if not text.isdigit() or len(text) > 10:
            raise ProtocolError("that is not a number")
        return int(text)


def parse(line: bytes) -> Command:
    """Reads a line without its end. Raises ProtocolError for unknown verbs and wrong numbers of arguments."""
    verb_octets, _, rest = line.partition(b" ")
    verb = verb_octets.decode("ascii", "replace").upper()
    if verb == "PASS":  # a password may hold spaces, RFC 1939 §7
        if not rest:
            raise ProtocolError("PASS needs a password")
        return Command(verb, (rest,))
    if verb not in _ARGUMENTS:
        raise ProtocolError("unknown command")
    arguments = tuple(rest.split())
    least, most = _ARGUMENTS[verb]
    if not least <= len(arguments) <= most:
        raise ProtocolError(f"wrong number of arguments for {verb}")
    return Command(verb, arguments)
