"""SMTP and LMTP command lines, as a server reads them (RFC 5321 §4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from mailguard.model.address import Address, AddressError
from mailguard.model.envelope import Recipient
from mailguard.model.reply import Reply
from mailguard.protocol.smtp.parameter import MAIL_PARAMETERS, decode_base64, syntax_error, unxtext
from mailguard.protocol.smtp.parameter import notify as notify_words
from mailguard.protocol.smtp.parameter import orcpt as orcpt_text
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
    """RCPT TO; ``utf8`` says that it is not all ASCII, if only in a domain that has an A-label."""

    recipient: Recipient
    utf8: bool = False


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
_KEPT, _SECRET = 128, (b"AUTH", b"XCLI")
_BARE = frozenset({"DATA", "RSET", "QUIT", "STARTTLS"})  # these take no argument


def parse(line: bytes) -> Command:
    """Reads one line without its line end; raises ProtocolError with the reply."""
    # All day the same hosts send the same words to the same people. Passwords are not kept.
    return _parse_kept(line) if len(line) <= _KEPT and line[:4].upper() not in _SECRET else _parse(line)


def _parse(line: bytes) -> Command:
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


_parse_kept = lru_cache(maxsize=512)(_parse)


def _hello(verb: str, rest: str) -> Hello:
    name = rest.split(" ", 1)[0]
    if not name or len(name) > 255 or not name.isprintable():
        raise syntax_error(f"say {verb} and the name of your host")
    return Hello(verb, name)


def _mail(_verb: str, rest: str) -> Mail:
    path, parameters = _path(rest, "FROM:")
    values: dict[str, object] = {}
    for key, value in parameters:
        reader = MAIL_PARAMETERS.get(key)
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
            notify = notify_words(value)
        elif key == "ORCPT" and not orcpt:
            orcpt = orcpt_text(value)
        elif key in ("NOTIFY", "ORCPT"):
            raise syntax_error(f"parameter {key} is given twice")
        else:
            raise syntax_error(f"parameter {key[:40]} of RCPT is not known", code=555)
    if path.lower() == "postmaster":  # without a domain: RFC 5321 §4.5.1
        return Rcpt(Recipient(POSTMASTER, notify, orcpt))
    return Rcpt(Recipient(_address(path, status="5.1.3"), notify, orcpt), not rest.isascii())


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


def _bdat(_verb: str, rest: str) -> Bdat:
    size, _, last = rest.partition(" ")
    if not size.isdigit() or not size.isascii() or len(size) > 15 or last.upper() not in ("", "LAST"):
        # Fatal: octets of unknown number follow, which must not be read as commands.
        text = "BDAT needs the number of octets, and may say LAST"
        raise ProtocolError(text, reply=Reply.of(501, "5.5.4", text), fatal=True)
    return Bdat(int(size), bool(last))


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
        attributes[key.upper()] = "" if value.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else unxtext(value)
    return Xclient(attributes)


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
