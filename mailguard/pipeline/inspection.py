"""One connection and one message under inspection: findings gathered, verdicts made, records written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mailguard.model.address import Address
from mailguard.model.authresult import AuthResult, drop_forged, render
from mailguard.model.envelope import Envelope
from mailguard.model.event import Refused
from mailguard.model.message import Field, Message
from mailguard.model.reply import Reply
from mailguard.model.session import Session
from mailguard.pipeline import facts as fact
from mailguard.pipeline.decide import Outcome, decide, vouched
from mailguard.pipeline.facts import Facts, Stage
from mailguard.pipeline.finding import Findings
from mailguard.pipeline.record import verdict_row
from mailguard.pipeline.stamping import claims_results, header_field, summary_field
from mailguard.pipeline.verdict import Action, Decision, Verdict
from mailguard.state.history import Meeting
from mailguard.state.record import Row

if TYPE_CHECKING:
    from mailguard.pipeline.engine import Engine

SERVER = "server"
"""The source of decisions that the policy was not asked about."""

_TOLD = ("subject", "message-id", "from")  # of a message that nothing was checked of
_ACCEPT = Verdict(Action.ACCEPT)
_PLAIN = Outcome(Action.ACCEPT, Decision("default"))
_STATUS = {
    "check spf": "7.23",
    "check dmarc": "7.26",
    "check dkim": "7.20",
    "check iprev": "7.25",
    "check arc": "7.29",
    "check answerable": "7.27",  # RFC 7505 §4.2
}


class Inspection:
    """One connection. ``verdict`` is that of the client stage."""

    def __init__(self, engine: Engine, session: Session) -> None:
        self._engine = engine
        self.findings = Findings()
        self.times: dict[str, float] = {}
        self.verdict = _ACCEPT
        if not engine.idle:
            self._inspect(session)

    def mail(self, session: Session, envelope: Envelope) -> MailInspection:
        """MAIL FROM was given; ``session`` is the connection as it is known by now."""
        if self.ptr and not session.ptr:
            session = replace(session, ptr=self.ptr)
        return MailInspection(self._engine, self, session, envelope)

    @property
    def ptr(self) -> str:
        """The client's forward-confirmed host name, where the check iprev found one."""
        found = self.findings.get("iprev")
        return str(found.facts.get("name", "")) if found is not None and found.word == "pass" else ""

    def _inspect(self, session: Session) -> None:
        facts = fact.of_session(session, self._engine.now())
        self.findings = self._engine.run(Stage.CLIENT, facts, self.findings, {"session": session}, self.times)
        facts |= told(self.findings)
        outcome = decide(self._engine.policy, Stage.CLIENT, facts, points(self.findings))
        self.verdict = make_verdict(outcome, self.findings, Stage.CLIENT, session.id)
        if self.verdict.action.refuses:
            record(self._engine, session.id, session, Stage.CLIENT, facts, outcome, self.verdict, self.times)


