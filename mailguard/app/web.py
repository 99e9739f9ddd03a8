"""The web server's pages of one worker, put together; imported only where there is a listener for them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailguard.auth.authenticator import Authenticator
from mailguard.auth.signin import SignIns
from mailguard.auth.websession import WebSessions
from mailguard.delivery.personal import Personal
from mailguard.protocol.autoconfig.apple import sign
from mailguard.server.web import WebApplication
from mailguard.server.web_account import AccountPages, account_application
from mailguard.server.web_guard import Guard
from mailguard.server.web_rate import RateLimit
from mailguard.server.web_settings import providers
from mailguard.server.web_setup import SetupPages
from mailguard.state.credential import server_secret

if TYPE_CHECKING:
    from mailguard.app.parts import Plan, Shared


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

    account = None
    if main.web.account:
        sessions = WebSessions(shared.database, authenticator.passwords.stamp, now=now)
        pages = AccountPages(
            Guard(authenticator, sessions, now=now),
            known,
            sign_ins,
            personal.vacations,
            personal.forwards,
            sign=_signer(plan),
            install_id=uuid.UUID(bytes=server_secret(shared.database, "install")[:16], version=4),
            log=shared.log,
        )
        account = account_application(pages)
    return WebApplication(setup, RateLimit(main.web.rate, main.web.burst, now), account, count)


def _signer(plan: Plan) -> Callable[[bytes], bytes]:
    """Signs with the certificate of our host name, as the files are at that moment."""

    def signed(content: bytes) -> bytes:
        if plan.tls is None:
            raise ValueError("there is no certificate")
        certificate, key = plan.tls.files_for(plan.config.main.hostname)
        return sign(content, certificate.read_bytes(), key.read_bytes())

    return signed
