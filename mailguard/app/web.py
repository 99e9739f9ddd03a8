"""The web server's pages of one worker, put together; imported only where there is a listener for them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mailguard.auth.authenticator import Authenticator
from mailguard.auth.signin import SignIns
from mailguard.auth.websession import WebSessions
from mailguard.delivery.forwardconsent import Consents
from mailguard.delivery.forwardpost import ForwardPost
from mailguard.delivery.personal import Personal
from mailguard.protocol.autoconfig.request import Provider
from mailguard.server.web import WebApplication, Wsgi
from mailguard.server.web_guard import Guard
from mailguard.server.web_provider import providers
from mailguard.server.web_rate import RateLimit
from mailguard.server.web_setup import SetupPages
from mailguard.state.credential import server_secret

if TYPE_CHECKING:
    from mailguard.app.parts import Shared
    from mailguard.app.plan import Plan


def build_web(
    plan: Plan,
    shared: Shared,
    authenticator: Authenticator,
    sign_ins: SignIns,
    personal: Personal,
    *,
    now: Callable[[], float],
) -> WebApplication:
    """The pages for one configuration."""
    config, main = plan.config, plan.config.main
    known = providers(main.hostname, main.listener, config.directory, main.web)
    setup = SetupPages(
        main.web,
        main.hostname,
        known,
        config.data_dir / "challenges",
        troubles=shared.health.troubles,
        metrics=lambda: shared.metrics.text(shared.health.samples()),
        account=main.web.account,
        now=now,
    )

    def count(page: str, status: int) -> None:
        shared.metrics.count("mailguard_web_answers", page=page, status=str(status))

    account = partial(_account, plan, shared, authenticator, sign_ins, personal, known, now)
    limit = RateLimit.share(main.web.rate, main.web.burst, now, workers=config.workers)
    return WebApplication(setup, limit, Later(account) if main.web.account else None, count)


def _account(
    plan: Plan,
    shared: Shared,
    authenticator: Authenticator,
    sign_ins: SignIns,
    personal: Personal,
    known: Mapping[str, Provider],
    now: Callable[[], float],
) -> Wsgi:
    """The pages that people look after themselves with."""
    from mailguard.server.web_account import AccountPages, account_application

    sessions = WebSessions(shared.database, authenticator.passwords.stamp, now=now)
    pages = AccountPages(
        Guard(authenticator, sessions, now=now, workers=plan.config.workers),
        known,
        sign_ins,
        personal.vacations,
        personal.forwards,
        ForwardPost(
            personal.forwards,
            Consents(shared.database, now=now),
            personal.queue,
            plan.config.main.hostname,
            personal.new_id,
            shared.log,
            sign=personal.sign,
            now=now,
        ),
        sign=_signer(plan),
        install_id=uuid.UUID(bytes=server_secret(shared.database, "install")[:16], version=4),
        log=shared.log,
    )
    made: Wsgi = account_application(pages)
    return made


class Later:
    """A WSGI application that is made at its first request: Flask weighs 6 MB, and most workers never need it."""

    def __init__(self, make: Callable[[], Wsgi]) -> None:
        self._make = make
        self._made: Wsgi | None = None
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Makes it if need be, and asks it."""
        with self._lock:
            made = self._made = self._made or self._make()
        return made(environ, start_response)


def _signer(plan: Plan) -> Callable[[bytes], bytes]:
    """Signs with the certificate of our host name, as the files are at that moment."""

    def signed(content: bytes) -> bytes:
        from mailguard.protocol.autoconfig.apple import sign

        if plan.tls is None:
            raise ValueError("there is no certificate")
        certificate, key = plan.tls.files_for(plan.config.main.hostname)
        return sign(content, certificate.read_bytes(), key.read_bytes())

    return signed
