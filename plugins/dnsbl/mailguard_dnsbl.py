"""dnsbl: what lists in the DNS say of the client's address and of the sender's domains (RFC 5782, RFC 8904)."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, field_validator

from mailguard.plugin import (
    Answer,
    AuthResult,
    Context,
    DnsTemporaryError,
    Envelope,
    Finding,
    Message,
    Options,
    PluginInfo,
    Session,
    ask_all,
    hookimpl,
    reverse_name,
)

REFUSALS = ipaddress.ip_network("127.255.255.0/24")  # "you may not ask": Spamhaus and others
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")  # anything else is no list's answer (RFC 5782 §2.1)


class Code(Options):
    """What one return code of a list means."""

    points: float = Field(default=0.0, description="points for this code; negative ones speak for the sender")
    meaning: str = Field(default="", description="what the list says by it")


# Meanings by published documentation of the lists; points are ours. `*` stands for any last octet or two.
KNOWN: Mapping[str, Mapping[str, Code]] = {
    "zen.spamhaus.org": {
        "127.0.0.2": Code(points=5, meaning="a known source of spam"),
        "127.0.0.3": Code(points=4, meaning="a source of spam by its behaviour"),
        "127.0.0.4": Code(points=5, meaning="a hijacked or infected machine"),
        "127.0.0.9": Code(points=8, meaning="a network in criminal hands"),
        "127.0.0.10": Code(points=3, meaning="an address that should not send mail by itself, says its provider"),
        "127.0.0.11": Code(points=3, meaning="an address that should not send mail by itself"),
    },
    "dbl.spamhaus.org": {
        "127.0.1.2": Code(points=5, meaning="a domain of spammers"),
        "127.0.1.4": Code(points=7, meaning="a domain used for phishing"),
        "127.0.1.5": Code(points=7, meaning="a domain that spreads malware"),
        "127.0.1.102": Code(points=2, meaning="a good domain that is being abused"),
    },
    "bl.spamcop.net": {"127.0.0.2": Code(points=2, meaning="reported by people who got spam from it")},
    "list.dnswl.org": {
        "127.0.*.0": Code(points=0, meaning="a real mail server"),
        "127.0.*.1": Code(points=-1, meaning="a real mail server that sends little spam"),
        "127.0.*.2": Code(points=-2, meaning="a real mail server that hardly ever sends spam"),
        "127.0.*.3": Code(points=-4, meaning="a real mail server that never sends spam"),
    },
}


class DnsList(Options):
    """One list."""

    zone: str = Field(description="the list's name, such as `zen.spamhaus.org`")
    ask: Literal["ip", "mail_from", "from"] = Field(
        default="ip", description="what is looked up: the client's address, or the domain of MAIL FROM or From"
    )
    kind: Literal["block", "allow"] = Field(default="block", description="whether it lists the bad or the good")
    points: float = Field(default=2.0, description="points for codes that are not explained; 0 ignores those")
    codes: dict[str, Code] = Field(
        default={}, description="return codes (`*` for any octet): points and meaning; well-known lists have theirs"
    )

    @field_validator("zone")
    @classmethod
    def _name(cls, zone: str) -> str:
        return zone.strip(".").lower()

    def code(self, answer: str) -> Code | None:
        """What an answer means, None if it means nothing."""
        for pattern, code in {**KNOWN.get(self.zone, {}), **self.codes}.items():
            if all(p in ("*", a) for p, a in zip(pattern.split("."), answer.split("."), strict=False)):
                return code
        sign = -1 if self.kind == "allow" else 1
        return Code(points=sign * abs(self.points), meaning="listed") if self.points else None


class DnsblOptions(Options):
    """Options of the check."""

    lists: tuple[DnsList, ...] = Field(default=(), description="the lists to ask, side by side")
    at: Literal["message", "client"] = Field(
        default="message",
        description="when to ask: `client` can refuse before a word is spoken, but knows nothing of the sender yet",
    )
    health_check: bool = Field(default=True, description="leave out a list that is dead or lists everybody")


@dataclass(frozen=True, slots=True)
class Hit:
    """What one list says; ``ill`` why it was not believed, ``""`` if it was."""

    source: DnsList
    answer: str = ""
    code: Code = field(default_factory=Code)
    ill: str = ""


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "dnsbl",
        summary="Is the client, or the sender's domain, on a list of bad ones or of good ones?",
        words={"listed": "score 0", "allowed": "score 0", "clean": "accept", "temperror": "accept"},
        options=DnsblOptions,
        after=("spf", "dkim", "dmarc"),
        network=True,
        repeatable=True,
        skip_if='client.known && found["dmarc"] == "pass"',
        explain={
            "listed": "on a list of bad ones; the points are those of the lists",
            "allowed": "on a list of good ones only; the points are those of the lists",
            "clean": "on no list",
            "temperror": "no list answered, or none could be believed",
        },
    )


@hookimpl
def check_client(ctx: Context[DnsblOptions], session: Session) -> Finding | None:
    if ctx.options.at != "client" or session.authenticated:
        return None
    return _ask_all(ctx, [(one, session.peer_ip) for one in ctx.options.lists if one.ask == "ip"])


@hookimpl
def check_message(ctx: Context[DnsblOptions], session: Session, envelope: Envelope, message: Message) -> Finding | None:
    if ctx.options.at != "message" or session.authenticated:
        return None
    subjects = {
        "ip": session.peer_ip,
        "mail_from": envelope.mail_from.domain if envelope.mail_from else "",
        "from": message.get("From").rpartition("@")[2].strip("> \t\"'").lower(),
    }
    return _ask_all(ctx, [(one, subjects[one.ask]) for one in ctx.options.lists])


def _ask_all(ctx: Context[DnsblOptions], questions: Iterable[tuple[DnsList, str]]) -> Finding | None:
    asked = [(one, name) for one, subject in questions if (name := _name(one, subject))]
    if not asked:
        return None
    until = time.monotonic() + ctx.deadline * 0.8
    answers = _ask(ctx, [name for _, name in asked], time.monotonic() + ctx.deadline * 0.5)
    doubted = [one for (one, _), found in zip(asked, answers, strict=True) if _to_be_believed(found, ctx.options)]
    ill = _illnesses(ctx, doubted, until)
    return _finding([_hit(one, found, ill) for (one, _), found in zip(asked, answers, strict=True)])


def _name(one: DnsList, subject: str) -> str:
    """The name to look up, ``""`` where the question makes no sense (a private address, no domain)."""
    if one.ask != "ip":
        return f"{subject}.{one.zone}" if "." in subject and subject.isascii() and " " not in subject else ""
    if not ipaddress.ip_address(subject).is_global:
        return ""
    return f"{_reversed(subject)}.{one.zone}"


def _reversed(ip: str) -> str:
    return reverse_name(ip).removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def _ask(ctx: Context[DnsblOptions], names: list[str], until: float) -> list[Answer | DnsTemporaryError]:
    """The addresses of names, asked side by side in the time that is left."""
    left = until - time.monotonic()
    if left <= 0:
        return [DnsTemporaryError(f"{name}: no time left to ask") for name in names]
    return ask_all(ctx.dns, [(name, "A") for name in names], timeout=left)


def _listed(found: Answer) -> list[str]:
    return [address for address in found.records if ipaddress.ip_address(address) in LOOPBACK]


def _refuses(found: Answer) -> bool:
    return any(ipaddress.ip_address(address) in REFUSALS for address in found.records)


def _to_be_believed(found: Answer | DnsTemporaryError, options: DnsblOptions) -> bool:
    """Whether it matters that the list is well."""
    return options.health_check and isinstance(found, Answer) and bool(_listed(found)) and not _refuses(found)


def _hit(one: DnsList, found: Answer | DnsTemporaryError, ill: Mapping[str, str]) -> Hit:
    if isinstance(found, DnsTemporaryError):
        return Hit(one, ill=f"it does not answer now ({found})")
    if _refuses(found):
        return Hit(one, ill="it refuses to answer us: it wants to be asked through a resolver of our own")
    if one.zone in ill:
        return Hit(one, ill=ill[one.zone])
    meant = [(address, code) for address in _listed(found) if (code := one.code(address))]
    answer, code = max(meant, key=lambda pair: abs(pair[1].points), default=("", Code()))
    return Hit(one, answer, code)


def _illnesses(ctx: Context[DnsblOptions], lists: list[DnsList], until: float) -> dict[str, str]:
    """Which of these lists are not to be believed, and why (RFC 5782 §5). The resolver remembers the answers."""
    names = []
    for one in lists:
        test, never = ("2.0.0.127", "1.0.0.127") if one.ask == "ip" else ("test", "invalid")
        names += [f"{never}.{one.zone}", f"{test}.{one.zone}"]
    answers = _ask(ctx, names, until) if names else []
    return {
        one.zone: why
        for one, never_, test_ in zip(lists, answers[::2], answers[1::2], strict=True)
        if (why := _illness(one, never_, test_))
    }


def _illness(one: DnsList, never: Answer | DnsTemporaryError, test: Answer | DnsTemporaryError) -> str:
    """Why the list is not to be believed, ``""`` if it is well."""
    if isinstance(never, DnsTemporaryError):
        return f"it does not answer now ({never})"
    if never.records:
        return "it lists everybody: it was given up, or its name is someone else's now"
    if one.kind == "allow":
        return ""
    if isinstance(test, DnsTemporaryError):
        return f"it does not answer now ({test})"
    return "" if test.records else "it does not list its own test entry: it was given up"


def _finding(hits: list[Hit]) -> Finding:
    listed = [hit for hit in hits if hit.answer]
    bad = [hit for hit in listed if hit.source.kind == "block" and hit.code.points > 0]
    ill = [hit for hit in hits if hit.ill]
    word = "listed" if bad else "allowed" if listed else "temperror" if len(ill) == len(hits) else "clean"
    shown = bad or listed
    reason = "; ".join(f"{hit.source.zone} calls it {hit.code.meaning or 'listed'}" for hit in shown)
    return Finding(
        word,
        reason or {"clean": "on none of the lists", "temperror": "no list could be asked"}[word],
        detail="; ".join(f"{hit.source.zone} left out: {hit.ill}" for hit in ill),
        points=sum(hit.code.points for hit in listed),
        auth=tuple(_auth(hit) for hit in listed if hit.source.kind == "allow"),
        facts={"lists": {hit.source.zone: hit.answer for hit in listed}, "ill": [hit.source.zone for hit in ill]},
        reasons=tuple((hit.code.points, f"{hit.source.zone}: {hit.code.meaning or hit.answer}") for hit in listed),
    )


def _auth(hit: Hit) -> AuthResult:
    properties = (("dns", "zone", hit.source.zone), ("policy", "ip", hit.answer))
    return AuthResult("dnswl", "pass", properties=properties)
