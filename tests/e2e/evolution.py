"""Evolution on a screen of its own, driven by the keyboard: what its windows are called tells how far it is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path


def missing() -> str:
    """Which program is not installed; ``""`` if all are."""
    needed = ("evolution", "xdotool", "dbus-run-session", "Xvfb")
    return next((name for name in needed if not shutil.which(name)), "")


def screen(size: str) -> tuple[subprocess.Popen[bytes], str]:
    """A screen without a monitor, and its name."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", size, "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        return process, f":{pipe.readline().strip()}"


class Evolution:
    """A first start in an empty home."""

    def __init__(self, folder: Path, display: str) -> None:
        (folder / "run").mkdir(parents=True, mode=0o700)
        self._environment = {
            **os.environ, "DISPLAY": display, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run"),
            "LC_ALL": "C.UTF-8", "GTK_A11Y": "none", "NO_AT_BRIDGE": "1", "GIO_USE_NETWORK_MONITOR": "base",
        }  # fmt: skip
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            ["dbus-run-session", "--", "evolution", "--component=mail"],
            env=self._environment, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip

    def set_up(self, name: str, address: str, password: str) -> None:
        """The assistant from its first page to its last, then the password it asks for."""
        self.wait_for("Welcome")
        self.press("Restore from Backup", "alt+n")
        self.press("Identity", "alt+n")
        self.keys("ctrl+a")
        self.write(name)
        self.keys("Tab")
        self.write(address)
        self.press("Account Summary", "alt+n")
        # The first alt+n of this page leads to the field "Name", the second to the button "Next".
        self.press("Done", "alt+n", "alt+n", "Return")
        self.press("Mail authentication request", "alt+a")
        self.write(password)
        self.keys("Return")

    def press(self, window: str, *keys: str) -> None:
        """Presses these keys, again every few seconds, until a window of this name is there."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            self.keys(*keys)
            if self._found(window, 5):
                return
        raise AssertionError(f"no window {window!r}, only {self._windows()}")

    def wait_for(self, window: str) -> None:
        """Waits for a window of this name and gives it the keyboard."""
        assert self._found(window, 90), f"no window {window!r}, only {self._windows()}"

    def _found(self, window: str, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for number, name in self._windows().items():
                if name == window:
                    self._do("windowfocus", "--sync", number)
                    time.sleep(0.5)  # until the page behind the title is there, too
                    return True
            time.sleep(0.2)
        return False

    def keys(self, *keys: str) -> None:
        """Presses keys."""
        self._do("key", "--delay", "150", *keys)

    def write(self, text: str) -> None:
        """Types a text."""
        self._do("type", "--delay", "30", text)

    def picture(self, path: Path) -> None:
        """The whole screen, where ImageMagick is installed."""
        if shutil.which("import"):
            subprocess.run(["import", "-window", "root", str(path)], env=self._environment)

    def close(self) -> None:
        """Ends the program and its session."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._log.close()

    def _windows(self) -> dict[str, str]:
        found = self._do("search", "--onlyvisible", "--name", ".").split()
        return {number: self._do("getwindowname", number).strip() for number in found}

    def _do(self, *words: str) -> str:
        line = ["xdotool", *words]
        return subprocess.run(line, env=self._environment, capture_output=True, text=True, timeout=60).stdout
