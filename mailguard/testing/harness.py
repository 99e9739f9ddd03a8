"""One plugin on a bench: its hooks called as the engine calls them, what it returns checked as strictly."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from mailguard.model.address import Address
from mailguard.model.envelope import Envelope
from mailguard.model.event import Event
from mailguard.model.message import Message
from mailguard.model.session import Session
from mailguard.net.resolver import Resolver
from mailguard.pipeline.context import Context, Store
from mailguard.pipeline.finding import Finding, Findings
from mailguard.pipeline.registry import CHECKS, wrap
from mailguard.pipeline.verdict import Action, Verdict
from mailguard.testing.builder import make_envelope, make_message, make_session
from mailguard.testing.fake import FakeClock, FakeResolver, MemoryStore


class Harness:
    """A started plugin. ``dns`` is a resolver or a FakeResolver's mapping, ``options`` as in the policy file.

    Use it as a context manager, or call ``stop()``, when the plugin opens something in ``start``.
    """

    def __init__(
        self,
        plugin: object,
        *,
        options: Mapping[str, Any] | None = None,
        dns: Resolver | Mapping[str, Any] | None = None,
        store: Store | None = None,
        now: Callable[[], float] | None = None,
        state_dir: Path | None = None,
        hostname: str = "mx.example.org",
        local_domains: frozenset[str] = frozenset({"example.org"}),
        stored: Callable[[str], Iterable[bytes]] | None = None,
    ) -> None:
        self.plugin = wrap(plugin)
        wanted = self.plugin.info.options.model_validate(dict(options or {}))
        self.now = now or FakeClock()
        self._folder = None if state_dir else tempfile.TemporaryDirectory(prefix="mailguard-")
        self.ctx: Context[Any] = Context(
            options=wanted,
            dns=FakeResolver(dns) if dns is None or isinstance(dns, Mapping) else dns,
            state_dir=state_dir or Path(self._folder.name if self._folder else "."),
            store=store or MemoryStore(self.now),
            log=structlog.get_logger().bind(plugin=self.plugin.name),
            now=self.now,
            hostname=hostname,
            local_domains=local_domains,
            name=self.plugin.name,
            stored=stored,
        )
        self.plugin.call("start", ctx=self.ctx)

    def check(
        self,
        *,
        session: Session | None = None,
        envelope: Envelope | None = None,
        message: Message | None = None,
        recipient: Address | str | None = None,
        findings: Findings | Mapping[str, Finding] | None = None,
        hook: str | None = None,
    ) -> Finding | None:
        """Runs one check hook, or without ``hook`` all that the plugin has in the order of stages, each seeing what
        the one before found; returns the last finding. What is not given is made by ``mailguard.testing.make_*``.
        ``check_recipient`` is run for ``recipient``, else for each of the envelope's."""
        session = session or make_session()
        envelope = envelope or make_envelope()
        message = message or make_message()
        found = findings if isinstance(findings, Findings) else Findings(findings)
        rcpts = [_address(recipient)] if recipient else [r.address for r in envelope.recipients]
        last: Finding | None = None
        for name in (hook,) if hook else CHECKS:
            for rcpt in rcpts if name == "check_recipient" else [None]:
                arguments = {"session": session, "envelope": envelope, "message": message}
                arguments |= {"recipient": rcpt, "findings": found}
                finding = self._call(name, arguments)
                if finding is not None:
                    last, found = finding, found.with_finding(self.plugin.name, finding)
        return last

    def stamp(
        self,
        *,
        session: Session | None = None,
        envelope: Envelope | None = None,
        message: Message | None = None,
        verdict: Verdict | None = None,
    ) -> list[tuple[str, str]]:
        """The header fields that the plugin would put on top."""
        fields = self._call(
            "stamp",
            {
                "session": session or make_session(),
                "envelope": envelope or make_envelope(),
                "message": message or make_message(),
                "verdict": verdict or Verdict(Action.ACCEPT),
            },
        )
        return [(str(name), str(value)) for name, value in fields or ()]

    def observe(self, event: Event) -> None:
        """Tells the plugin that something happened."""
        self._call("observe", {"event": event})

    def stop(self) -> None:
        """Ends the plugin and removes its folder."""
        self._call("stop", {})
        if self._folder:
            self._folder.cleanup()

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _call(self, hook: str, arguments: Mapping[str, Any]) -> Any:
        caller = self.plugin.hooks.get(hook)
        if caller is None:
            return None
        assert caller.spec is not None
        wanted = {name: arguments[name] for name in caller.spec.argnames if name != "ctx"}
        result = self.plugin.call(hook, ctx=self.ctx, **wanted)
        if hook in CHECKS:
            _validate(self.plugin.info.words, result, hook)
        return result


def run_check(
    plugin: object,
    *,
    session: Session | None = None,
    envelope: Envelope | None = None,
    message: Message | None = None,
    recipient: Address | str | None = None,
    findings: Findings | Mapping[str, Finding] | None = None,
    hook: str | None = None,
    **context: Any,
) -> Finding | None:
    """Starts the plugin, runs its checks once, stops it: see ``Harness`` for ``context`` (``options=``, ``dns=``,
    ``store=``, ``now=``...) and ``Harness.check`` for the rest. AssertionError if it returns what the engine
    would not take: something other than a Finding or None, an undeclared word, facts that are not JSON."""
    with Harness(plugin, **context) as harness:
        return harness.check(
            session=session,
            envelope=envelope,
            message=message,
            recipient=recipient,
            findings=findings,
            hook=hook,
        )


def _address(given: Address | str) -> Address:
    return Address.parse(given) if isinstance(given, str) else given


def _validate(words: Mapping[str, str], result: Any, hook: str) -> None:
    if result is None:
        return
    assert isinstance(result, Finding), f"{hook} returned {result!r}, neither a Finding nor None"
    assert result.word in words, f"{hook} found {result.word!r}, which is not among its words {sorted(words)}"
    json.dumps(dict(result.facts))  # raises TypeError, as clear as can be
