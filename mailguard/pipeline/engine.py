"""The engine: takes a message through its stages, from connection to verdict. One for each worker and policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mailguard.model.event import Event, PluginFault
from mailguard.model.reply import Reply
from mailguard.model.session import Session
from mailguard.net.resolver import Resolver
from mailguard.pipeline.calls import Calls, Job, Result
from mailguard.pipeline.context import Context, Store
from mailguard.pipeline.facts import Facts, Stage, of_session
from mailguard.pipeline.finding import Findings
from mailguard.pipeline.inspection import Inspection, refused, told
from mailguard.pipeline.policy import Check, Policy
from mailguard.pipeline.pool import CallTime, HurriedResolver
from mailguard.pipeline.record import Records
from mailguard.pipeline.registry import CHECKS, PluginError
from mailguard.state.history import History

NOTICES = "_mailguard"
"""The namespace of notices in the plugins' store; no plugin can be called so."""


class Engine:
    """Runs the checks of a policy. ``start`` before use, in the worker, after the fork; ``stop`` at the end.

    ``store_for`` gives a plugin its key-value store, ``recorder`` and ``history`` may be missing (dry runs).
    """

    def __init__(
        self,
        policy: Policy,
        *,
        dns: Resolver,
        store_for: Callable[[str], Store],
        state_dir: Path,
        hostname: str,
        log: Any,
        emit: Callable[[Event], None] = lambda _: None,
        local_domains: frozenset[str] = frozenset(),
        recorder: Records | None = None,
        history: History | None = None,
        now: Callable[[], float] = time.time,
        stored: Callable[[str], Iterable[bytes]] | None = None,
    ) -> None:
        self.policy = policy
        self.hostname = hostname
        self.recorder = recorder
        self.history = history
        self.now = now
        self.idle = not policy.checks and not policy.rules and not policy.general.allow and not policy.general.deny
        self.emit = emit
        self._log = log
        self._store_for = store_for
        time_ = CallTime()
        self._calls = self._made_calls(time_, dns)
        self._contexts = {
            check.name: Context(
                options=check.options,
                dns=HurriedResolver(dns, time_),
                state_dir=state_dir / check.name,
                store=store_for(check.name),
                log=log.bind(plugin=check.name),
                now=now,
                hostname=hostname,
                deadline=check.model.deadline,
                local_domains=local_domains,
                name=check.name,
                stored=stored,
            )
            for check in policy.checks
        }
        self._by_stage = [
            [check for check in policy.checks if hook in check.plugin.hooks and policy.runs(check)] for hook in CHECKS
        ]
        self._order: dict[tuple[Stage, str], list[list[Check]]] = {}
        self._functions = {
            (check.name, hook): check.plugin.function(hook)
            for check in policy.checks
            for hook in (*CHECKS, "stamp", "observe")
            if hook in check.plugin.hooks
        }
        self._started: list[Check] = []

    def _made_calls(self, time_: CallTime, dns: Resolver) -> Calls:
        general = self.policy.general
        return Calls(
            faults=general.faults,
            off_for=general.off_for,
            memory=general.memory << 20,
            time_=time_,
            resolver=dns if hasattr(dns, "at_hand") else None,
            on_fault=self._fault,
        )

    def start(self) -> None:
        """Starts every plugin. Raises PluginError with the text of the first that cannot; stops the others."""
        for check in self.policy.checks:
            try:
                self._contexts[check.name].state_dir.mkdir(parents=True, exist_ok=True)
                check.plugin.call("start", ctx=self._contexts[check.name])
            except Exception as error:
                self.stop()
                raise PluginError(f"{check.where}: plugin {check.name} does not start: {error}") from error
            self._started.append(check)

    def stop(self) -> None:
        """Stops the plugins that were started. Their exceptions are logged."""
        while self._started:
            check = self._started.pop()
            try:
                check.plugin.call("stop", ctx=self._contexts[check.name])
            except Exception as error:
                self._log.warning("a plugin did not stop cleanly", plugin=check.name, error=str(error))
        self._calls.close()

    def connect(self, session: Session) -> Inspection:
        """A client has connected: runs the checks of the first stage."""
        return Inspection(self, session)

    def refused_connection(self, session: Session, reply: Reply) -> None:
        """The server refused a connection by itself: too many of them, a ban. Recorded like every other refusal."""
        refused(self, session.id, session, Stage.CLIENT, of_session(session, self.now()), reply)

    def observe(self, event: Event) -> None:
        """Tells every plugin that wants to know, and the records, what happened. Never raises."""
        if self.recorder is not None:
            self.recorder.event(event)
        for check in self._started:
            kinds = check.plugin.info.events
            if "observe" not in check.plugin.hooks or (kinds and not isinstance(event, kinds)):
                continue
            if not self._calls.is_off(check.name):
                self._calls.together([self._job(check, "observe", {"event": event})])

    def stamps(self, arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The header fields that plugins want on top, in the order of the policy."""
        fields: list[tuple[str, str]] = []
        for check in self._started:
            if "stamp" not in check.plugin.hooks or self._calls.is_off(check.name):
                continue
            (result,) = self._calls.together([self._job(check, "stamp", arguments)])
            with suppress(TypeError, ValueError):
                fields += [(str(name), str(value)) for name, value in result.told or ()]
        return fields

    def run(
        self, stage: Stage, facts: Facts, findings: Findings, arguments: Mapping[str, Any], times: dict[str, float]
    ) -> Findings:
        """Runs the checks of a stage, in waves: each as soon as those whose findings it reads are through."""
        for wave in self._waves(stage, facts["role"]):
            activation: Any = None
            jobs: list[Job] = []
            known = {**arguments, "findings": findings}
            for check in wave:
                if check.skip_if is not None:
                    activation = activation or self._activation(facts, findings)
                    if self.policy.conditions.holds(check.skip_if, activation)[0]:
                        continue
                if not self._calls.is_off(check.name):
                    jobs.append(self._job(check, CHECKS[stage], known))
            for result in self._calls.together(jobs) if jobs else ():
                times[result.plugin] = times.get(result.plugin, 0.0) + result.ms
                findings = self._take(result, findings)
        return findings

    def _waves(self, stage: Stage, role: str) -> list[list[Check]]:
        """The checks of a stage in the order they run, those side by side that can."""
        waves = self._order.get((stage, role))
        if waves is None:
            waves = []
            waiting = [check for check in self._by_stage[stage] if role in check.model.roles]
            while waiting:
                names = {check.name for check in waiting}
                wave = [c for n, c in enumerate(waiting) if not (_needs(c, waiting[:n]) & names)] or waiting[:1]
                waves.append(wave)
                done = {check.name for check in wave}
                waiting = [check for check in waiting if check.name not in done]
            self._order[stage, role] = waves
        return waves

    def _activation(self, facts: Facts, findings: Findings) -> Any:
        points = sum(finding.points for finding in findings.values())
        return self.policy.conditions.activation({**facts, **told(findings), "score": points})

    def _take(self, result: Result, findings: Findings) -> Findings:
        return findings if result.finding is None else findings.with_finding(result.plugin, result.finding)

    def _job(self, check: Check, hook: str, arguments: Mapping[str, Any]) -> Job:
        function, names = self._functions[check.name, hook]
        context = self._contexts[check.name]
        call = partial(function, *[context if name == "ctx" else arguments[name] for name in names])
        info = check.plugin.info
        repeatable = info.repeatable and hook in CHECKS
        return Job(check.name, hook, call, check.model.deadline, info.words, info.quick, repeatable)

    def _notice(self, plugin: str, error: str) -> None:
        """For `mailguard plugins list`: which check is off until when, and why."""
        until = self.now() + self.policy.general.off_for
        try:
            value = {"until": until, "error": error[:500]}
            self._store_for(NOTICES).put(f"off/{plugin}", value, ttl=self.policy.general.off_for)
        except Exception as failed:
            self._log.warning("the notice of a plugin switched off cannot be kept", error=str(failed))

    def _fault(self, plugin: str, error: BaseException, off: bool) -> None:
        self._log.error(
            "a plugin is switched off after too many faults" if off else "a plugin failed",
            plugin=plugin,
            error=f"{type(error).__name__}: {error}",
            off_for=self.policy.general.off_for if off else None,
            exc_info=error,
        )
        if off:
            self._notice(plugin, f"{type(error).__name__}: {error}")
        self.emit(PluginFault(self.now(), "", plugin, f"{type(error).__name__}: {error}", off))


def _needs(check: Check, earlier: list[Check]) -> set[str]:
    """The plugins whose findings a check reads; all earlier ones where it asks for the score."""
    needs = set(check.plugin.info.after)
    if check.skip_if is not None:
        needs |= check.skip_if.plugins
        if "score" in check.skip_if.names or (check.skip_if.names & {"found", "facts"} and not check.skip_if.plugins):
            needs |= {c.name for c in earlier}
    return needs - {check.name}
