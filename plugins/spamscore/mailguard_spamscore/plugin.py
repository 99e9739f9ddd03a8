"""The hooks: nothing but the way from mailguard's words to the judge's and back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from mailguard.plugin import (
    Accepted,
    Context,
    Duration,
    Envelope,
    Event,
    Finding,
    Findings,
    Flagged,
    Message,
    Moved,
    Options,
    PluginInfo,
    Session,
    Verdict,
    hookimpl,
)

from .desk import Desk
from .office import Office
from .prior import begin_with
from .rule import shipped
from .school import SHARE

_LARGEST = 8 << 20  # octets of a body that are looked at: a longer one must not fill the memory


class SpamscoreOptions(Options):
    """``options`` of the check in the policy file; every one has a default."""

    rules: Path | None = Field(
        default=None, description="the office's own table of weights, read after the shipped one"
    )
    prior: Path | None = Field(
        default=None, description="a model made by scripts/train-prior, to begin with where nothing was learnt yet"
    )
    learn: bool = Field(default=True, description="learn from what people move into Junk and out of it")
    patience: Duration = Field(
        default=timedelta(days=3),
        description="after how long mail that stays in the inbox counts as wanted; 0: only what people do counts",
    )
    share: float = Field(default=SHARE, ge=0, le=1, description="at which part of the rate a lesson reaches everybody")
    automatic: int = Field(
        default=0, ge=0, le=50, description="very sure messages learnt unasked, at most so many a day"
    )


class SpamScore:
    """The plugin: in each worker it holds one office per state folder, opened by ``start``."""

    def __init__(self) -> None:
        self._offices: dict[Path, Office] = {}

    @hookimpl
    def describe(self) -> PluginInfo:
        shipped()
        return PluginInfo(
            name="spamscore",
            summary="scores messages by rules and by what this office taught it",
            words={"spam": "score 0", "unsure": "score 0", "ham": "score 0"},
            explain={
                "spam": "it is like mail that was called junk here (6 points and more)",
                "unsure": "it has something of junk (3 to 6 points); it stays in the inbox",
                "ham": "it is like mail that was wanted here",
            },
            options=SpamscoreOptions,
            after=("spf", "dkim", "dmarc", "arc", "iprev", "dnsbl"),
            quick=True,
            events=(Accepted, Moved, Flagged),
        )

    @hookimpl
    def start(self, ctx: Context[SpamscoreOptions]) -> None:
        old = self._offices.pop(ctx.state_dir, None)
        if old:
            old.close()
        if ctx.options.prior:
            begin_with(ctx.options.prior, ctx.state_dir)
        office = self._offices[ctx.state_dir] = Office(
            ctx.state_dir,
            ctx.store,
            rules=ctx.options.rules,
            share=ctx.options.share,
            hostname=ctx.hostname,
            failed=lambda error: ctx.log.warning("arrivals cannot be written down", error=str(error)),
            stored=ctx.stored,
            log=ctx.log,
        )
        for reason in office.judge.renewed:
            ctx.log.warning("a model was begun anew; its lessons are learnt again", reason=reason)

    @hookimpl
    def check_message(
        self, ctx: Context[SpamscoreOptions], session: Session, envelope: Envelope, message: Message, findings: Findings
    ) -> Finding:
        office = self._offices[ctx.state_dir]
        octets = message.header + bytes(message.body[:_LARGEST])
        return office.check(octets, session, envelope, findings, ctx.now())

    @hookimpl
    def stamp(self, ctx: Context[SpamscoreOptions], verdict: Verdict) -> list[tuple[str, str]]:
        finding = verdict.findings.get("spamscore")
        if finding is None:
            return []
        reasons = "; ".join(f"{points:+.1f} {text}" for points, text in finding.reasons[:5])
        # Block lists have no method of Authentication-Results (RFC 8601): what they said is kept here, for ``explain``.
        listed = "; dnsbl=listed" if verdict.findings.word("dnsbl") == "listed" else ""
        value = f"{finding.word} ({finding.points:+.1f} of 6 points{listed}){': ' + reasons if reasons else ''}"
        return [("X-Mailguard-Spam", value.encode("ascii", "replace").decode("ascii")[:700])]

    @hookimpl
    def observe(self, ctx: Context[SpamscoreOptions], event: Event) -> None:
        office = self._offices.get(ctx.state_dir)
        if office is None:
            return
        options, now = ctx.options, ctx.now()
        if isinstance(event, Accepted):
            office.accepted(event, now, automatic=options.automatic)
            office.settle(now, options.patience.total_seconds() if options.learn else 0.0)
        elif isinstance(event, Moved | Flagged) and options.learn:
            office.told(event, now, ctx.log)

    def desk(self, ctx: Context[SpamscoreOptions]) -> Desk:
        """For the command ``mailguard junk``: the filter after ``start``, outside of any connection."""
        return Desk(self._offices[ctx.state_dir])

    @hookimpl
    def stop(self, ctx: Context[SpamscoreOptions]) -> None:
        office = self._offices.pop(ctx.state_dir, None)
        if office:
            office.close()


spamscore = SpamScore()
