"""Builds everything of one worker from one configuration."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from mailguard.app.mail import opener
from mailguard.app.parts import Parts, Shared, new_id
from mailguard.app.plan import Plan
from mailguard.auth.accounts import Account, maildir_path
from mailguard.auth.authenticator import Authenticator
from mailguard.auth.signin import SignIns
from mailguard.delivery.allowance import Allowance
from mailguard.delivery.dkimcheck import watch_keys
from mailguard.delivery.forward import Forwarder, Rewriter, srs_secret
from mailguard.delivery.forwarding import Forwards
from mailguard.delivery.intake import Intake
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.outbound import build_relay, build_runner
from mailguard.delivery.personal import Personal
from mailguard.delivery.quotamail import warner
from mailguard.delivery.router import Router
from mailguard.delivery.signing import Signer
from mailguard.delivery.tlsledger import TlsLedger
from mailguard.delivery.vacation import Vacations
from mailguard.model.address import Address
from mailguard.net.listener import Handler
from mailguard.net.resolver import DnsResolver
from mailguard.pipeline.engine import Engine
from mailguard.server.imap import ImapServer
from mailguard.server.pop3 import Pop3Server
from mailguard.server.smtp import SmtpService
from mailguard.server.smtptransaction import Desk
from mailguard.state.history import History
from mailguard.state.kv import KeyValueStore
from mailguard.store.account import AccountStore
from mailguard.store.keeper import Keeper
from mailguard.store.maildir import messages
from mailguard.store.mailstore import MailStore

if TYPE_CHECKING:
    from mailguard.delivery.reportsend import ReportPost


def build_parts(plan: Plan, shared: Shared, *, now: Callable[[], float] = time.time) -> Parts:
    """Builds and starts the parts of one worker. Raises PluginError where a plugin does not start."""
    return Assembly(plan, shared, now).parts()


class Assembly:
    """Makes each part when the first other one asks for it, and once."""

    def __init__(self, plan: Plan, shared: Shared, now: Callable[[], float]) -> None:
        self._plan = plan
        self._shared = shared
        self._now = now
        self._main = plan.config.main
        self._directory = plan.config.directory
        self._data_dir = plan.config.data_dir
        self._hostname = plan.config.main.hostname

    def parts(self) -> Parts:
        """All of them, the engine started."""
        parts = Parts(self._plan, self.resolver, self.engine, self.authenticator, self.sign_ins)
        parts.handlers = self.handlers()
        if any(listener.kind in ("http", "https") for listener in self._main.listener):
            from mailguard.app.web import build_web  # templates and Flask cost memory: only where they are used

            parts.web = build_web(
                self._plan, self._shared, self.authenticator, self.sign_ins, self.personal, now=self._now
            )
        parts.jobs = self.jobs()
        self.engine.start()
        return parts

    def handlers(self) -> dict[str, Handler]:
        """What serves a connection, by the kind of its listener."""
        smtp = SmtpService(self.desk, engine=self.engine, authenticator=self.authenticator, tls=self._plan.tls)
        imap = ImapServer(
            self._main.imap,
            self.authenticator,
            self.open_store,
            self._plan.tls,
            self._shared.log,
            parking=self._shared.parking,
            emit=self._shared.bus,
            now=self._now,
        )
        pop3 = Pop3Server(self._main.pop3, self.authenticator, self.open_store, self._plan.tls, self._shared.log)
        return {
            **dict.fromkeys(("smtp", "submission", "submissions", "lmtp"), smtp.handle),
            **dict.fromkeys(("imap", "imaps"), imap.handle),
            **dict.fromkeys(("pop3", "pop3s"), pop3.handle),
        }

    def jobs(self) -> list[Callable[[threading.Event], None]]:
        """What runs in the one worker that was elected, each until its event is set."""
        accounts = self._directory.accounts.values()
        warn = warner(self._shared.database, self._hostname, self._main.store.quota_warnings)
        keeper = Keeper(lambda: ((a.key, self.open_store(a)) for a in accounts), warn, self._shared.log)
        jobs = [self._queue_job(), self._watch_keys, keeper.run]
        if self._main.reports.dmarc or self._main.reports.tls:
            jobs.append(self._report_post().run)
        return jobs

    def _queue_job(self) -> Callable[[threading.Event], None]:
        main, shared = self._main, self._shared
        relay = build_relay(
            main.relay,
            main.queue,
            resolver=self.resolver,
            database=shared.database,
            hostname=self._hostname,
            tls_report=self.tls_ledger if main.reports.tls else None,
        )
        shared.queue.destination = relay.routes.destination

        def run_queue(stop: threading.Event) -> None:
            """Built anew each time it starts."""
            build_runner(
                shared.queue,
                relay,
                main.queue,
                hostname=self._hostname,
                emit=shared.bus,
                log=shared.log,
                new_id=new_id,
                local=self.local,
                sign=self.signer.sign,
                beat=shared.health.beat,
            ).run(stop)

        return run_queue

    def _watch_keys(self, stop: threading.Event) -> None:
        """Daily: are the keys we sign with published?"""
        watch_keys(self._data_dir / "dkim", list(self._directory.domains), self.resolver, self._shared.log, stop)

    def _report_post(self) -> ReportPost:
        from mailguard.delivery.reportsend import ReportPost  # XML and archives, for what is off by default

        sender = self._main.reports.sender or f"postmaster@{self._directory.first or self._hostname}"
        return ReportPost(
            self._main.reports,
            self._shared.queue,
            self.resolver,
            self.tls_ledger,
            domains=frozenset(self._directory.domains),
            sender=Address.parse(sender),
            sign=self.signer.sign,
            new_id=new_id,
            log=self._shared.log,
            now=self._now,
        )

    @cached_property
    def resolver(self) -> DnsResolver:
        """DNS, with its cache."""
        return DnsResolver(self._main.dns)

    @cached_property
    def engine(self) -> Engine:
        """The pipeline."""
        return Engine(
            self._plan.policy,
            dns=self.resolver,
            store_for=lambda name: KeyValueStore(self._shared.database, name),
            state_dir=self._data_dir / "plugins",
            hostname=self._hostname,
            log=self._shared.log,
            emit=self._shared.bus,
            local_domains=frozenset(self._directory.domains),
            recorder=self._shared.recorder,
            history=History(self._shared.database),
            now=self._now,
            stored=lambda account: messages(maildir_path(self._data_dir, Address.parse(account))),
        )

    @cached_property
    def authenticator(self) -> Authenticator:
        """Who may sign in."""
        return Authenticator(
            self._directory, self._shared.database, self._main.auth, emit=self._shared.bus, now=self._now
        )

    @cached_property
    def sign_ins(self) -> SignIns:
        """Who did."""
        return SignIns(self._shared.database, self._shared.recorder.later, now=self._now)

    @cached_property
    def open_store(self) -> Callable[[Account], AccountStore]:
        """The mail of an account."""
        stores = MailStore(self._data_dir / "index", self._hostname, self._shared.log, self._main.store)
        return opener(stores, self._directory)

    @cached_property
    def rewriter(self) -> Rewriter | None:
        """SRS, where it is wanted."""
        wanted = self._main.relay.srs
        return Rewriter(srs_secret(self._shared.database), self._directory.domains) if wanted else None

    @cached_property
    def forwarder(self) -> Forwarder:
        """Sends on what aliases and forwards lead outside."""
        return Forwarder(self._shared.queue, self.rewriter)

    @cached_property
    def router(self) -> Router:
        """Where a recipient's mail goes, and who is refused."""

        def full(account: Account, octets: int) -> bool:
            return bool(account.quota or account.quota_messages) and not self.open_store(account).has_room(octets)

        return Router(self._directory, self.rewriter, full)

    @cached_property
    def signer(self) -> Signer:
        """DKIM of our own domains."""
        return Signer(self._data_dir / "dkim", log=self._shared.log, now=self._now)

    @cached_property
    def personal(self) -> Personal:
        """What users asked for: an answer while they are away, forwards."""
        database = self._shared.database
        return Personal(
            Vacations(database, now=self._now),
            Forwards(
                database,
                self._main.web.forward,
                self._directory.is_local,
                ask=self._main.web.forward_asks,
                now=self._now,
            ),
            self.forwarder,
            self._shared.queue,
            self._hostname,
            new_id,
            self._shared.log,
            sign=self.signer.sign,
            note=self._shared.recorder.note,
            now=self._now,
        )

    @cached_property
    def local(self) -> LocalDelivery:
        """Delivery into Maildirs."""
        return LocalDelivery(
            self.router, self.open_store, self._shared.log, self.forwarder, self.personal, self._shared.queue
        )

    @cached_property
    def desk(self) -> Desk:
        """What an SMTP session hands its transactions to."""
        shared, main = self._shared, self._main
        return Desk(
            main.smtp,
            main.submission,
            self._hostname,
            router=self.router,
            intake=Intake(self.local, self.forwarder, shared.queue, now=self._now),
            local=self.local,
            allowance=Allowance(shared.database, main.submission, now=self._now),
            sign=self.signer.sign,
            spool=self._data_dir / "spool",
            emit=shared.bus,
            new_id=new_id,
            log=shared.log,
            now=self._now,
        )

    @cached_property
    def tls_ledger(self) -> TlsLedger:
        """How connections to others were secured, for their reports."""
        return TlsLedger(self._shared.database, self._shared.log, self._now)
