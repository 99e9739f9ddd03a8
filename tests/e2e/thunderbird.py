"""Thunderbird on a screen of its own, driven over Marionette, with a proxy in place of DNS: every name of the
office leads to the server under test, every other name nowhere."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PREFERENCES = {
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "app.update.enabled": False,
    "mail.rights.version": 1,
    "mailnews.start_page.enabled": False,
    "mail.biff.show_alert": False,
    "mail.shell.checkDefaultClient": False,
    "network.proxy.type": 1,
    "network.proxy.socks": "127.0.0.1",
    "network.proxy.socks_version": 5,
    "network.proxy.socks_remote_dns": True,
    "network.proxy.no_proxies_on": "",
    "network.trr.mode": 5,
}


def missing() -> str:
    """Which program is not installed; ``""`` if all are."""
    return next((name for name in ("thunderbird", "Xvfb") if not shutil.which(name)), "")


class Proxy:
    """Takes connections on a port of its own and serves each in a thread."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(client,), daemon=True).start()

    def _run(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self.serve(client)

    def serve(self, client: socket.socket) -> None:
        """One connection, to its end; an OSError ends it, too."""
        raise NotImplementedError


class Socks(Proxy):
    """A SOCKS5 proxy (RFC 1928) that knows one domain: its usual ports are those of the server, ``offset`` higher."""

    def __init__(self, domain: str, offset: int) -> None:
        self._domain = domain
        self._offset = offset
        self.asked: list[str] = []
        super().__init__()

    def serve(self, client: socket.socket) -> None:
        """Connects where it is asked to."""
        stream = client.makefile("rb")
        methods = stream.read(2)
        if len(methods) < 2:
            return  # opened ahead of need, and closed
        stream.read(methods[1])
        client.sendall(b"\x05\x00")
        request = stream.read(4)
        if len(request) < 4:
            return
        kind = request[3]
        size = {1: 4, 4: 16}.get(kind) or stream.read(1)[0]
        name = stream.read(size)
        host = name.decode() if kind == 3 else "?"
        port = int.from_bytes(stream.read(2), "big")
        self.asked.append(f"{host}:{port}")
        if not f".{host}".endswith("." + self._domain):
            client.sendall(b"\x05\x04\x00\x01" + bytes(6))
            return
        target = port if port > self._offset else port + self._offset
        with socket.create_connection(("127.0.0.1", target)) as server:
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            join(client, server)


def join(client: socket.socket, server: socket.socket, heard: Callable[[bytes], None] = lambda data: None) -> None:
    """Passes everything on between the two until both have ended; ``heard`` is told what the client says."""
    back = threading.Thread(target=_pump, args=(server, client), daemon=True)
    back.start()
    _pump(client, server, heard)
    back.join()


def _pump(source: socket.socket, sink: socket.socket, heard: Callable[[bytes], None] = lambda data: None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            heard(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Thunderbird:
    """One profile in ``folder``; what goes through ``proxy``, if there is one, is all of the network it has.
    ``settings`` are further preferences."""

    def __init__(self, folder: Path, proxy: Socks | None, **settings: object) -> None:
        profile = folder / "profile"
        profile.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        way = {"network.proxy.socks_port": proxy.port} if proxy else {"network.proxy.type": 0}
        preferences = {**_PREFERENCES, **way, "marionette.port": port, **settings}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
        (profile / "user.js").write_text("\n".join(lines))
        read, write = os.pipe()
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
        self._screen = subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as pipe:
            display = pipe.readline().strip()
        environment = {**os.environ, "DISPLAY": f":{display}", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        self._log = (folder / "thunderbird.log").open("wb")
        self._process = subprocess.Popen(
            ["thunderbird", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", str(profile)],
            env=environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._buffer = b""
        self._number = 0
        self._socket: socket.socket | None = None
        try:
            self._begin(port)
        except BaseException:
            self.close()
            raise

    def _begin(self, port: int) -> None:
        self._socket = self._connect(port)
        self._receive()
        self.command("WebDriver:NewSession", capabilities={})
        self.command("Marionette:SetContext", value="chrome")
        self.command("WebDriver:SetTimeouts", script=60_000)

    def _connect(self, port: int) -> socket.socket:
        until = time.monotonic() + 150
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=90)
            except OSError:
                assert time.monotonic() < until and self._process.poll() is None, "Thunderbird does not start"
                time.sleep(0.2)

    def close(self) -> None:
        """Ends the program and its screen."""
        if self._socket is not None:
            self._socket.close()
        for process in (self._process, self._screen):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
        self._log.close()

    def command(self, name: str, **parameters: object) -> Any:
        """A command of Marionette and its result."""
        self._number += 1
        data = json.dumps([0, self._number, name, parameters]).encode()
        assert self._socket is not None
        self._socket.sendall(b"%d:%b" % (len(data), data))
        while True:
            kind, number, error, result = self._receive()
            if kind == 1 and number == self._number:
                assert not error, error
                return result

    def _receive(self) -> Any:
        while b":" not in self._buffer:
            self._buffer += self._more()
        size, _, self._buffer = self._buffer.partition(b":")
        while len(self._buffer) < int(size):
            self._buffer += self._more()
        message, self._buffer = self._buffer[: int(size)], self._buffer[int(size) :]
        return json.loads(message)

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(1 << 20)
        assert data, "Thunderbird has ended"
        return data

    def run(self, script: str, *arguments: object) -> Any:
        """Runs JavaScript in the main window, with the program's own rights; returns its value."""
        result = self.command(
            "WebDriver:ExecuteScript", script=_LIBRARY + script, args=list(arguments), sandbox="system", newSandbox=True
        )
        return result["value"]

    def wait(self, script: str, *arguments: object, seconds: float = 60) -> Any:
        """Runs it again and again until it returns something true."""
        until = time.monotonic() + seconds
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < until, f"{script!r} stays false"
            time.sleep(0.25)
        return value

    def trust(self, authority: bytes) -> None:
        """Lets the program trust a CA, a DER certificate."""
        script = """
            Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB)
              .addCertFromBase64(arguments[0], "CT,C,C");"""
        self.run(script, base64.b64encode(authority).decode())

    def picture(self, path: Path) -> None:
        """The main window as PNG."""
        path.write_bytes(base64.b64decode(self.command("WebDriver:TakeScreenshot", full=False, hash=False)["value"]))


# ``find`` looks into the shadow trees that the account hub is made of; ``type`` fills a field as a person would.
_LIBRARY = """
function find(selector, root = document) {
  let found = [...root.querySelectorAll(selector)].find(e => e.getClientRects().length);
  if (found) return found;
  for (let element of root.querySelectorAll("*")) {
    if (element.shadowRoot && (found = find(selector, element.shadowRoot))) return found;
  }
  return null;
}
function type(selector, text) {
  let field = find(selector);
  field.focus();
  field.value = text;
  for (let kind of ["input", "change"]) field.dispatchEvent(new Event(kind, {bubbles: true, composed: true}));
}
"""
