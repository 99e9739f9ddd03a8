"""One installation: judge, journal and history together, fed by hooks and by the command line.

What a message needs before it is answered is read and computed; what is remembered of it is written afterwards, on
the thread that events are told on.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from mailguard.plugin import Accepted, Envelope, Finding, Findings, Flagged, Moved, Session, Store

from .arrival import Hop, arrived, arriving, digest, first_fields, hop
from .deed import kept, label_of, origin_of
from .explain import explain
from .header import address_of
from .history import History, Past, history_signals, keys, known, network_of
from .journal import Arrival, Journal
from .judge import Circumstance, Judge, Judgement, Seen
from .notebook import Notebook
from .rehearsal import Kept, pack
from .relearning import Relearning, Relearnt
from .rule import Reason, load_rules
from .school import Outcome, School
from .vouch import auth_signals, vouched

_MOST_ACCOUNTS = 5
_MOST_PENDING = 64
_ALIAS_TTL = 90 * 86400.0
_SETTLE_EVERY = 60.0
_DAY = 86400.0
MAX_MESSAGE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pending:
    """A message scored and not yet stored: all that is written down of it once it is."""

    digest: str
    kept: Kept
    judged: dict[str, Judgement]
    sender: str
    ip: str
    vouched: bool


class Office:
    """Everything the plugin keeps open. Safe for threads; each worker process has its own."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        *,
        rules: Path | None,
        share: float,
        hostname: str,
        failed: Callable[[Exception], None] = lambda _: None,
        stored: Callable[[str], Iterable[bytes]] | None = None,
        log: Any = None,
    ) -> None:
        self.hostname = hostname
        self.judge = Judge(folder, load_rules(rules))
        self.journal = Journal(folder / "journal.db")
        self.school = School(self.judge, self.journal, share=share)
        self.history = History(store)
        self.notebook = Notebook(self.journal, self.history, failed=failed)
        self._relearning = Relearning(self.judge, self.journal, stored, hostname, log) if stored else None
        self._store = store
        self._lock = Lock()
        self._pending: OrderedDict[str, Pending] = OrderedDict()
        self._aliases: OrderedDict[str, str] = OrderedDict()
        self._settled_at = 0.0
        self._renewed = -1
        self._relearn()

    def check(self, message: bytes, session: Session, envelope: Envelope, findings: Findings, now: float) -> Finding:
        """Scores an arriving message. With several recipients the mildest of their judgements stands."""
        message = message[:MAX_MESSAGE]
        helo, ptr, ip = session.helo, session.ptr, session.peer_ip
        raw = arriving(message, helo=helo, ptr=ptr, ip=ip, hostname=self.hostname)
        accounts = [] if session.user else self._accounts(envelope)
        fields = first_fields(message)
        sender = sender_in(fields)
        client = Hop(helo, ip, bool(session.user))
        seen = self.judge.look(raw, self._circumstance(client, findings, accounts[0] if accounts else "", sender, now))
        judged = {account: self.judge.judge(seen, account) for account in accounts or [""]}
        account = min(judged, key=lambda name: judged[name].points)
        if session.user:
            self._wrote(session.user, envelope, now)
        else:
            lesson = self.judge.kept(seen, 0, self.school.share)
            pending = Pending(digest(message, fields), lesson, judged, sender, ip, vouched(findings))
            with self._lock:
                self._pending[envelope.id] = pending
                if len(self._pending) > _MOST_PENDING:
                    self._pending.popitem(last=False)
        return finding_of(judged[account], explain(self.judge, seen, account))

    def _accounts(self, envelope: Envelope) -> list[str]:
        names = [str(r.address).lower() for r in envelope.recipients[:_MOST_ACCOUNTS]]
        return list(dict.fromkeys(self.account_of(name) for name in names))

    def account_of(self, address: str) -> str:
        """The account an address was last seen to belong to, itself where nothing else is known."""
        address = address.lower()
        known = self._aliases.get(address)
        if known is None:
            known = str(self._store.get(f"a:{address}") or address)
            self._know(address, known)
        return known

    def _know(self, address: str, account: str) -> None:
        with self._lock:
            self._aliases[address] = account
            if len(self._aliases) > 2000:
                self._aliases.popitem(last=False)

    def _circumstance(self, client: Hop, findings: Findings, account: str, sender: str, now: float) -> Circumstance:
        signals, tokens = auth_signals(findings)
        if client.signed_in:
            signals["signed_in"] = ()
            return Circumstance(signals, tuple(tokens), now)
        if client.helo and ("." not in client.helo or client.helo.startswith("[")):
            signals["helo_odd"] = (client.helo[:60],)
        stranger = True
        if sender:
            own, place, net = self.history.pasts(keys(account, sender, network_of(client.ip)), now)
            more, extra = history_signals(own, place, net, sender, vouched=vouched(findings))
            signals.update(more)
            tokens += extra
            stranger = not (known(own, place) and vouched(findings))
        return Circumstance(signals, tuple(tokens), now, stranger)

    def _wrote(self, user: str, envelope: Envelope, now: float) -> None:
        names = [f"{user.lower()}/{str(recipient.address).lower()}" for recipient in envelope.recipients[:20]]
        self.history.add_all(dict.fromkeys(names, Past(wrote=1)), now)

    def accepted(self, event: Accepted, now: float, *, automatic: int = 0) -> None:
        """A message was stored: remembers its scores for the accounts that got it, and what it says of its sender."""
        with self._lock:
            pending = self._pending.pop(event.id, None)
        arrivals = []
        for recipient, account, box in places(event):
            if account != recipient and self._aliases.get(recipient) != account:
                self._store.put(f"a:{recipient}", account, ttl=_ALIAS_TTL)
                self._know(recipient, account)
            if pending:
                judged = pending.judged.get(account) or next(iter(pending.judged.values()))
                total = judged.score.total
                row = Arrival(account, pending.digest, now, total, box.lower() == "junk", pack(pending.kept))
                arrivals.append(row)
                if automatic:
                    self._automatic(row, pending.kept, judged, automatic, now)
        if pending and arrivals:
            self.notebook.note(arrivals, self._remembered(pending), now)

    def _remembered(self, pending: Pending) -> dict[str, Past]:
        """Kept mail speaks for its sender a little; what was called junk counts against the place it came from."""
        words = {judged.word for judged in pending.judged.values()}
        good = 0.0 if words != {"ham"} or not pending.vouched else 0.3
        bad = 0.3 if words == {"spam"} else 0.0
        if not pending.sender or not (good or bad):
            return {}
        return dict.fromkeys(keys("", pending.sender, network_of(pending.ip))[1:], Past(good=good, bad=bad))

    def _automatic(self, arrival: Arrival, lesson: Kept, judged: Judgement, most: int, now: float) -> None:
        sure = judged.points >= 10 or (judged.points <= -4 and judged.score.personal < 0)
        account = arrival.account
        if not sure or not self.judge.personal(account):
            return
        if self.journal.count_since(account, now - _DAY, "automatic") < most:
            self.school.automatic(arrival, lesson, int(judged.points > 0), now)

    def told(self, event: Moved | Flagged, now: float, log: Any = None) -> Outcome | None:
        """Learns from what an account's user did with a message, if it says anything."""
        label, liked = label_of(event), kept(event)
        if label is None and not liked:
            return None
        self.notebook.write()
        try:
            stored = Path(event.path).read_bytes()[:MAX_MESSAGE]
        except OSError as error:
            if log:
                log.info("message gone before it could be learnt", path=event.path, error=str(error))
            return None
        account = self.account_of(event.account)
        if label is None:
            self.history.add(keys(account, sender_in(first_fields(stored)), "")[0], now, answered=1)
            self.school.liked(arrived(stored, self.hostname), account, now)
            return None
        return self.teach(stored, label, account, now, origin=origin_of(event))

    def teach(self, stored: bytes, label: int, account: str, now: float, *, origin: str) -> Outcome:
        """Teaches a delivered file as spam (1) or ham (0), and counts it for or against its sender."""
        outcome = self.school.teach(arrived(stored, self.hostname), label, account, now, origin=origin)
        sender = sender_in(first_fields(stored))
        undone = -1.0 if outcome.done == "corrected" else 0.0
        for name in keys(account, sender, "")[:2] if sender and outcome.done != "known" else ():
            self.history.add(name, now, good=undone if label else 1.0, bad=1.0 if label else undone)
        return outcome

    def undo(self, stored: bytes, label: int, account: str) -> Outcome:
        """Takes back the lesson of a delivered file, if it was taught with that label."""
        return self.school.undo(arrived(stored, self.hostname), label, account)

    def rebuild(self, account: str, stored: Iterable[bytes]) -> Relearnt:
        """Makes an account's model anew from its journal and these delivered files."""
        return self.school.rebuild(account, (arrived(raw, self.hostname) for raw in stored))

    def settle(self, now: float, patience: float) -> None:
        """Once a minute: learns what a crash cut short, and what nobody complained of for ``patience`` seconds."""
        if now - self._settled_at < _SETTLE_EVERY:
            return
        self._settled_at = now
        self.notebook.write()
        self.school.finish(now)
        self._relearn()
        if patience:
            self.school.settle(now - patience, now)

    def explain(
        self, stored: bytes, account: str = "", now: float | None = None
    ) -> tuple[Judgement, list[Reason], Seen]:
        """Judges a file as it would be judged if it came now the way it came: with what is remembered of its sender
        and what our fields in it tell of the other checks."""
        account, client, came = (
            self.account_of(account),
            hop(stored, self.hostname),
            time.time() if now is None else now,
        )
        found = Findings({name: Finding(word) for name, word in client.words.items()})
        circumstance = self._circumstance(client, found, account, sender_in(first_fields(stored)), came)
        raw = arrived(stored, self.hostname)
        seen = self.judge.look(raw, replace(circumstance, now=now if client.at is None else client.at))
        return self.judge.judge(seen, account), explain(self.judge, seen, account, most=20), seen

    def _relearn(self) -> None:
        """At the start, and when a model was found unusable since."""
        renewed = len(self.judge.renewed)
        if self._relearning is not None and renewed > self._renewed and self._relearning.begin():
            self._renewed = renewed

    def close(self) -> None:
        """Writes down what waits and closes all files."""
        if self._relearning is not None:
            self._relearning.stop()
        self.notebook.write()
        self.judge.close()
        self.journal.close()


def finding_of(judged: Judgement, reasons: list[Reason]) -> Finding:
    """The judgement in the pipeline's words."""
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


def places(event: Accepted) -> list[tuple[str, str, str]]:
    """(recipient, account, mailbox) of each local copy of a message, in lower case but the mailbox."""
    found = []
    for recipient, where in event.stored:
        for place in where.split(", "):
            account, slash, box = place.partition("/")
            if slash and "@" in account:
                found.append((recipient.lower(), account.lower(), box))
    return found


def sender_in(fields: Mapping[bytes, bytes]) -> str:
    """The From address in lower case, "" without one."""
    _, local, domain = address_of(fields.get(b"from", b"")[:1000])
    return (local + b"@" + domain).decode("utf-8", "replace") if domain else ""
