"""The account page walked through in Chromium, without scripts, as wide as a phone and as a desk.

Pictures of every page go into the folder ``MAILGUARD_PICTURES`` names, for people to look at.
"""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import installed
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


pytestmark.append(pytest.mark.skipif(chromium.program() is None, reason="Chromium is not installed"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = installed.Installed(tmp_path_factory.mktemp("page") / "m", settings=['dns.nameservers=["127.0.0.1:9"]'])
    made.add_users()
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    made = chromium.Chromium(tmp_path / "profile")
    yield made
    made.close()


class Walk:
    """Goes through the pages; takes a picture of each and sees that none is wider than the window."""

    def __init__(self, browser: Any, server: Any, name: str) -> None:
        self.browser = browser
        self.base = f"https://127.0.0.1:{server.port(443)}"
        self.name = name
        self.pictures = Path(os.environ["MAILGUARD_PICTURES"]) if "MAILGUARD_PICTURES" in os.environ else None

    def look(self, what: str, *texts: str) -> str:
        html: str = self.browser.html()
        for text in texts:
            assert text in html, f"{text!r} is not in {html}"
        assert self.browser.overflow() <= 0, f"{what} is too wide"
        if self.pictures:
            self.browser.picture(self.pictures / f"{self.name}-{what}.png")
        return html

    def sign_in(self, password: str) -> None:
        self.browser.go(f"{self.base}/account")
        self.look("sign-in", "Your mail account")
        self.browser.type("#user", "user1@office.test")
        self.browser.type("#password", password)
        self.browser.click("form button")

    def open(self, page: str) -> None:
        self.browser.click(f'nav a[href="/account/{page}"]')


@pytest.mark.parametrize(("name", "size"), [("phone", (390, 844)), ("desk", (1200, 900)), ("dark", (390, 844))])
def test_every_page(browser: Any, server: Any, name: str, size: tuple[int, int]) -> None:
    browser.size(*size, phone=name != "desk", dark=name == "dark")
    walk = Walk(browser, server, name)
    browser.go(f"{walk.base}/help/office.test")
    walk.look("help", "Mail for office.test", str(server.port(993)))
    walk.sign_in("wrong-password")
    walk.look("sign-in-failed", "Not signed in: wrong name or password.")
    walk.sign_in(installed.PASSWORD)
    walk.look("start", "user1@office.test", "Recent sign-ins")
    walk.open("devices")
    walk.look("devices", "Make a profile")
    browser.click("main form button")
    walk.look("profile", "Your link is ready", "data:image/svg+xml")
    walk.open("password")
    walk.look("password")
    for field, text in (("current", "wrong-password"), ("new", "new-horse-22"), ("again", "new-horse-22")):
        browser.type(f"#{field}", text)
    browser.click("main form button")
    walk.look("password-failed", "not your present password")
    walk.open("apps")
    browser.type("#name", f"{name} “<test>”")
    browser.click('input[value="pop3"]', then_settle=False)
    browser.click("main > form button")
    html = walk.look("apps", "shown only now", "IMAP, SMTP")
    found = re.search(r'class="secret">([a-z2-9-]+)<', html)
    assert found
    with smtplib.SMTP_SSL("127.0.0.1", server.port(465), context=_unchecked()) as client:
        client.login("user1@office.test", found[1])
    walk.open("activity")
    walk.look("activity", "This page", "Refused:", "this one", "Chrome on Linux")
    walk.open("away")
    browser.type("#text", "I am away until Monday.\nMay it wait?")
    browser.click('button[value="on"]')
    walk.look("away", "Saved.", "Your reply is on", "May it wait?")
    browser.click('button[value="off"]')
    walk.look("away-off", "Your out-of-office reply is off")
    walk.open("forwarding")
    browser.type("#targets", "nonsense")
    browser.click('button[value="on"]')
    walk.look("forwarding-failed", "has no @")
    browser.type("#targets", "user2@office.test")
    browser.click('button[value="on"]')
    walk.look("forwarding", "Your mail is sent on")
    browser.type("#targets", f"{name}@elsewhere.test")
    browser.click('button[value="on"]')
    walk.look("forwarding-waits", f"{name}@elsewhere.test has not agreed yet")
    browser.click('button[value="off"]')
    browser.click("header form button")
    walk.look("out", "You are signed out")
    browser.go(walk.base + _link(server, f"{name}@elsewhere.test"))
    walk.look("consent", "wants its mail sent on")
    browser.click('button[value="yes"]')
    walk.look("consent-yes", "is sent on to")
    browser.click('button[value="no"]')
    walk.look("consent-no", "Nothing of")


def _link(server: Any, address: str) -> str:
    """The path in the letter that asks this address, which waits in the queue."""
    for path in (server.folder / "data/queue").glob("*.eml"):
        text = path.read_text()
        found = re.search(r"https://\S+(/setup/forward/\S+)", text)
        if found and f"To: {address}\r\n".replace("\r", "") in text:
            return found[1]
    raise AssertionError(f"no letter to {address}")


def test_the_code_leads_to_a_signed_profile_once(browser: Any, server: Any, tmp_path: Path) -> None:
    walk = Walk(browser, server, "code")
    walk.sign_in(installed.PASSWORD)
    walk.open("devices")
    browser.click("main form button")
    url = walk.base + browser.value('main a[href^="/setup/"]', "href")
    with urllib.request.urlopen(url, context=_unchecked(), timeout=20) as answer:
        body = answer.read()
    if shutil.which("openssl"):
        command = ["openssl", "cms", "-verify", "-inform", "DER", "-noverify"]
        shown = subprocess.run(command, input=body, capture_output=True, check=True).stdout
        assert b"user1@office.test" in shown
    with pytest.raises(urllib.error.HTTPError) as again:
        urllib.request.urlopen(url, context=_unchecked(), timeout=20)
    assert again.value.code == 404
    again.value.close()


def test_the_keyboard_is_enough(browser: Any, server: Any) -> None:
    walk = Walk(browser, server, "keys")
    browser.go(f"{walk.base}/account/sign-in")
    for text in ("", "user1@office.test", installed.PASSWORD):  # first comes the link past the navigation
        _press(browser, "Tab", 9)
        if text:
            browser.send("Input.insertText", text=text)
    _press(browser, "Enter", 13, text="\r")
    for _ in range(100):
        if "Sign out" in browser.html():
            break
        browser.settle()
    walk.look("keys", "Sign out")


def _press(browser: Any, key: str, code: int, **more: str) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
