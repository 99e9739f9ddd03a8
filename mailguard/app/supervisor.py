"""The first process: opens the ports, drops privilege, forks the workers and looks after them."""

from __future__ import annotations

import contextlib
import gc
import os
import pwd
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mailguard.app import notify
from mailguard.app.bus import Bus
from mailguard.app.parts import Plan, Shared, make_plan
from mailguard.app.pidfile import claim
from mailguard.app.worker import DRAIN, Worker
from mailguard.config.decode import ConfigError, line
from mailguard.config.schema import load_config
from mailguard.delivery.queue import Queue
from mailguard.net.listening import open_socket
from mailguard.net.parking import Parking
from mailguard.observe.log import Sink, make_log
from mailguard.pipeline.record import Recorder
from mailguard.state.database import Database, metadata

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_QUICK_DEATH = 5.0  # a worker that lives shorter is replaced after a pause


class StartError(Exception):
    """The server cannot start; the text says why, and the cure."""


class Supervisor:
    """Runs the whole server from one configuration file until SIGTERM."""

    def __init__(self, config: Path, overrides: Sequence[str] = (), *, say: Callable[[str], None] = print) -> None:
        self._path = config
        self._overrides = tuple(overrides)
        self._say = say
        self._workers: dict[int, float] = {}
        self._stopping = False

    def plan(self) -> Plan:
        """The configuration as it stands in the files now. Raises ConfigError."""
        return make_plan(load_config(self._path, self._overrides))

    def run(self) -> int:
        """Serves; returns the exit code. Raises ConfigError, StartError, ListenError."""
        plan = self.plan()
        self._plan = plan
        main = plan.config.main
        _data_folder(plan.config.data_dir, main.user)
        self._sockets = [(settings, open_socket(settings)) for settings in main.listener]
        _become(main.user)
        _check_writable(plan.config.data_dir)
        self._claim = claim(plan.config.data_dir)
        log_file = plan.config.base / main.log.file if main.log.file else None
        try:
            self._sink = Sink(log_file)
        except OSError as error:
            raise StartError(f"{log_file}: {error.strerror}; `log.file` names another") from None
        self._log: Any = make_log(main.log, self._sink)
        self._database = Database(main.state, plan.config.data_dir)
        metadata.create_all(self._database.engine)
        self._database.close()
        if plan.tls is not None and plan.tls.certificates()[0].self_signed:
            name = str(plan.tls.certificates()[0].path)
            self._log.warning("the certificate is self-signed: clients will ask before they trust it", file=name)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        gc.collect()
        gc.freeze()
        for _ in range(plan.config.workers):
            self._fork()
        return self._loop()

    def _fork(self) -> None:
        read, write = os.pipe()
        supervisor = os.getpid()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os._exit(self._work(write, supervisor))
        os.close(write)
        self._workers[pid] = time.monotonic()
        with os.fdopen(read, "rb") as pipe:
            answer = pipe.read(4096)
        if not answer.startswith(b"ready"):
            os.waitpid(pid, 0)
            del self._workers[pid]
            raise StartError(answer.decode(errors="replace").strip() or "a worker died before it was ready")

    def _work(self, write: int, supervisor: int) -> int:
        def ready(text: str = "ready") -> None:
            with contextlib.suppress(OSError):
                os.write(write, text.encode())
                os.close(write)

        try:
            Worker(self._plan, self._sockets, self._shared(), self.plan, supervisor=supervisor).run(ready)
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
        return Shared(self._log, bus, self._database, queue, recorder, Parking(self._log))

    def _loop(self) -> int:
        self._say("ready")
        notify.notify(f"READY=1\nMAINPID={os.getpid()}")
        listening = ", ".join(f"{settings.kind} {settings.where}" for settings, _ in self._sockets)
        self._log.info("ready", workers=len(self._workers), listening=listening)
        while True:
            got = signal.sigtimedwait(_SIGNALS, 1.0)
            number = got.si_signo if got else 0
            self._reap()
            if number == signal.SIGHUP:
                self._reload()
            elif number in (signal.SIGTERM, signal.SIGINT):
                return self._stop()

    def _reap(self) -> None:
        while (died := _died()) is not None:
            pid, status = died
            started = self._workers.pop(pid, None)
            if started is None:
                continue
            lived = time.monotonic() - started
            self._log.error("a worker died and is replaced", pid=pid, cause=_cause(status), lived=round(lived, 1))
            if lived < _QUICK_DEATH:
                time.sleep(1)
            try:
                self._fork()
            except StartError as error:
                self._log.error("a worker cannot be replaced; trying again", reason=str(error))
                self._workers[-pid] = 0.0  # remembered as missing
        for missing in [pid for pid in self._workers if pid < 0]:
            with contextlib.suppress(StartError):
                self._fork()
                del self._workers[missing]

    def _reload(self) -> None:
        notify.notify(notify.reloading())
        try:
            plan = self.plan()
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("reload refused, the old configuration stays", reason=line(problem))
        else:
            if plan.config.main.listener != self._plan.config.main.listener:
                self._log.warning("changed listeners need a restart; all else is reloaded")
            self._plan = plan
            for pid in self._workers:
                if pid > 0:
                    os.kill(pid, signal.SIGHUP)
        notify.notify("READY=1")

    def _stop(self) -> int:
        notify.notify("STOPPING=1")
        self._log.info("stopping")
        for _, sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + DRAIN - 0.5
        left = set(self._workers)
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
        return 0


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


def _data_folder(folder: Path, user: str) -> None:
    if folder.is_dir():
        return
    try:
        folder.mkdir(parents=True, mode=0o700)
        if user and os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
    except KeyError:
        raise StartError(f"there is no user {user!r}; `user` in mailguard.toml names it") from None
    except OSError as error:
        raise StartError(f"{folder}: the data folder cannot be made: {error.strerror}; see `data_dir`") from None


def _check_writable(folder: Path) -> None:
    probe = folder / f".probe-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StartError(
            f"{folder}: the data folder is not writable: {error.strerror}; "
            f"`chown` it to user {pwd.getpwuid(os.geteuid()).pw_name}, or see `data_dir` in mailguard.toml"
        ) from None


def _become(user: str) -> None:
    """Drops privilege for good, now that the ports are open."""
    if not user or os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"there is no user {user!r}; `user` in mailguard.toml names it") from None
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
