"""Everything of one worker, built from one configuration: what a reload replaces, and what it keeps."""

from __future__ import annotations

import importlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mailguard.app.bus import Bus
from mailguard.app.health import Health
from mailguard.app.mail import opener
from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator
from mailguard.auth.signin import SignIns
from mailguard.config.decode import ConfigError
from mailguard.config.schema import Config
from mailguard.delivery.allowance import Allowance
from mailguard.delivery.dkimcheck import watch_keys
from mailguard.delivery.forward import Forwarder, Rewriter, srs_secret
from mailguard.delivery.forwarding import Forwards
from mailguard.delivery.intake import Intake
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.outbound import build_relay, build_runner
from mailguard.delivery.personal import Personal
from mailguard.delivery.queue import Queue
from mailguard.delivery.quotamail import warner
from mailguard.delivery.reportsend import ReportPost
from mailguard.delivery.router import Router
from mailguard.delivery.signing import Signer
from mailguard.delivery.tlsledger import TlsLedger
from mailguard.delivery.vacation import Vacations
from mailguard.model.address import Address
from mailguard.net.listener import Handler
from mailguard.net.parking import Parking
from mailguard.net.resolver import DnsResolver
from mailguard.net.tls import TlsContexts, TlsError
from mailguard.observe.metrics import Metrics
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.policy import Policy
from mailguard.pipeline.record import Recorder
from mailguard.pipeline.replay import run_tests
from mailguard.pipeline.settings import policy as read_policy
from mailguard.pipeline.source import PolicyError, Problem
from mailguard.pipeline.texts import Texts
from mailguard.server.imap import ImapServer
from mailguard.server.pop3 import Pop3Server
from mailguard.server.smtp import SmtpService
from mailguard.server.smtptransaction import Desk
from mailguard.state.database import Database
from mailguard.state.history import History
from mailguard.state.kv import KeyValueStore
from mailguard.store.keeper import Keeper
from mailguard.store.mailstore import MailStore

if TYPE_CHECKING:
    from mailguard.server.web import WebApplication


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
    if any(listener.kind in ("http", "https") for listener in config.main.listener):
        for library in ("cheroot.wsgi", "mailguard.app.web"):  # before the fork: workers share their memory
            importlib.import_module(library)
    return Plan(config, policy, tls)


def _failed_tests(policy: Policy) -> list[Problem]:
    failed = [result for result in run_tests(policy) if result.wrong]
    return [Problem(r.where or policy.name, 0, 0, f'test "{r.name}" fails: {r.wrong}') for r in failed]


@dataclass(slots=True)
class Shared:
    """What outlives reloads: made once for a worker."""

    log: Any
    bus: Bus
    database: Database
    queue: Queue
    recorder: Recorder
    parking: Parking
    metrics: Metrics
    health: Health


@dataclass(slots=True)
class Parts:
    """What serves connections; replaced as a whole at a reload, while sessions under way keep the old one."""

    plan: Plan
    resolver: DnsResolver
    engine: Engine
    authenticator: Authenticator
    sign_ins: SignIns
    handlers: dict[str, Handler] = field(default_factory=dict)
    web: WebApplication | None = None
    jobs: list[Callable[[threading.Event], None]] = field(default_factory=list)
    retired: threading.Event = field(default_factory=threading.Event)  # set when other parts have taken over


