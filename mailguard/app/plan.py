"""A configuration proven to be usable, before anything of the one in force is given up for it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from mailguard.config.decode import ConfigError
from mailguard.config.schema import Config
from mailguard.net.tls import TlsContexts, TlsError
from mailguard.pipeline.configured import policy as read_policy
from mailguard.pipeline.policy import Policy
from mailguard.pipeline.replay import run_tests
from mailguard.pipeline.source import PolicyError, Problem
from mailguard.pipeline.texts import Texts


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration proven to be usable: read, its policy compiled and tested, its certificates loaded."""

    config: Config
    policy: Policy
    tls: TlsContexts | None


def make_plan(config: Config, texts: Texts | None = None) -> Plan:
    """Compiles the policy, runs its own tests, loads the certificates. Raises ConfigError with every mistake."""
    problems: list[Problem] = []
    policy, tls = Policy(), None
    try:
        policy = read_policy(config.main.policy, config.base, texts)
    except PolicyError as error:
        problems += error.problems
    else:
        problems += _failed_tests(policy)
    if config.main.listener:
        try:
            tls = TlsContexts(config.main.tls, config.base, issued=config.issued)
        except TlsError as error:
            file, _, text = str(error).partition(": ")
            problems.append(Problem(file, 0, 0, text))
    if problems:
        raise ConfigError(problems)
    libraries = [] if config.main.dns.nameservers else ["dns.resolver"]
    if any(listener.kind in ("http", "https") for listener in config.main.listener):
        libraries += ["mailguard.server.web_cheroot", "mailguard.app.web"]
    for library in libraries:  # before the fork: workers share their memory
        importlib.import_module(library)
    return Plan(config, policy, tls)


def _failed_tests(policy: Policy) -> list[Problem]:
    failed = [result for result in run_tests(policy) if result.wrong]
    return [Problem(r.where or policy.name, 0, 0, f'test "{r.name}" fails: {r.wrong}') for r in failed]
