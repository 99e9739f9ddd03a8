"""SMTP and LMTP command lines, as a server reads them (RFC 5321 §4.1)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from mailguard.model.address import Address, AddressError
from mailguard.model.envelope import Recipient
from mailguard.model.reply import Reply
from mailguard.protocol.wire import ProtocolError

MAX_PATH = 320  # octets: 64 + "@" + 255, what the parts allow together (RFC 5321 §4.5.3.1 says 256 must do)
POSTMASTER = Address("postmaster", "")


@dataclass(frozen=True, slots=True)
class Simple:
    """A command whose argument does not matter: DATA RSET NOOP QUIT HELP VRFY EXPN STARTTLS."""

    verb: str


@dataclass(frozen=True, slots=True)
class Hello:
    """HELO, EHLO or LHLO with the name the client gives itself."""

    verb: str
    name: str


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM; ``mail_from`` is None for ``<>``, the rest as in Envelope. ``hold_for`` is in seconds."""

    mail_from: Address | None
    size: int = 0
    body_8bit: bool = False
    smtputf8: bool = False
    require_tls: bool = False
    ret: str = ""
    envid: str = ""
    hold_for: int = 0
    hold_until: int = 0


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO."""

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: ``size`` octets follow, ``last`` ends the message (RFC 3030 §2)."""

    size: int
    last: bool


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH; ``initial`` is the decoded initial response, None without one (RFC 4954 §4)."""

    mechanism: str
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Xclient:
    """XCLIENT: what a trusted proxy says of its client, names in upper case (Postfix's XCLIENT_README)."""

    attributes: dict[str, str]


Command = Simple | Hello | Mail | Rcpt | Bdat | Auth | Xclient

SIMPLE = frozenset({"DATA", "RSET", "NOOP", "QUIT", "HELP", "VRFY", "EXPN", "STARTTLS"})
_BARE = frozenset({"DATA", "RSET", "QUIT", "STARTTLS"})  # these take no argument


def syntax_error(text: str, *, code: int = 501, status: str = "5.5.4") -> ProtocolError:
    """A refusal of one command."""
    return ProtocolError(text, reply=Reply.of(code, status, text))


def parse(line: bytes) -> Command:
    """Reads one line without its line end; raises ProtocolError with the reply."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise syntax_error("the command is not UTF-8", code=500, status="5.5.2") from None
    if "\0" in text or "\r" in text:
        raise syntax_error("NUL or CR in a command", code=500, status="5.5.2")
    verb, _, rest = text.partition(" ")
    verb = verb.upper()
    if verb in SIMPLE:
        if rest.strip() and verb in _BARE:
            raise syntax_error(f"{verb} takes no argument")
        return Simple(verb)
    reader = _READERS.get(verb)
    if reader is None:
        raise syntax_error("command not known", code=500, status="5.5.1")
    return reader(verb, rest.strip())


def _hello(verb: str, rest: str) -> Hello:
    name = rest.split(" ", 1)[0]
    if not name or len(name) > 255 or not name.isprintable():
        raise syntax_error(f"say {verb} and the name of your host")
    return Hello(verb, name)


def _mail(_verb: str, rest: str) -> Mail:
    path, parameters = _path(rest, "FROM:")
    values: dict[str, object] = {}
    for key, value in parameters:
        reader = _MAIL_PARAMETERS.get(key)
        if reader is None:
            raise syntax_error(f"parameter {key[:40]} of MAIL is not known", code=555)
        name, read = reader
        if name in values:
            raise syntax_error(f"parameter {key} is given twice")
        values[name] = read(key, value)
    values.pop("auth", None)  # AUTH= is accepted and not believed (RFC 4954 §5)
    if "hold_for" in values and "hold_until" in values:
        raise syntax_error("HOLDFOR and HOLDUNTIL exclude each other")
    mail = Mail(None if path == "" else _address(path, status="5.1.7"), **values)  # type: ignore[arg-type]
    if not rest.isascii() and not mail.smtputf8:
        raise syntax_error("this address needs the parameter SMTPUTF8", code=553, status="5.6.7")
    return mail


def _rcpt(_verb: str, rest: str) -> Rcpt:
    path, parameters = _path(rest, "TO:")
    notify: frozenset[str] = frozenset()
    orcpt = ""
    for key, value in parameters:
        if key == "NOTIFY" and not notify:
            notify = _notify(value)
        elif key == "ORCPT" and not orcpt:
            orcpt = _orcpt(value)
        elif key in ("NOTIFY", "ORCPT"):
            raise syntax_error(f"parameter {key} is given twice")
        else:
            raise syntax_error(f"parameter {key[:40]} of RCPT is not known", code=555)
    if path.lower() == "postmaster":  # without a domain: RFC 5321 §4.5.1
        return Rcpt(Recipient(POSTMASTER, notify, orcpt))
    return Rcpt(Recipient(_address(path, status="5.1.3"), notify, orcpt))


def _path(rest: str, keyword: str) -> tuple[str, list[tuple[str, str]]]:
    if rest[: len(keyword)].upper() != keyword:
        raise syntax_error(f"expected {keyword}<address>")
    rest = rest[len(keyword) :].lstrip()
    end = _path_end(rest)
    if end < 0 or end > MAX_PATH + 256:  # 256 for a source route
        raise syntax_error("the address must stand in <>, and not be too long")
    parameters = []
    tail = rest[end + 1 :]
    if tail and not tail.startswith(" "):
        raise syntax_error("a blank is missing behind the address")
    for word in tail.split():
        key, equals, value = word.partition("=")
        if not key or (equals and not value):
            raise syntax_error(f"bad parameter {word[:40]}")
        parameters.append((key.upper(), value))
    path = rest[1:end]
    if path.startswith("@"):  # a source route: read and ignored (RFC 5321 §3.6.1, appendix C)
        path = path.partition(":")[2]
        if not path:
            raise syntax_error("the source route leads nowhere")
    return path, parameters


def _path_end(rest: str) -> int:
    if not rest.startswith("<"):
        return -1
    if '"' not in rest:
        return rest.find(">")
    quoted = escaped = False
    for at, char in enumerate(rest):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = quoted
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            return at
    return -1


def _address(text: str, *, status: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise syntax_error(f"bad address: {error}"[:200].encode("ascii", "replace").decode(), status=status) from None


def _notify(value: str) -> frozenset[str]:
    words = frozenset(value.upper().split(","))
    if not words <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"} or ("NEVER" in words and len(words) > 1):
        raise syntax_error("NOTIFY must be NEVER or of SUCCESS,FAILURE,DELAY")
    return words


def _orcpt(value: str) -> str:
    kind, semicolon, text = value.partition(";")
    if not semicolon or not kind or len(value) > 500:
        raise syntax_error("ORCPT must be a type and an address, at most 500 octets")
    if kind.lower() != "utf-8":
        _xtext("ORCPT", text)
    return value


def _xtext(key: str, value: str) -> str:
    """Checks xtext: printable ASCII, ``+`` only before two upper-case hex digits (RFC 3461 §4)."""
    parts = value.split("+")
    good = value.isascii() and value.isprintable() and "=" not in value
    if not good or any(len(p) < 2 or not set(p[:2]) <= set("0123456789ABCDEF") for p in parts[1:]):
        raise syntax_error(f"{key} is not xtext")
    return value


def _envid(key: str, value: str) -> str:
    if len(value) > 100:
        raise syntax_error("ENVID may have 100 octets")
    return _xtext(key, value)


def _number(key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 20:
        raise syntax_error(f"{key} needs a number")
    return int(value)


def _flag(key: str, value: str) -> bool:
    if value:
        raise syntax_error(f"{key} takes no value")
    return True


def _body(_key: str, value: str) -> bool:
    if value.upper() not in ("7BIT", "8BITMIME"):
        raise syntax_error("BODY must be 7BIT or 8BITMIME")
    return value.upper() == "8BITMIME"


def _ret(_key: str, value: str) -> str:
    if value.upper() not in ("FULL", "HDRS"):
        raise syntax_error("RET must be FULL or HDRS")
    return value.upper()


def _date(key: str, value: str) -> int:
    try:
        when = datetime.fromisoformat(value.upper().replace("Z", "+00:00"))
        return int(when.timestamp()) if when.tzinfo else int(datetime.fromisoformat(value + "+00:00").timestamp())
    except (ValueError, OverflowError):
        raise syntax_error(f"{key} needs a date such as 2026-12-31T12:00:00Z") from None


_MAIL_PARAMETERS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "SIZE": ("size", _number),
    "BODY": ("body_8bit", _body),
    "SMTPUTF8": ("smtputf8", _flag),
    "REQUIRETLS": ("require_tls", _flag),
    "RET": ("ret", _ret),
    "ENVID": ("envid", _envid),
    "AUTH": ("auth", _xtext),
    "HOLDFOR": ("hold_for", _number),
    "HOLDUNTIL": ("hold_until", _date),
}


def _bdat(_verb: str, rest: str) -> Bdat:
    size, _, last = rest.partition(" ")
    if not size.isdigit() or not size.isascii() or len(size) > 15 or last.upper() not in ("", "LAST"):
        # Fatal: octets of unknown number follow, which must not be read as commands.
        text = "BDAT needs the number of octets, and may say LAST"
        raise ProtocolError(text, reply=Reply.of(501, "5.5.4", text), fatal=True)
    return Bdat(int(size), bool(last))


def decode_base64(text: str) -> bytes:
    """A base64 response; ``=`` alone is an empty one. Raises ProtocolError."""
    if text == "=":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise syntax_error("not base64", status="5.5.2") from None


def _auth(_verb: str, rest: str) -> Auth:
    mechanism, _, initial = rest.partition(" ")
    if not mechanism:
        raise syntax_error("AUTH needs a mechanism")
    return Auth(mechanism.upper(), decode_base64(initial) if initial else None)


def _xclient(_verb: str, rest: str) -> Xclient:
    attributes = {}
    for word in rest.split():
        key, equals, value = word.partition("=")
        if not equals:
            raise syntax_error("XCLIENT needs NAME=value")
        attributes[key.upper()] = "" if value.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else _unxtext(value)
    return Xclient(attributes)


def _unxtext(value: str) -> str:
    head, *parts = value.split("+")
    try:
        return head + "".join(chr(int(part[:2], 16)) + part[2:] for part in parts)
    except ValueError:
        raise syntax_error("bad xtext") from None


_READERS: dict[str, Callable[[str, str], Command]] = {
    "HELO": _hello,
    "EHLO": _hello,
    "LHLO": _hello,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "BDAT": _bdat,
    "AUTH": _auth,
    "XCLIENT": _xclient,
}
