"""The first process: opens the ports, drops privilege, forks the workers and looks after them."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mailguard.app import notify
from mailguard.app.assembly import build_parts
from mailguard.app.bus import Bus
from mailguard.app.health import Health
from mailguard.app.memory import give_back
from mailguard.app.parts import Shared
from mailguard.app.pidfile import claim
from mailguard.app.placement import next_cpu
from mailguard.app.plan import Plan, make_plan
from mailguard.app.start import StartError, become, check_key, check_writable, make_data_folder
from mailguard.app.trial import trial
from mailguard.app.watch import SIGNALS
from mailguard.app.worker import DRAIN, Worker
from mailguard.config.decode import ConfigError
from mailguard.config.schema import load_config
from mailguard.delivery.forward import srs_secret
from mailguard.delivery.queue import Queue
from mailguard.net.listening import ListenerSettings, open_socket
from mailguard.net.parking import Parking
from mailguard.observe.log import Sink, make_log
from mailguard.observe.metrics import Metrics, clear
from mailguard.pipeline.record import Recorder
from mailguard.pipeline.texts import Texts
from mailguard.state.database import Database
from mailguard.state.migrate import prepare

_TEXTS = "reload.json"
_QUICK_DEATH = 5.0  # a worker that lives shorter is replaced after a pause


class Supervisor:
    """Runs the whole server from one configuration file until SIGTERM.

    ``known`` are the texts of the configuration in force, where a server is taken over (see ``resume``).
    """

    def __init__(self, config: Path, overrides: Sequence[str] = (), *, known: Mapping[str, str] | None = None) -> None:
        self.config = config
        self.overrides = tuple(overrides)
        self.texts = dict(known or {})
        self.sockets: list[tuple[ListenerSettings, socket.socket]] = []
        self.workers: dict[int, float] = {}
        self.cpus: dict[int, int] = {}
        self.missing = 0
        self.claim = -1

    def plan(self) -> Plan:
        """The configuration as it stands in the files now. Raises ConfigError."""
        return self._read(Texts())

    def _read(self, texts: Texts) -> Plan:
        plan = make_plan(load_config(self.config, self.overrides, texts), texts)
        self.texts = texts.known
        return plan

    def start(self, say: Callable[[str], None]) -> None:
        """Begins to serve, says ``ready``. Raises ConfigError, StartError, ListenError."""
        plan = self._plan = self.plan()
        main = plan.config.main
        make_data_folder(plan.config.data_dir, main.user)
        self.sockets = [(settings, open_socket(settings)) for settings in main.listener]
        become(main.user)
        check_writable(plan.config.data_dir)
        check_key(plan.config.base / main.tls.key)
        self.claim = claim(plan.config.data_dir)
        self._prepare()
        prepare(self._database)
        srs_secret(self._database)  # what workers ask first: what SQLAlchemy keeps of it is theirs together
        self._database.close()
        self._settle()
        clear(plan.config.data_dir / "metrics")
        if plan.tls is not None and plan.tls.certificates()[0].self_signed:
            name = str(plan.tls.certificates()[0].path)
            self._log.warning("the certificate is self-signed: clients will ask before they trust it", file=name)
        self._fork(plan.config.workers)
        say("ready")
        notify.notify(f"READY=1\nMAINPID={os.getpid()}")
        listening = ", ".join(f"{settings.kind} {settings.where}" for settings, _ in self.sockets)
        self._log.info("ready", workers=len(self.workers), listening=listening)

    def take_over(self) -> None:
        """Continues with the configuration in force, as ``known`` has it. Raises ConfigError, StartError."""
        self._plan = self._read(Texts(self.texts))
        self._prepare()
        self._settle()

    def _prepare(self) -> None:
        """What workers are forked from. Blocks the signals, for good."""
        main = self._plan.config.main
        log_file = self._plan.config.base / main.log.file if main.log.file else None
        try:
            self._sink = Sink(log_file)
        except OSError as error:
            raise StartError(f"{log_file}: {error.strerror}; `log.file` names another") from None
        self._log: Any = make_log(main.log, self._sink)
        self._database = Database(main.state, self._plan.config.data_dir)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    @staticmethod
    def _settle() -> None:
        """Leaves nothing for the workers to clean up: they would each copy the pages."""
        gc.collect()
        give_back()
        gc.freeze()
        gc.enable()  # `serve` has it off while modules load

    def _fork(self, count: int) -> None:
        """Starts workers side by side, and returns when all are ready. Raises StartError."""
        supervisor = os.getpid()
        sys.stdout.flush()
        starting: dict[int, int] = {}
        for _ in range(count):
            read, write = os.pipe()
            cpu = next_cpu(self.cpus.values(), self._plan.config.workers)
            pid = os.fork()
            if pid == 0:
                os.close(read)
                os._exit(self._work(write, supervisor, cpu))
            os.close(write)
            starting[pid] = read
            if cpu is not None:
                self.cpus[pid] = cpu
        failed = ""
        for pid, read in starting.items():
            with os.fdopen(read, "rb") as pipe:
                answer = pipe.read(4096)
            if answer.startswith(b"ready"):
                self.workers[pid] = time.monotonic()
                continue
            os.waitpid(pid, 0)
            self.cpus.pop(pid, None)
            self.missing += 1
            failed = answer.decode(errors="replace").strip() or "a worker died before it was ready"
        if failed:
            raise StartError(failed)

    def _work(self, write: int, supervisor: int, cpu: int | None) -> int:
        def ready(text: str = "ready") -> None:
            with contextlib.suppress(OSError):
                os.write(write, text.encode())
                os.close(write)

        try:
            Worker(self._plan, self.sockets, self._shared(), self.replan, supervisor=supervisor).run(ready, cpu)
        except Exception as error:
            traceback.print_exc()
            ready(f"a worker cannot start: {error}")
            return 1
        except BaseException:
            return 1
        return 0

    def _shared(self) -> Shared:
        """What a worker keeps for its whole life; called in the worker."""
        self._sink.after_fork()
        self._database.after_fork()
        bus = Bus(self._log)
        folder = self._plan.config.data_dir / "queue"
        folder.mkdir(mode=0o700, exist_ok=True)
        general = self._plan.policy.general
        recorder = Recorder(
            self._database, keep_days=general.keep_days, keep_records=general.keep_records, log=self._log
        )
        queue = Queue(
            self._database,
            folder,
            sender_cap=self._plan.config.main.queue.sender_cap,
            node=socket.gethostname(),
            emit=bus,
        )
        data_dir = self._plan.config.data_dir
        metrics, health = Metrics(data_dir / "metrics"), Health(self._database, data_dir)
        return Shared(self._log, bus, self._database, queue, recorder, Parking(self._log), metrics, health)

    def tend(self) -> None:
        """Buries dead workers and forks their successors; what cannot be replaced now is ``missing``."""
        while (died := _died()) is not None:
            pid, status = died
            started = self.workers.pop(pid, None)
            self.cpus.pop(pid, None)
            if started is None:
                continue
            lived = time.monotonic() - started
            self._log.error("a worker died and is replaced", pid=pid, cause=_cause(status), lived=round(lived, 1))
            if lived < _QUICK_DEATH:
                time.sleep(1)
            self.missing += 1
        wanted, self.missing = self.missing, 0
        try:
            self._fork(wanted)
        except StartError as error:
            self._log.error("a worker cannot be replaced; trying again", reason=str(error))

    def reload(self) -> None:
        """Takes the files as they are now, or keeps what is in force and logs why."""
        notify.notify(notify.reloading())
        known, problems = self.texts, []
        try:
            plan = self.plan()
            failed = trial(lambda: self._begin(plan))
            problems = [failed] if failed else []
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
        if problems:
            self.texts = known
            for problem in problems:
                self._log.error("reload refused, the old configuration stays", reason=problem)
        else:
            if plan.config.main.listener != self._plan.config.main.listener:
                self._log.warning("changed listeners need a restart; all else is reloaded")
            self._plan = plan
            self._hand_over()
            for pid in self.workers:
                os.kill(pid, signal.SIGHUP)
        notify.notify("READY=1")

    def _begin(self, plan: Plan) -> None:
        """Everything a worker begins with, once, in a process of its own: whatever fails there refuses the reload."""
        self._plan = plan
        build_parts(plan, self._shared()).engine.stop()

    def _hand_over(self) -> None:
        """Writes down the very texts that were tried, so that every worker takes those and no later ones."""
        path = self._plan.config.data_dir / _TEXTS
        fresh = path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(self.texts, file)
        fresh.replace(path)

    def replan(self) -> Plan:
        """The configuration that was handed over. Raises ConfigError."""
        try:
            known = json.loads((self._plan.config.data_dir / _TEXTS).read_text("utf-8"))
        except (OSError, ValueError):
            known = {}
        return self._read(Texts(known))

    def stop(self) -> None:
        """Lets the workers finish within ten seconds, then kills them."""
        notify.notify("STOPPING=1")
        self._log.info("stopping")
        for _, sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + DRAIN - 1.5
        left = set(self.workers)
        while left and time.monotonic() < until:
            died = _died()
            if died is None:
                signal.sigtimedwait((signal.SIGCHLD,), 0.2)
            else:
                left.discard(died[0])
        for pid in left:
            self._log.error("a worker did not stop in time and was killed", pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._log.info("stopped")


def _died() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _cause(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.waitstatus_to_exitcode(status)}"
