"""One worker process: accepts on the inherited sockets, reloads, drains."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mailguard.app.assembly import build_parts
from mailguard.app.elected import Elected
from mailguard.app.parts import Shared, new_id
from mailguard.app.placement import keeping_to
from mailguard.app.plan import Plan
from mailguard.app.upkeep import Upkeep
from mailguard.config.decode import ConfigError
from mailguard.model.event import Event
from mailguard.model.reply import Reply
from mailguard.model.session import Role, Session
from mailguard.net.listener import Census, Listener, Peer
from mailguard.net.listening import ListenerSettings
from mailguard.net.tls import TlsError
from mailguard.pipeline.registry import PluginError
from mailguard.server.web_serve import http_server, use_tls

if TYPE_CHECKING:
    from mailguard.server.web import WebApplication

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DRAIN = 10.0  # seconds from SIGTERM to the end
SLOW = 10  # answers that a web request which never came is worth
_PATIENCE = 1.5  # of these, until idle connections are closed
_OLD_ENGINE = 300.0  # seconds that sessions from before a reload may still use their plugins
_TURN = 0.001  # seconds that a thread computes on while others wait for their turn; a reply waits many turns


class Worker:
    """Runs until it is told to stop, or its supervisor is gone. ``replan`` reads the configuration anew."""

    def __init__(
        self,
        plan: Plan,
        sockets: Sequence[tuple[ListenerSettings, socket.socket]],
        shared: Shared,
        replan: Callable[[], Plan],
        *,
        supervisor: int,
    ) -> None:
        self._shared = shared
        self._replan = replan
        self._supervisor = supervisor
        self._log: Any = shared.log
        self._parts = build_parts(plan, shared)
        limits = plan.config.main.limits
        self._census = Census(limits, lambda ip: self._parts.authenticator.throttle.allowed(ip))
        self._listeners = [
            Listener(
                sock,
                settings,
                self._parts.handlers[settings.kind],
                census=self._census,
                tls=plan.tls,
                log=self._log,
                on_refused=self._refused,
                new_id=new_id,
            )
            for settings, sock in sockets
            if settings.kind in self._parts.handlers
        ]
        self._busy: dict[str, float] = {}
        self._web = self._web_servers(sockets)
        self._elected = Elected(plan.config.data_dir / "runner.lock", self._jobs, self._log)

    def _web_servers(self, sockets: Sequence[tuple[ListenerSettings, socket.socket]]) -> list[Any]:
        def web() -> WebApplication:
            assert self._parts.web is not None
            return self._parts.web  # whichever configuration is in force

        plan, main = self._parts.plan, self._parts.plan.config.main
        return [
            http_server(
                sock,
                lambda environ, start: web()(environ, start),
                tls=plan.tls if settings.kind == "https" else None,
                threads=main.web.threads,
                log=self._log,
                admit=lambda ip: not web().limit.owes(ip),
                slow=lambda ip: web().limit.charge(ip, SLOW),
            )
            for settings, sock in sockets
            if settings.kind in ("http", "https")
        ]

    def run(self, ready: Callable[[], None], cpu: int | None = None) -> None:
        """Serves until SIGTERM, on one CPU if it is named; blocks. Signals must be blocked in the calling thread."""
        sys.setswitchinterval(_TURN)
        with keeping_to(cpu):
            self._start()
        self._save_metrics()
        ready()
        while os.getppid() == self._supervisor:
            got = signal.sigtimedwait(SIGNALS, 1.0)
            self._save_metrics()
            if got is None:
                self._watch_certificates()
            elif got.si_signo == signal.SIGHUP:
                self._reload()
            else:
                break
        self._drain()

    def _start(self) -> None:
        shared = self._shared
        shared.bus.observers = (self._tell_plugins, shared.metrics.observe, self._note_sign_in)
        shared.bus.start()
        shared.parking.start()
        for listener in self._listeners:
            listener.start()
        for server in self._web:
            server.prepare()
            threading.Thread(target=server.serve, name="web", daemon=True).start()
        self._elected.start()

    def _reload(self) -> None:
        try:
            plan = self._replan()
            parts = build_parts(plan, self._shared)
        except (ConfigError, PluginError) as error:
            texts = [str(p) for p in error.problems] if isinstance(error, ConfigError) else [str(error)]
            for text in texts:
                self._log.error("reload refused, the old configuration stays", reason=text)
            return
        old, self._parts = self._parts, parts
        for listener in self._listeners:
            listener.handler = parts.handlers.get(listener.settings.kind, listener.handler)
            listener.tls = plan.tls
        for server in self._web:
            use_tls(server, plan.tls)
        old.retired.set()
        # Sessions under way hold the old parts; their plugins stop once they must be through.
        retire = threading.Timer(_OLD_ENGINE, old.engine.stop)
        retire.daemon = True
        retire.start()
        self._log.info("reloaded", pid=os.getpid())

    def _refused(self, peer: Peer, listener: ListenerSettings, limit: str) -> None:
        """Records a mail server turned away, once a minute for each address: a flood must not wash the records out."""
        now = time.monotonic()
        if listener.kind not in ("smtp", "submission", "submissions", "lmtp"):
            return
        if now - self._busy.get(peer.ip, -60.0) < 60.0 or len(self._busy) > 1000:
            self._busy = {ip: at for ip, at in self._busy.items() if now - at < 60.0}
            return
        self._busy[peer.ip] = now
        role = Role.MX if listener.kind == "smtp" else Role.LMTP if listener.kind == "lmtp" else Role.SUBMISSION
        session = Session(peer.id, peer.ip, peer.port, peer.local_port, role)
        reply = Reply.of(421, "4.3.2", f"too many connections (limits.{limit}), try again later")
        self._parts.engine.refused_connection(session, reply)

    def _watch_certificates(self) -> None:
        tls = self._parts.plan.tls
        if tls is not None and tls.changed():
            try:
                tls.reload()
                self._log.info("certificates reloaded", pid=os.getpid())
            except TlsError as error:
                self._log.error("new certificates cannot be used, the old ones stay", reason=str(error))

    def _save_metrics(self) -> None:
        self._shared.metrics.gauge("mailguard_connections", self._census.open)
        self._shared.metrics.gauge("mailguard_workers", 1)
        self._shared.metrics.save()

    def _tell_plugins(self, event: Event) -> None:
        self._parts.engine.observe(event)

    def _note_sign_in(self, event: Event) -> None:
        accounts = self._parts.plan.config.directory.accounts
        self._parts.sign_ins.observe(event, accounts.__contains__)

    def _jobs(self) -> list[Callable[[threading.Event], None]]:
        upkeep = Upkeep(lambda: self._parts, self._shared).run
        return [self._housekeeping, upkeep, *(partial(self._keep_running, n) for n in range(len(self._parts.jobs)))]

    def _keep_running(self, number: int, stop: threading.Event) -> None:
        """Runs a job by whichever configuration is in force: a reload ends it and begins the new one's."""
        while not stop.is_set():
            parts = self._parts
            parts.jobs[number](parts.retired)

    def _housekeeping(self, stop: threading.Event) -> None:
        while not stop.wait(600):
            self._parts.authenticator.throttle.prune()
            self._parts.sign_ins.prune()

    def _drain(self) -> None:
        """Finishes what is under way: no new connections, then no new transactions, then the end."""
        until = time.monotonic() + DRAIN - 2.5
        for listener in self._listeners:
            listener.stop_accepting()
        for server in self._web:
            server.stop()
        self._shared.parking.stop()
        self._wait_idle(time.monotonic() + _PATIENCE)
        for under_way, moment in ((False, until - 0.5), (True, until)):
            for listener in self._listeners:
                listener.hang_up(under_way=under_way)
            self._wait_idle(moment)
        left = sum(listener.busy for listener in self._listeners)
        if left:
            self._log.warning("connections cut off at the end", connections=left)
        self._parts.retired.set()
        self._elected.stop(max(0.1, until - time.monotonic()))
        self._shared.bus.stop()
        self._save_metrics()
        self._parts.engine.stop()
        self._shared.recorder.stop()
        self._shared.database.close()

    def _wait_idle(self, until: float) -> None:
        while any(listener.busy for listener in self._listeners) and time.monotonic() < until:
            time.sleep(0.02)