class MailInspection:
    """One mail transaction. ``verdict`` is that of the sender stage."""

    def __init__(self, engine: Engine, connection: Inspection, session: Session, envelope: Envelope) -> None:
        self._engine = engine
        self._session = session
        self._id = envelope.id
        self._findings = connection.findings
        self._times = dict(connection.times)
        self._facts: Facts = {}
        self._rcpts: list[Address] = []
        self.verdict = _ACCEPT
        if not engine.idle:
            self._sender(envelope)

    def recipient(self, envelope: Envelope, address: Address) -> Verdict:
        """RCPT TO was given for an address that is ours or may be relayed to."""
        if self._engine.idle:
            self._rcpts.append(address)
            return _ACCEPT
        facts = self._facts | fact.of_recipients([address])
        arguments = {"session": self._session, "envelope": envelope, "recipient": address}
        findings, facts, outcome = self._stage(Stage.RECIPIENT, facts, arguments)
        verdict = make_verdict(outcome, findings, Stage.RECIPIENT, envelope.id)
        if verdict.action.refuses:
            record(self._engine, envelope.id, self._session, Stage.RECIPIENT, facts, outcome, verdict, self._times)
        else:
            self._findings = findings
            self._rcpts.append(address)
        return verdict

    def message(self, envelope: Envelope, message: Message) -> Verdict:
        """The whole message is there: the final verdict, and its record."""
        engine = self._engine
        if engine.idle:
            if engine.recorder is not None:
                fields = {name: found[0] for name in _TOLD if (found := message.get_all(name))}
                row = partial(_plain_row, self._session, envelope, fields, len(message.raw), engine.now())
                engine.recorder.verdict(row)
            return _ACCEPT
        facts = self._facts | fact.of_recipients(r.address for r in envelope.recipients)
        facts |= fact.of_message(message, {name.lower() for name in engine.policy.conditions.headers})
        arguments = {"session": self._session, "envelope": envelope, "message": message}
        self._findings, facts, outcome = self._stage(Stage.MESSAGE, facts, arguments)
        verdict = make_verdict(outcome, self._findings, Stage.MESSAGE, envelope.id)
        record(engine, envelope.id, self._session, Stage.MESSAGE, facts, outcome, verdict, self._times)
        self._remember(facts, verdict)
        return verdict

    def stamp(self, envelope: Envelope, message: Message, verdict: Verdict) -> Message:
        """The message with Authentication-Results and X-Mailguard on top, forged ones taken away, and with the
        fields that plugins want. Mail of our own users gets no X-Mailguard."""
        engine = self._engine
        results = [result for finding in verdict.findings.values() for result in finding.auth]
        if self._session.user:
            sender = envelope.reverse_path
            results.append(AuthResult("auth", "pass", properties=(("smtp", "mailfrom", sender),) if sender else ()))
        message = drop_forged(message, engine.hostname)
        fields = [render(engine.hostname, results)]
        if not self._session.user:
            message = message.without(message.get_all("X-Mailguard"))
            fields.append(summary_field(envelope.id, verdict))
        if not engine.idle:
            arguments = {"session": self._session, "envelope": envelope, "message": message, "verdict": verdict}
            wanted = [pair for pair in engine.stamps(arguments) if not claims_results(engine.hostname, *pair)]
            fields += [made for name, value in wanted if (made := header_field(name, value))]
        return message.prepend(*fields)

    def refused(self, envelope: Envelope, reply: Reply, recipient: Address | None = None) -> None:
        """The server itself refused, without asking the policy: a recipient (there is no such mailbox, it may not
        relay), or without one the whole message (a loop, no space). Recorded like every other refusal."""
        facts = fact.of_session(self._session, self._engine.now()) | fact.of_envelope(envelope) | self._facts
        stage = Stage.RECIPIENT if recipient else Stage.MESSAGE
        facts |= fact.of_recipients([recipient] if recipient else (r.address for r in envelope.recipients))
        refused(self._engine, envelope.id, self._session, stage, facts, reply)

    def abort(self) -> None:
        """The transaction ended without a message (RSET, QUIT, lost connection)."""
        self._rcpts.clear()

    def outcome(self, where: Mapping[str, str]) -> None:
        """Where the message went, by recipient: ``ann@example.org/INBOX``, ``queue``, ``quarantine``."""
        if self._engine.recorder is not None:
            for rcpt, place in where.items():
                self._engine.recorder.note(self._id, "stored", rcpt, place)

    def _sender(self, envelope: Envelope) -> None:
        engine = self._engine
        address = envelope.mail_from.key if envelope.mail_from else ""
        known = engine.history is not None and not self._session.user and bool(engine.history.known(address))
        facts = fact.of_session(self._session, engine.now()) | fact.of_envelope(envelope, known=known)
        arguments = {"session": self._session, "envelope": envelope}
        self._findings, self._facts, outcome = self._stage(Stage.SENDER, facts, arguments)
        self.verdict = make_verdict(outcome, self._findings, Stage.SENDER, envelope.id)
        if self.verdict.action.refuses:
            record(engine, envelope.id, self._session, Stage.SENDER, self._facts, outcome, self.verdict, self._times)

    def _stage(self, stage: Stage, facts: Facts, arguments: Mapping[str, Any]) -> tuple[Findings, Facts, Outcome]:
        findings = self._engine.run(stage, facts, self._findings, arguments, self._times)
        facts = facts | told(findings)
        return findings, facts, decide(self._engine.policy, stage, facts, points(findings))

    def _remember(self, facts: Facts, verdict: Verdict) -> None:
        recorder, now = self._engine.recorder, facts["time"]
        if recorder is None or self._engine.history is None:
            return
        if facts["user"]:
            recorder.met(Meeting(rcpt, True, now) for rcpt in set(facts["rcpt"]))
        elif verdict.action is Action.ACCEPT and vouched(facts):
            recorder.met([Meeting(facts["from"], False, now)])


