"""Account page: the password, app passwords, and who has been signing in."""

from __future__ import annotations

from flask import Flask, request
from werkzeug.wrappers import Response as AnyResponse

from mailguard.auth.apppassword import PROTOCOLS
from mailguard.auth.authenticator import AuthError
from mailguard.auth.password import WeakPasswordError
from mailguard.server.web_account import AccountPages

_APPS, _ACTIVITY = "/account/apps", "/account/activity"
MOST_APPS = 50  # app passwords of one account


def add_routes(app: Flask, pages: AccountPages) -> None:
    """Adds the pages of this module."""
    app.add_url_rule("/account/password", "password", lambda: _password(pages), methods=["GET", "POST"])
    app.add_url_rule(_APPS, "apps", lambda: _apps(pages), methods=["GET", "POST"])
    app.add_url_rule("/account/apps/revoke", "revoke-app", lambda: _revoke_app(pages), methods=["POST"])
    app.add_url_rule(_ACTIVITY, "activity", lambda: _activity(pages))
    app.add_url_rule("/account/activity/end", "end-session", lambda: _end_session(pages), methods=["POST"])


def _password(pages: AccountPages) -> AnyResponse:
    mistakes: dict[str, str] = {}
    if request.method == "POST":
        mistakes = _change_password(pages)
        if not mistakes:
            return pages.done("/account/password", "password")
    return pages.show("password.html", 422 if mistakes else 200, mistakes=mistakes)


def _change_password(pages: AccountPages) -> dict[str, str]:
    guard, account = pages.guard, pages.visit.account
    new = request.form.get("new", "")
    if new != request.form.get("again", ""):
        return {"again": "The two are not the same."}
    try:
        guard.password(str(account.address), request.form.get("current", ""), request.remote_addr or "")
    except AuthError as error:
        return {"current": "That is not your present password." if not error.temporary else f"{error.reason}."}
    try:
        guard.authenticator.passwords.store(account.key, new)
    except WeakPasswordError as error:
        return {"new": f"{error}."}
    guard.authenticator.forget(account.key)
    guard.sessions.keep_only(account.key, pages.visit.session.id)
    return {}


def _apps(pages: AccountPages) -> AnyResponse:
    store, key = pages.guard.authenticator.app_passwords, pages.visit.account.key
    mistakes: dict[str, str] = {}
    made = ""
    name, chosen = request.form.get("name", "").strip(), request.form.getlist("protocol")
    if request.method == "POST":
        wanted = [protocol for protocol in PROTOCOLS if protocol in chosen]
        if not name:
            mistakes["name"] = "Give it a name, so that you know it again."
        elif not wanted:
            mistakes["protocol"] = "Choose at least one."
        elif len(store.list(key)) >= MOST_APPS:
            mistakes["name"] = f"There are {MOST_APPS} already: revoke one first."
        else:
            _, made = store.create(key, name, () if len(wanted) == len(PROTOCOLS) else wanted)
    return pages.show(
        "apps.html",
        422 if mistakes else 200,
        apps=store.list(key),
        made=made,
        name="" if made else name,
        chosen=chosen if mistakes else PROTOCOLS,
        mistakes=mistakes,
    )


def _revoke_app(pages: AccountPages) -> AnyResponse:
    pages.guard.authenticator.app_passwords.revoke(pages.visit.account.key, request.form.get("id", ""))
    return pages.done(_APPS, "revoked")


def _activity(pages: AccountPages) -> AnyResponse:
    key = pages.visit.account.key
    return pages.show("activity.html", lines=pages.sign_ins.list(key), sessions=pages.guard.sessions.list(key))


def _end_session(pages: AccountPages) -> AnyResponse:
    pages.guard.sessions.revoke(pages.visit.account.key, request.form.get("id", ""))
    return pages.done(_ACTIVITY, "ended")
