"""Chromium without a window, driven over a pipe (Chrome DevTools Protocol): clicks and keys as a person's."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any


def program() -> str | None:
    """Where Chromium is, if it is."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class RefusedError(Exception):
    """The browser does not do that."""


class Chromium:
    """One page. Certificates are not checked, scripts of pages do not run."""

    def __init__(self, folder: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        found = program()
        assert found is not None
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--ignore-certificate-errors", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--lang=en"]
        # The browser reads its descriptor 3 and writes to its 4.
        shell = f'exec 3<&{to_read} 4>&{to_write}; exec "$0" "$@"'
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", shell, found, *options, "about:blank"], pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._ids = itertools.count(1)
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "DOM", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setScriptExecutionDisabled", value=True)

    def close(self) -> None:
        """Ends the browser."""
        self._session = ""
        self.send("Browser.close")
        self.process.wait(20)
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, **params: object) -> dict[str, Any]:
        """A command and its result."""
        number = next(self._ids)
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            got = self._receive()
            if got.get("id") == number:
                if "error" in got:
                    raise RefusedError(f"{method}: {got['error']}")
                result: dict[str, Any] = got["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + 30
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def size(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """The window's size in CSS pixels; ``phone`` as a phone has it, ``dark`` for whoever likes it so."""
        scale = 2 if phone else 1
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def go(self, url: str) -> None:
        """Opens a page."""
        self.send("Page.navigate", url=url)
        self.settle()

    def settle(self) -> None:
        """Waits until the page is there."""
        state, still = "", 0
        for _ in range(300):
            before, state = state, self.html()
            still = still + 1 if state == before and "</main>" in state else 0
            if still == 3:
                return
            time.sleep(0.05)
        raise AssertionError(f"the page does not come: {state[:500]}")

    def html(self) -> str:
        """The page as it stands."""
        for _ in range(50):
            try:
                root = self.send("DOM.getDocument", depth=0)["root"]["nodeId"]
                found: str = self.send("DOM.getOuterHTML", nodeId=root)["outerHTML"]
            except RefusedError:  # another page has just come
                time.sleep(0.02)
            else:
                return found
        raise AssertionError("the page does not hold still")

    def _node(self, selector: str) -> int:
        root = self.send("DOM.getDocument", depth=0)["root"]["nodeId"]
        node: int = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        assert node, f"there is no {selector} in {self.html()}"
        return node

    def click(self, selector: str, *, then_settle: bool = True) -> None:
        """Clicks in the middle of what the CSS selector finds."""
        node = self._node(selector)
        self.send("DOM.scrollIntoViewIfNeeded", nodeId=node)
        quad = self.send("DOM.getContentQuads", nodeId=node)["quads"][0]
        spot = {"x": sum(quad[0::2]) / 4, "y": sum(quad[1::2]) / 4, "button": "left", "clickCount": 1}
        before = self.html()
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **spot)
        for _ in range(100 if then_settle else 0):
            if self.html() != before:
                break
            time.sleep(0.05)
        if then_settle:
            self.settle()

    def type(self, selector: str, text: str) -> None:
        """Types into a field, in place of what is there."""
        self.send("DOM.focus", nodeId=self._node(selector))
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key="a", code="KeyA", modifiers=2, commands=["selectAll"])
        self.send("Input.insertText", text=text)

    def value(self, selector: str, attribute: str) -> str:
        """An attribute of what the selector finds."""
        pairs = self.send("DOM.getAttributes", nodeId=self._node(selector))["attributes"]
        return dict(zip(pairs[::2], pairs[1::2], strict=True)).get(attribute, "")

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def overflow(self) -> float:
        """By how many pixels the page is wider than its window."""
        metrics = self.send("Page.getLayoutMetrics")
        wide: float = metrics["cssContentSize"]["width"] - metrics["cssLayoutViewport"]["clientWidth"]
        return wide