def told(findings: Findings) -> Facts:
    """The facts ``found`` and ``facts`` of some findings."""
    return {
        "found": {name: finding.word for name, finding in findings.items()},
        "facts": {name: dict(finding.facts) for name, finding in findings.items() if finding.facts},
    }


def points(findings: Findings) -> dict[str, float]:
    """The points of each finding."""
    return {name: finding.points for name, finding in findings.items() if finding.points}


def make_verdict(outcome: Outcome, findings: Findings, stage: Stage, id: str) -> Verdict:
    """The verdict with its reply, where it refuses (RFC 7372 has codes for failed authentication)."""
    action = outcome.action
    reply = _reply(outcome, findings, stage, id) if action.refuses else None
    weighed = [(a.points, f"{a.source.partition(' ')[2]} {a.word}".strip()) for a in outcome.applied if a.points]
    return Verdict(
        action=action,
        reply=reply,
        score=outcome.score,
        findings=findings,
        decision=outcome.decision,
        would=outcome.would,
        per_recipient=dict(outcome.per_recipient),
        reasons=tuple(sorted(weighed, key=lambda pair: -abs(pair[0]))),
    )


def _reply(outcome: Outcome, findings: Findings, stage: Stage, id: str) -> Reply:
    source = outcome.decision.source
    kind, _, name = source.partition(" ")
    text = outcome.reply
    if not text and kind == "check" and name in findings:
        text = findings[name].reason
    if not text:
        text = f"refused by our policy: {name}" if kind == "rule" else "refused by our policy"
    text = f"{text[:300]} ({id})".encode("ascii", "replace").decode()
    if outcome.action is Action.DEFER:
        return Reply.of(421 if stage is Stage.CLIENT else 451, "4.7.1", text)
    status = _STATUS.get(source, "7.1") if not outcome.reply else "7.1"
    return Reply.of(554 if stage is Stage.CLIENT else 550, f"5.{status}", text)


def record(
    engine: Engine,
    id: str,
    session: Session,
    stage: Stage,
    facts: Facts,
    outcome: Outcome,
    verdict: Verdict,
    times: Mapping[str, float],
) -> None:
    """Hands the verdict to the recorder, and tells the world of a refusal."""
    if verdict.reply is not None:
        who = facts.get("mail_from", ""), " ".join(facts.get("rcpt", ()))
        engine.emit(Refused(engine.now(), id, stage.word, session.id, session.peer_ip, *who, verdict.reply))
    if engine.recorder is not None:
        engine.recorder.verdict(
            verdict_row(
                id=id,
                session_id=session.id,
                stage=stage.word,
                facts=facts,
                outcome=outcome,
                reply=str(verdict.reply or ""),
                findings=verdict.findings,
                times=times,
            )
        )


def refused(engine: Engine, id: str, session: Session, stage: Stage, facts: Facts, reply: Reply) -> None:
    """Records what the server refused by itself."""
    action = Action.DEFER if reply.code < 500 else Action.REJECT
    outcome = Outcome(action, Decision(SERVER), would=action)
    record(engine, id, session, stage, facts, outcome, Verdict(action, reply, decision=outcome.decision), {})


def _plain_row(session: Session, envelope: Envelope, fields: Mapping[str, Field], size: int, now: float) -> Row:
    """The row of a message that nothing was checked of; made when it is written, off the session's thread."""
    subject, ident, sender = (fields.get(name) for name in _TOLD)
    _, address = fact.author(sender.value if sender else "")
    facts = fact.of_session(session, now) | fact.of_envelope(envelope)
    facts |= fact.of_recipients(r.address for r in envelope.recipients)
    facts |= {
        "header": {"message-id": ident.value[:300] if ident else ""},
        "subject": subject.decoded[:300] if subject else "",
        "from": address.key if address else "",
        "size": size,
    }
    return verdict_row(
        id=envelope.id,
        session_id=session.id,
        stage=Stage.MESSAGE.word,
        facts=facts,
        outcome=_PLAIN,
        reply="",
        findings={},
        times={},
    )
