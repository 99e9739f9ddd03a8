"""One installation: judge, journal and history together, fed by hooks and by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mailguard.plugin import Delivered, Envelope, Finding, Findings, Flagged, Moved, Session, Store

from .arrival import arrived, arriving
from .explain import explain
from .header import address_of
from .history import History, history_signals, keys, network_of
from .journal import Journal
from .judge import Circumstance, Judge, Judgement, Seen
from .name import Signals
from .part import fields_of
from .rule import Reason, load_rules
from .school import Outcome, School

_MOST_ACCOUNTS = 5
_JUNK = frozenset({"junk", "spam", "inbox.junk", "inbox/junk"})
_TRASH = frozenset({"trash", "deleted", "deleted items", "deleted messages", "inbox.trash", "inbox/trash"})
_SPAM_FLAGS = frozenset({"$junk", "junk"})
_HAM_FLAGS = frozenset({"$notjunk", "notjunk", "nonjunk"})
_AUTH = ("spf", "dkim", "dmarc", "arc", "iprev", "dnsbl")
_ALIAS_TTL = 90 * 86400.0
_MAX_MESSAGE = 8 * 1024 * 1024


class Office:
    """Everything the plugin keeps open. Safe for threads; each worker process has its own."""

    def __init__(self, folder: Path, store: Store, *, rules: Path | None, share: float, hostname: str) -> None:
        self.hostname = hostname
        self.judge = Judge(folder, load_rules(rules))
        self.journal = Journal(folder / "journal.db")
        self.school = School(self.judge, self.journal, share=share)
        self.history = History(store)
        self._store = store

    def check(
        self,
        message: bytes,
        session: Session,
        envelope: Envelope,
        findings: Findings,
        now: float,
        *,
        automatic: int = 0,
    ) -> Finding:
        """Scores an arriving message. With several recipients the mildest of their judgements stands."""
        ptr, ip = session.ptr, session.peer_ip
        raw = arriving(message[:_MAX_MESSAGE], helo=session.helo, ptr=ptr, ip=ip, hostname=self.hostname)
        accounts = self._accounts(envelope)
        sender = sender_of(message)
        if session.user:
            self._wrote(session.user, envelope, now)
        signals, tokens = self._circumstance(session, findings, accounts, sender, now)
        seen = self.judge.look(raw, Circumstance(signals, tuple(tokens), now))
        judged = [(self.judge.judge(seen, account), account) for account in accounts or [""]]
        best, account = min(judged, key=lambda pair: pair[0].points)
        self._remember(best, accounts, sender, ip, now, vouched=vouched(findings))
        if automatic:
            self._automatic(raw, best, account, automatic, now)
        return self._finding(best, explain(self.judge, seen, account))

    def _finding(self, judged: Judgement, reasons: list[Reason]) -> Finding:
        scale = 6.0 / judged.line.at
        listed = tuple((round(r.weight * scale, 2), r.text) for r in reasons)
        side = [text for points, text in listed if (points > 0) == (judged.points > 0)][:2]
        return Finding(
            judged.word,
            reason="; ".join(side) or "nothing speaks for or against it",
            detail=f"log-odds {judged.score.total:.2f}, junk from {judged.line.at:.2f}",
            points=round(judged.points, 2),
            facts={
                "points": round(judged.points, 2),
                "rules": round(judged.score.prior, 2),
                "shared": round(judged.score.shared, 2),
                "personal": round(judged.score.personal, 2),
                "line": round(judged.line.at, 2),
                "learnt_ham": judged.line.ham,
                "learnt_spam": judged.line.spam,
            },
            reasons=listed,
        )

    def _accounts(self, envelope: Envelope) -> list[str]:
        names = [str(r.address).lower() for r in envelope.recipients[:_MOST_ACCOUNTS]]
        return list(dict.fromkeys(str(self._store.get(f"a:{name}") or name) for name in names))

    def _circumstance(
        self, session: Session, findings: Findings, accounts: list[str], sender: str, now: float
    ) -> tuple[Signals, list[bytes]]:
        signals, tokens = auth_signals(findings)
        if session.user:
            signals["signed_in"] = ()
        elif session.helo and ("." not in session.helo or session.helo.startswith("[")):
            signals["helo_odd"] = (session.helo[:60],)
        if sender and not session.user:
            names = keys(accounts[0] if accounts else "", sender, network_of(session.peer_ip))
            own, place, net = (self.history.past(name, now) for name in names)
            more, extra = history_signals(own, place, net, sender, vouched=vouched(findings))
            signals.update(more)
            tokens += extra
        return signals, tokens

    def _wrote(self, user: str, envelope: Envelope, now: float) -> None:
        for recipient in envelope.recipients[:20]:
            self.history.add(f"{user.lower()}/{str(recipient.address).lower()}", now, wrote=1)

    def _remember(
        self, judged: Judgement, accounts: list[str], sender: str, ip: str, now: float, *, vouched: bool
    ) -> None:
        """Kept mail speaks for its sender a little; what was called junk counts against the place it came from."""
        if not sender or not accounts or (judged.word == "ham" and not vouched):
            return
        good, bad = (1.0, 0.0) if judged.word == "ham" else (0.0, 0.3) if judged.word == "spam" else (0.0, 0.0)
        if good or bad:
            for key in keys(accounts[0], sender, network_of(ip))[1:]:
                self.history.add(key, now, good=good, bad=bad)

    def _automatic(self, raw: bytes, judged: Judgement, account: str, most: int, now: float) -> None:
        sure = judged.points >= 10 or (judged.points <= -4 and judged.score.personal < 0)
        if account and sure and self.judge.personal(account) and self._auto_today(account, now) < most:
            self.school.teach(raw, int(judged.points > 0), account, now, origin="automatic")

    def _auto_today(self, account: str, now: float) -> int:
        return sum(row.origin == "automatic" and row.at > now - 86400 for row in self.journal.recent(account))

    def delivered(self, event: Delivered) -> None:
        """Remembers which account an address belongs to, where they differ."""
        account, slash, _ = event.where.partition("/")
        recipient = event.recipient.lower()
        if slash and "@" in account and account.lower() != recipient:
            self._store.put_if_absent(f"a:{recipient}", account.lower(), ttl=_ALIAS_TTL)

    def told(self, event: Moved | Flagged, now: float, log: Any = None) -> Outcome | None:
        """Learns from what an account's user did with a message, if it says anything."""
        label = label_of(event)
        if label is None and not (isinstance(event, Flagged) and answered(event)):
            return None
        try:
            stored = Path(event.path).read_bytes()[:_MAX_MESSAGE]
        except OSError as error:
            if log:
                log.info("message gone before it could be learnt", path=event.path, error=str(error))
            return None
        account = event.account.lower()
        sender = sender_of(stored)
        key, place, _ = keys(account, sender, "")
        if label is None:
            self.history.add(key, now, answered=1)
            return None
        origin = "move" if isinstance(event, Moved) else "flag"
        outcome = self.school.teach(arrived(stored, self.hostname), label, account, now, origin=origin)
        undone = -1.0 if outcome.done == "corrected" else 0.0
        for name in (key, place) if sender and outcome.done != "known" else ():
            self.history.add(name, now, good=undone if label else 1.0, bad=1.0 if label else undone)
        return outcome

    def explain(
        self, stored: bytes, account: str = "", now: float | None = None
    ) -> tuple[Judgement, list[Reason], Seen]:
        """Judges a file as it would be judged now."""
        seen = self.judge.look(arrived(stored, self.hostname), Circumstance(now=now))
        return self.judge.judge(seen, account.lower()), explain(self.judge, seen, account.lower(), most=20), seen

    def close(self) -> None:
        """Closes all files."""
        self.judge.close()
        self.journal.close()


