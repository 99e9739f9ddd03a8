"""A server made and run as a user would: ``mailguard init``, ``mailguard user add``, ``mailguard serve``."""

from __future__ import annotations

import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

PASSWORD = "correct-horse-1"
USERS = ("user1@office.test", "user2@office.test")
_USUAL = (25, 24, 587, 465, 143, 993, 110, 995, 80, 443)


def free_offset() -> int:
    """A port offset all of whose ports are free just now, and below those that clients are given (32768 and up)."""
    while True:
        offset = random.randrange(11_000, 31_000)
        if all(_free(offset + port) for port in _USUAL):
            return offset


def _free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


class Installed:
    """One server's folder, and the process that serves it."""

    def __init__(self, folder: Path, *, settings: Sequence[str] = (), offset: int | None = None) -> None:
        self.folder = folder
        self.config = folder / "mailguard.toml"
        self.offset = free_offset() if offset is None else offset
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.log: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        sets = [word for setting in settings for word in ("--set", setting)]
        self.run("init", str(folder), "--domain", "office.test", "--port-offset", str(self.offset), *sets, config=False)

    def port(self, usual: int) -> int:
        """Where the service of this usual port listens."""
        return self.offset + usual

    def run(
        self, *arguments: str, stdin: str = "", code: int = 0, config: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs one command; fails unless it ends with ``code``."""
        command = [sys.executable, "-m", "mailguard", *arguments, *(["-c", str(self.config)] if config else [])]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def add_users(self) -> None:
        """Adds the two sample accounts."""
        for user in USERS:
            self.run("user", "add", user, "--password-stdin", stdin=PASSWORD + "\n")

    def start(self) -> Installed:
        """Starts the server and waits for its ``ready``."""
        command = [sys.executable, "-m", "mailguard", "serve", "-c", str(self.config)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.lines = queue.SimpleQueue()
        threading.Thread(target=self._follow, args=(self.process, self.lines), daemon=True).start()
        self.wait_for("ready", whole=True)
        return self

    def _follow(self, process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.log.append(line.rstrip("\n"))
                lines.put(line.rstrip("\n"))
        lines.put("(the server has ended)")

    def wait_for(self, text: str, timeout: float = 30, *, whole: bool = False) -> str:
        """The next line of output with this text in it; fails if it does not come."""
        while True:
            try:
                line = self.lines.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError("\n".join([f"no line with {text!r} in:", *self.log])) from None
            if line == text or (text in line and not whole):
                return line
            assert line != "(the server has ended)", "\n".join([f"ended without {text!r}:", *self.log])

    def wait_for_each(self, *texts: str) -> None:
        """Waits until there has been a line with each text, in whatever order."""
        missing = list(texts)
        while missing:
            line = self.wait_for("")
            missing = [text for text in missing if text not in line]

    def signal(self, number: int) -> None:
        """Sends a signal to the supervisor."""
        assert self.process is not None
        self.process.send_signal(number)

    def workers(self) -> list[int]:
        """The worker processes."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> int:
        """Stops the server with SIGTERM; returns its exit code."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        return self.process.wait(15)

    def kill(self) -> None:
        """Kills every process at once, as a power cut would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(15)

    def close(self) -> None:
        """Ends whatever still runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
