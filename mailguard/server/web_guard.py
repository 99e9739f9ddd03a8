"""Who is asking: the cookie of a session, forms that only our own pages can send, and how often one may try."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator, AuthError
from mailguard.auth.websession import WebSession, WebSessions
from mailguard.server.web_rate import RateLimit

if TYPE_CHECKING:
    from flask import Request, Response

SESSION_COOKIE = "__Host-mailguard"
FORM_COOKIE = "__Host-mailguard-form"
_SLEEPERS = 2  # refusals held back at the same time: the other threads go on answering


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is signed in."""

    account: Account
    session: WebSession


@dataclass(frozen=True)
class Guard:
    """Lets people in and keeps strangers' forms out."""

    authenticator: Authenticator
    sessions: WebSessions
    pause: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time
    workers: int = 1
    limit: RateLimit = field(init=False)
    tries: RateLimit = field(init=False)
    _sleepers: threading.BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "limit", RateLimit.share(120, 240, self.now, workers=self.workers)
        )  # pages, for each network
        object.__setattr__(self, "tries", RateLimit.share(15, 15, self.now, workers=self.workers, least=5))  # sign-ins
        object.__setattr__(self, "_sleepers", threading.BoundedSemaphore(_SLEEPERS))

    def visit(self, request: Request) -> Visit | None:
        """Who is signed in with this request's cookie, if anybody."""
        token = request.cookies.get(SESSION_COOKIE, "")
        session = self.sessions.find(token) if token else None
        account = self.authenticator.directory.accounts.get(session.account) if session else None
        if session is None or account is None or account.disabled or account.shared:
            return None
        return Visit(account, session)

    def password(self, user: str, password: str, peer_ip: str) -> Account:
        """The account of a name and its own password (no app password). Raises AuthError."""
        if not self.tries.allow(peer_ip):
            raise AuthError("too many attempts; wait a minute and try again", temporary=True)
        try:
            return self.authenticator.password(user, password, protocol="web", peer_ip=peer_ip)
        except AuthError as error:
            if error.delay and self._sleepers.acquire(blocking=False):
                try:
                    self.pause(error.delay)
                finally:
                    self._sleepers.release()
            raise

    def sign_in(self, account: Account, request: Request, response: Response) -> None:
        """Gives the browser a new session."""
        agent = request.user_agent.string
        token = self.sessions.create(account.key, peer_ip=request.remote_addr or "", agent=agent)
        set_cookie(response, SESSION_COOKIE, token)
        response.delete_cookie(FORM_COOKIE, secure=True)

    def genuine(self, request: Request, visit: Visit | None) -> bool:
        """Whether a form was sent from a page of ours (RFC 6454's Origin, Sec-Fetch-Site, and the token in it)."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"{request.scheme}://{request.host}":
            return False
        wanted = visit.session.form_token if visit else request.cookies.get(FORM_COOKIE, "")
        given = request.form.get("form_token", "")
        return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())


def new_form_token() -> str:
    """A token for a form of somebody who is not signed in: the same goes into a cookie and into the form."""
    return secrets.token_urlsafe(24)


def set_cookie(response: Response, name: str, value: str) -> None:
    """A cookie that no script and no other host sees, gone when the browser is closed."""
    response.set_cookie(name, value, secure=True, httponly=True, samesite="Lax", path="/")