def sender_of(message: bytes) -> str:
    """The From address in lower case, "" without one."""
    for name, value in fields_of(message[:65536].split(b"\r\n\r\n", 1)[0].split(b"\n\n", 1)[0]):
        if name == b"from":
            _, local, domain = address_of(value[:1000])
            return (local + b"@" + domain).decode("utf-8", "replace") if domain else ""
    return ""


def auth_signals(findings: Findings) -> tuple[Signals, list[bytes]]:
    """What other checks found, as signals for the rules and tokens for the learner."""
    words = {name: findings.word(name) for name in _AUTH}
    signals: Signals = {}
    for name, bad in (("spf", ("fail", "softfail")), ("dkim", ("fail",)), ("iprev", ("fail",)), ("dnsbl", ("listed",))):
        if words[name] in bad:
            signals[f"{name}_{words[name]}"] = ()
    if words["dmarc"] in ("fail", "reject", "quarantine"):
        signals["dmarc_fail"] = ()
    elif words["dmarc"] == "pass":
        signals["dmarc_pass"] = ()
    elif words["spf"] != "pass" and words["dkim"] != "pass" and {words["spf"], words["dkim"]} != {"none"}:
        signals["unauthenticated"] = ()
    return signals, [f"auth:{name}={word}".encode() for name, word in words.items() if word != "none"]


def vouched(findings: Findings) -> bool:
    """Whether the sender is who it says: DMARC, SPF or DKIM passed, or none of them was asked."""
    words = [findings.word(name) for name in ("dmarc", "spf", "dkim")]
    if words[0] not in ("none", "pass", "temperror"):
        return False
    return "pass" in words or set(words) == {"none"}


def label_of(event: Moved | Flagged) -> int | None:
    """What a user's act says: 1 junk, 0 not junk, None nothing."""
    if isinstance(event, Flagged):
        added = {flag.lower() for flag in event.added}
        return 1 if added & _SPAM_FLAGS else 0 if added & _HAM_FLAGS else None
    source, target = event.source.lower(), event.target.lower()
    if target in _JUNK:
        return None if source in _JUNK else 1
    return 0 if source in _JUNK and target not in _TRASH else None


def answered(event: Flagged) -> bool:
    """Whether a user answered or marked the message."""
    return bool({"\\answered", "\\flagged", "$forwarded"} & {flag.lower() for flag in event.added})
