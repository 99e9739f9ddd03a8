"""What may be said when: the reply that refuses a command in the present state, or None (RFC 5321 §4.1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from mailguard.model.reply import Reply
from mailguard.protocol.smtp import command as cmd
from mailguard.protocol.smtp.event import Profile

XCLIENT_NAMES = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"


@dataclass(slots=True)
class State:
    """Where the conversation stands. ``mail`` is the open transaction, ``rcpts`` how many recipients it has,
    ``mails`` how many transactions there were."""

    hello: bool = False
    authenticated: bool = False
    mail: cmd.Mail | None = None
    rcpts: int = 0
    mails: int = 0


@lru_cache(maxsize=16)
def extensions(p: Profile) -> tuple[str, ...]:
    """What EHLO or LHLO announces."""
    found = [f"SIZE {p.size_limit}", "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING"]
    found.append(f"LIMITS MAILMAX={p.mail_max} RCPTMAX={p.rcpt_max}")
    if p.hold_max:
        found.append(f"FUTURERELEASE {p.hold_max} {datetime.fromtimestamp(p.hold_until, UTC):%Y-%m-%dT%H:%M:%SZ}")
    if p.starttls:
        found.append("STARTTLS")
    if p.secured:
        found.append("REQUIRETLS")
    if p.mechanisms:
        found.append("AUTH " + " ".join(p.mechanisms))
    if p.xclient:
        found.append("XCLIENT " + XCLIENT_NAMES)
    return tuple(found)


def refused_hello(p: Profile, verb: str) -> Reply | None:
    """LHLO belongs to LMTP, and nothing else does (RFC 2033 §4.1)."""
    if (verb == "LHLO") == p.lmtp:
        return None
    return Reply.of(500, "5.5.1", "this is LMTP, say LHLO" if p.lmtp else "this is SMTP, say EHLO")


def refused_mail(p: Profile, state: State, command: cmd.Mail) -> Reply | None:
    """MAIL: after EHLO, signed in where that is needed, one transaction at a time, within the limits."""
    if not state.hello:
        return Reply.of(503, "5.5.1", f"say {'LHLO' if p.lmtp else 'EHLO'} first")
    if state.mail is not None:
        return Reply.of(503, "5.5.1", "a transaction is under way already")
    if p.needs_auth and not state.authenticated:
        if p.starttls:
            return Reply.of(530, "5.7.0", "STARTTLS first, then sign in: this port is for our users")
        return Reply.of(530, "5.7.0", "authentication is required on this port")
    if state.mails >= p.mail_max:
        return Reply.of(421, "4.7.0", f"{p.mail_max} messages over one connection: connect again for more")
    if command.size > p.size_limit:
        return Reply.of(552, "5.3.4", f"at most {p.size_limit} octets are accepted")
    if command.require_tls and not p.secured:
        return Reply.of(550, "5.7.10", "REQUIRETLS needs TLS")
    if command.hold_for or command.hold_until:
        return _refused_hold(p, command)
    return None


def _refused_hold(p: Profile, command: cmd.Mail) -> Reply | None:
    if not p.hold_max:
        return Reply.of(555, "5.5.4", "HOLDFOR and HOLDUNTIL are not available here")
    if command.hold_for > p.hold_max or command.hold_until > p.hold_until:
        return Reply.of(501, "5.5.4", f"a message can be held for {p.hold_max} seconds at most")
    return None


def refused_rcpt(p: Profile, state: State, command: cmd.Rcpt) -> Reply | None:
    """RCPT: in a transaction, up to the limit; bounces have one recipient (RFC 5321 §4.5.5)."""
    if state.mail is None:
        return Reply.of(503, "5.5.1", "MAIL first")
    if state.rcpts >= p.rcpt_max:
        return Reply.of(452, "4.5.3", f"more than {p.rcpt_max} recipients: send the rest again")
    if state.mail.mail_from is None and state.rcpts and not (state.authenticated or p.lmtp):
        return Reply.of(452, "4.5.3", "one recipient at a time for mail from <>: send the rest again")
    if command.utf8 and not state.mail.smtputf8:
        return Reply.of(553, "5.6.7", "this recipient needs the parameter SMTPUTF8 of MAIL")
    return None


def refused_auth(p: Profile, state: State, command: cmd.Auth) -> Reply | None:
    """AUTH: once, inside TLS, after EHLO, outside a transaction (RFC 4954 §4)."""
    if not p.mechanisms:
        if p.starttls and p.needs_auth:
            return Reply.of(538, "5.7.11", "sign in inside TLS only: STARTTLS first")
        return Reply.of(502, "5.5.1", "no AUTH on this port")
    if not state.hello or state.mail is not None or state.authenticated:
        return Reply.of(503, "5.5.1", "AUTH comes once, after EHLO and outside a transaction")
    if command.mechanism.upper() not in p.mechanisms:
        return Reply.of(504, "5.5.4", f"mechanisms here: {' '.join(p.mechanisms)}")
    return None


def refused_data(p: Profile, state: State, *, by_chunks: bool) -> Reply | None:
    """DATA: with a recipient, and not while BDAT is under way (RFC 3030 §2)."""
    if by_chunks:
        return Reply.of(503, "5.5.1", "BDAT is under way")
    if state.mail is None:
        return Reply.of(503, "5.5.1", "MAIL first")
    if not state.rcpts:
        # RFC 2033 §4.2 wants 503 in LMTP, RFC 2920 §3.1 allows 554 in SMTP.
        return (
            Reply.of(503, "5.5.1", "no valid recipients") if p.lmtp else Reply.of(554, "5.5.1", "no valid recipients")
        )
    return None


def refused_xclient(p: Profile, state: State) -> Reply | None:
    """XCLIENT: from those who may, outside a transaction."""
    if not p.xclient:
        return Reply.of(550, "5.7.1", "XCLIENT is not for this client: `xclient_from` in [smtp] names who may")
    if state.mail is not None:
        return Reply.of(503, "5.5.1", "a transaction is under way")
    return None
