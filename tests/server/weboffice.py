"""An office with an account page, and a browser in front of it."""

from __future__ import annotations

import re
import time
import uuid
from html import unescape
from pathlib import Path

import structlog
from werkzeug.test import Client, TestResponse

from mailguard.auth.accounts import Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.auth.authenticator import Authenticator
from mailguard.auth.settings import AuthSettings
from mailguard.auth.signin import SignIns
from mailguard.auth.websession import WebSessions
from mailguard.delivery.forwardconsent import Consents
from mailguard.delivery.forwarding import Forwards
from mailguard.delivery.forwardpost import ForwardPost
from mailguard.delivery.vacation import Vacations
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.event import SignedIn
from mailguard.model.message import Message
from mailguard.net.listening import ListenerSettings
from mailguard.net.selfsigned import make_self_signed
from mailguard.protocol.autoconfig.apple import sign
from mailguard.server.web import WebApplication
from mailguard.server.web_account import AccountPages, account_application
from mailguard.server.web_guard import Guard
from mailguard.server.web_provider import providers
from mailguard.server.web_rate import RateLimit
from mailguard.server.web_settings import WebSettings
from mailguard.server.web_setup import SetupPages
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock

BASE = "https://mail.office.test"
PASSWORD = "correct-horse-1"
NOW = time.mktime((2026, 5, 4, 12, 0, 0, 0, 0, -1))


class Letters:
    """The queue, as far as letters go into it: their text by recipient, the latest last."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.full = False

    def put(self, envelope: Envelope, message: Message, recipients: list[Recipient]) -> None:
        if self.full:
            raise OSError("no space left")
        assert envelope.mail_from is None
        self.texts += [(str(r.address), bytes(message).decode()) for r in recipients]

    def take(self) -> list[tuple[str, str]]:
        taken, self.texts = self.texts, []
        return taken


class Office:
    """The pages, over a database, for ann and bob."""

    def __init__(self, folder: Path, *, forward: str = "anywhere") -> None:
        self.clock = FakeClock(NOW)
        self.database = Database(StateSettings(), folder)
        metadata.create_all(self.database.engine)
        accounts = [{"address": "ann@office.test", "name": "Ann", "aliases": ["a@office.test"]}]
        accounts += [{"address": "bob@office.test"}, {"address": "gone@office.test", "disabled": True}]
        file = AccountsFile.model_validate({"domain": [{"name": "office.test"}], "account": accounts})
        directory = Directory.build(file, folder)
        self.events: list[SignedIn] = []
        self.authenticator = Authenticator(directory, self.database, AuthSettings(), emit=self.told, now=self.clock)
        for name in ("ann", "bob", "gone"):
            self.authenticator.passwords.store(f"{name}@office.test", PASSWORD)
        listeners = [ListenerSettings.model_validate({"kind": k}) for k in ("imaps", "submissions", "https")]
        settings = WebSettings(burst=10_000)
        known = providers("mail.office.test", listeners, directory, settings)
        self.slept: list[float] = []
        sessions = WebSessions(self.database, self.authenticator.passwords.stamp, now=self.clock)
        self.sign_ins = SignIns(self.database, self.later, now=self.clock)
        make_self_signed(["mail.office.test"], folder / "c.pem", folder / "k.pem")
        forwards = Forwards(self.database, forward, directory.is_local, now=self.clock)  # type: ignore[arg-type]
        self.letters = Letters()
        self.post = ForwardPost(
            forwards, Consents(self.database, now=self.clock), self.letters, "mail.office.test",  # type: ignore[arg-type]
            lambda: f"n{len(self.letters.texts)}", structlog.get_logger(), now=self.clock,
        )  # fmt: skip
        self.pages = AccountPages(
            Guard(self.authenticator, sessions, self.slept.append, self.clock),
            known,
            self.sign_ins,
            Vacations(self.database, now=self.clock),
            forwards,
            self.post,
            lambda body: sign(body, (folder / "c.pem").read_bytes(), (folder / "k.pem").read_bytes()),
            uuid.UUID(int=7),
            structlog.get_logger(),
        )
        setup = SetupPages(settings, "mail.office.test", known, folder / "challenges", account=True, now=self.clock)
        self.app = WebApplication(setup, RateLimit(30, 1000, self.clock), account_application(self.pages))

    def told(self, event: object) -> None:
        self.sign_ins.observe(event, lambda key: key in self.authenticator.directory.accounts)  # type: ignore[arg-type]

    def later(self, job) -> None:  # type: ignore[no-untyped-def]
        with self.database.write() as connection:
            job(connection)


class Browser:
    """Keeps cookies, and fills in the forms it is shown."""

    def __init__(self, office: Office) -> None:
        self.client = Client(office.app)
        self.page = ""

    def get(self, path: str, **more: object) -> TestResponse:
        more.setdefault("environ_base", {"REMOTE_ADDR": "192.0.2.1"})
        got = self.client.get(path, base_url=BASE, follow_redirects=True, **more)  # type: ignore[arg-type]
        self.page = got.text
        return got

    def post(self, path: str, *, token: str | None = None, **fields: object) -> TestResponse:
        headers = fields.pop("headers", {"Origin": BASE, "Sec-Fetch-Site": "same-origin"})
        if token is None:
            found = re.search(r'name="form_token" value="([^"]+)"', self.page)
            token = found[1] if found else ""
        got = self.client.post(
            path,
            base_url=BASE,
            data={"form_token": token, **fields},
            headers=headers,  # type: ignore[arg-type]
            environ_base={"REMOTE_ADDR": "192.0.2.1", "HTTP_USER_AGENT": "test"},
            follow_redirects=True,
        )
        self.page = got.text
        return got

    def sign_in(self, user: str = "ann@office.test", password: str = PASSWORD) -> TestResponse:
        self.get("/account/sign-in")
        return self.post("/account/sign-in", user=user, password=password)

    def sees(self, text: str) -> bool:
        return text in unescape(self.page)
