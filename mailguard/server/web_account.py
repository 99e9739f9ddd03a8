"""The account page: a Flask application for whoever has a mailbox; server-rendered, no script."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, g, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from mailguard.auth.authenticator import AuthError
from mailguard.auth.signin import SignIns
from mailguard.delivery.forwarding import Forwards
from mailguard.delivery.forwardpost import ForwardPost
from mailguard.delivery.vacation import Vacations
from mailguard.protocol.autoconfig.request import Provider
from mailguard.server.web_guard import FORM_COOKIE, SESSION_COOKIE, Guard, Visit, new_form_token, set_cookie
from mailguard.server.web_stream import MAX_BODY
from mailguard.server.web_template import PAGE, page

_ACCOUNT = "/account"
_OPEN = ("/account/sign-in", "/setup/")
_PRIVATE = {**PAGE, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
NOTICES = {
    "out": "You are signed out.",
    "password": "Your new password holds from now on, on every device. Other browsers were signed out.",
    "revoked": "That app password does not work any more.",
    "ended": "That browser is signed out.",
    "away": "Saved.",
    "back": "Your out-of-office reply is off.",
    "forward": "Your forwarding is set.",
    "agreed": "That address has agreed.",
    "unforward": "Nothing is forwarded any more.",
}


@dataclass(frozen=True)
class AccountPages:
    """What the pages work with. ``sign`` signs an Apple profile; ``install_id`` tells this installation apart."""

    guard: Guard
    providers: Mapping[str, Provider]
    sign_ins: SignIns
    vacations: Vacations
    forwards: Forwards
    forward_post: ForwardPost
    sign: Callable[[bytes], bytes]
    install_id: uuid.UUID
    log: Any

    @property
    def visit(self) -> Visit:
        """Who is signed in; there is somebody on every page but the first."""
        visit: Visit = g.visit
        return visit

    @property
    def provider(self) -> Provider:
        """The provider of whoever is signed in."""
        return self.providers[self.visit.account.address.domain]

    def show(self, template: str, status: int = 200, /, **values: Any) -> Response:
        """A page, with who it is for and what has just been done."""
        visit: Visit | None = g.get("visit")
        notice = NOTICES.get(request.args.get("done", ""), "")
        token = visit.session.form_token if visit else ""
        values = {"visit": visit, "notice": notice, "form_token": token, "path": request.path, "mistakes": {}} | values
        return Response(page(template, **values), status, _PRIVATE)

    def show_form(self, template: str, status: int = 200, /, **values: Any) -> Response:
        """A page with a form that somebody may fill in who is not signed in."""
        if g.visit is not None:
            return self.show(template, status, **values)
        token = request.cookies.get(FORM_COOKIE) or new_form_token()
        response = self.show(template, status, **{"form_token": token} | values)
        set_cookie(response, FORM_COOKIE, token)
        return response

    def done(self, path: str, what: str) -> AnyResponse:
        """To another page, with a notice; a reload of that does nothing twice."""
        return redirect(f"{path}?done={what}", 303)


def account_application(pages: AccountPages) -> Flask:
    """The WSGI application, for paths below ``/account`` and ``/setup``."""
    from mailguard.server import web_account_device, web_account_forward, web_account_mail, web_account_security

    app = Flask("mailguard", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.url_map.strict_slashes = False
    app.before_request(lambda: _admit(pages))
    app.add_url_rule("/account/sign-in", "sign-in", lambda: _sign_in(pages), methods=["GET", "POST"])
    app.add_url_rule("/account/sign-out", "sign-out", lambda: _sign_out(pages), methods=["POST"])
    for module in (web_account_device, web_account_security, web_account_mail, web_account_forward):
        module.add_routes(app, pages)
    app.register_error_handler(Exception, lambda error: _failed(pages, error))
    return app


def _admit(pages: AccountPages) -> AnyResponse | None:
    g.visit = None
    if not pages.guard.limit.allow(request.remote_addr or ""):
        return Response("", 429, {"Retry-After": "60"})
    if not request.is_secure:
        web = next((p.web for p in pages.providers.values()), "")
        return redirect(web + _ACCOUNT, 301) if request.method == "GET" and web else Response("", 403)
    g.visit = pages.guard.visit(request)
    if request.method == "POST" and not pages.guard.genuine(request, g.visit):
        return pages.show("problem.html", 403, title="That form was too old", text="Nothing was changed. Try again.")
    if g.visit is None and not request.path.startswith(_OPEN):
        return redirect("/account/sign-in", 303)
    return None


def _sign_in(pages: AccountPages) -> AnyResponse:
    if g.visit is not None:
        return redirect(_ACCOUNT, 303)
    user, mistake = "", ""
    if request.method == "POST":
        user = request.form.get("user", "").strip()
        try:
            account = pages.guard.password(user, request.form.get("password", ""), request.remote_addr or "")
        except AuthError as error:
            mistake = error.reason
        else:
            response = redirect(_ACCOUNT, 303)
            pages.guard.sign_in(account, request, response)  # type: ignore[arg-type]
            return response
    return pages.show_form("sign-in.html", 422 if mistake else 200, user=user, mistake=mistake)


def _sign_out(pages: AccountPages) -> AnyResponse:
    pages.guard.sessions.revoke(pages.visit.account.key, pages.visit.session.id)
    response = pages.done("/account/sign-in", "out")
    response.delete_cookie(SESSION_COOKIE, secure=True, httponly=True)
    return response


def _failed(pages: AccountPages, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        texts = {404: "There is no such page", 413: "That is too long", 405: "That cannot be done here"}
        return pages.show("problem.html", error.code or 500, title=texts.get(error.code or 0, "That failed"), text="")
    pages.log.error("the account page failed", path=request.path, exc_info=error)
    busy = isinstance(error, (sa.exc.SQLAlchemyError, AuthError, OSError))
    text = "The server cannot do that just now; try again in a moment." if busy else "The fault is logged."
    return pages.show("problem.html", 503 if busy else 500, title="That failed", text=text)