def build_parts(plan: Plan, shared: Shared, *, now: Callable[[], float] = time.time) -> Parts:
    """Builds and starts the parts of one worker. Raises PluginError where a plugin does not start."""
    config, main = plan.config, plan.config.main
    resolver = DnsResolver(main.dns)
    engine = Engine(
        plan.policy,
        dns=resolver,
        store_for=lambda name: KeyValueStore(shared.database, name),
        state_dir=config.data_dir / "plugins",
        hostname=main.hostname,
        log=shared.log,
        emit=shared.bus,
        local_domains=frozenset(config.directory.domains),
        recorder=shared.recorder,
        history=History(shared.database),
        now=now,
    )
    authenticator = Authenticator(config.directory, shared.database, main.auth, emit=shared.bus, now=now)
    sign_ins = SignIns(shared.database, shared.recorder.later, now=now)
    parts = Parts(plan, resolver, engine, authenticator, sign_ins)
    stores = MailStore(config.data_dir / "index", main.hostname, shared.log, main.store)
    open_store = opener(stores, config.directory)

    def full(account: Account) -> bool:
        return bool(account.quota or account.quota_messages) and not open_store(account).has_room(1)

    rewriter = Rewriter(srs_secret(shared.database), config.directory.domains) if main.relay.srs else None
    forwarder = Forwarder(shared.queue, rewriter)
    router = Router(config.directory, rewriter, full)
    signer = Signer(config.data_dir / "dkim", log=shared.log, now=now)
    personal = Personal(
        Vacations(shared.database, now=now),
        Forwards(shared.database, main.web.forward, config.directory.is_local, now=now),
        forwarder,
        shared.queue,
        main.hostname,
        new_id,
        shared.log,
        sign=signer.sign,
        note=shared.recorder.note,
        now=now,
    )
    local = LocalDelivery(router, open_store, shared.log, forwarder, personal, shared.queue)
    desk = Desk(
        main.smtp,
        main.submission,
        main.hostname,
        router=router,
        intake=Intake(local, forwarder, shared.queue, now=now),
        local=local,
        allowance=Allowance(shared.database, main.submission, now=now),
        sign=signer.sign,
        spool=config.data_dir / "spool",
        emit=shared.bus,
        new_id=new_id,
        log=shared.log,
        now=now,
    )
    smtp = SmtpService(desk, engine=engine, authenticator=authenticator, tls=plan.tls)
    parts.handlers |= dict.fromkeys(("smtp", "submission", "submissions", "lmtp"), smtp.handle)
    imap = ImapServer(
        main.imap,
        authenticator,
        open_store,
        plan.tls,
        shared.log,
        parking=shared.parking,
        emit=shared.bus,
        now=now,
    )
    parts.handlers |= dict.fromkeys(("imap", "imaps"), imap.handle)
    pop3 = Pop3Server(main.pop3, authenticator, open_store, plan.tls, shared.log)
    parts.handlers |= dict.fromkeys(("pop3", "pop3s"), pop3.handle)
    if any(listener.kind in ("http", "https") for listener in main.listener):
        from mailguard.app.web import build_web  # templates and Flask cost memory: only where they are used

        parts.web = build_web(plan, shared, authenticator, sign_ins, personal, now=now)
    ledger = TlsLedger(shared.database, shared.log, now)
    relay = build_relay(
        main.relay,
        main.queue,
        resolver=resolver,
        database=shared.database,
        hostname=main.hostname,
        tls_report=ledger if main.reports.tls else None,
    )
    shared.queue.destination = relay.routes.destination

    def run_queue(stop: threading.Event) -> None:
        """Built anew each time it starts, in the worker that was elected."""
        build_runner(
            shared.queue,
            relay,
            main.queue,
            hostname=main.hostname,
            emit=shared.bus,
            log=shared.log,
            new_id=new_id,
            local=local,
            sign=signer.sign,
            beat=shared.health.beat,
        ).run(stop)

    def watch(stop: threading.Event) -> None:
        """Daily: are the keys we sign with published?"""
        watch_keys(config.data_dir / "dkim", list(config.directory.domains), resolver, shared.log, stop)

    warn = warner(shared.database, main.hostname, main.store.quota_warnings)
    keeper = Keeper(lambda: ((a.key, open_store(a)) for a in config.directory.accounts.values()), warn, shared.log)
    parts.jobs += [run_queue, watch, keeper.run]
    if main.reports.dmarc or main.reports.tls:
        sender = main.reports.sender or f"postmaster@{config.directory.first or main.hostname}"
        post = ReportPost(
            main.reports,
            shared.queue,
            resolver,
            ledger,
            domains=frozenset(config.directory.domains),
            sender=Address.parse(sender),
            sign=signer.sign,
            new_id=new_id,
            log=shared.log,
            now=now,
        )
        parts.jobs.append(post.run)
    engine.start()
    return parts


def new_id() -> str:
    """An id for a message made here: sorts by time, never the same twice."""
    return f"{time.time_ns() // 1_000_000:x}-{secrets.token_hex(5)}"
