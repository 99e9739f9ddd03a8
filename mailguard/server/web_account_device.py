"""Account page: how to set up each device, with a profile for Apple's and a QR code that leads to it."""

from __future__ import annotations

import io

import segno
from flask import Flask, Response, request
from werkzeug.wrappers import Response as AnyResponse

from mailguard.protocol.autoconfig import apple
from mailguard.protocol.autoconfig.request import RequestError
from mailguard.server.web_account import AccountPages

_DEVICES = "/account/devices"


def add_routes(app: Flask, pages: AccountPages) -> None:
    """Adds the pages of this module."""
    app.add_url_rule("/account", "home", lambda: pages.show("home.html", name=pages.visit.account.name))
    app.add_url_rule(_DEVICES, "devices", lambda: _devices(pages), methods=["GET", "POST"])
    app.add_url_rule("/setup/apple/<name>", "profile", lambda name: _profile(pages, name), methods=["GET"])


def _devices(pages: AccountPages) -> AnyResponse:
    link, code = "", ""
    if request.method == "POST":
        token = pages.guard.sessions.make_link(pages.visit.account.key)
        path = f"/setup/apple/{token}.mobileconfig"
        link, code = path, _qr_code(pages.provider.web + path)
    return pages.show("devices.html", provider=pages.provider, link=link, code=code)


def _qr_code(text: str) -> str:
    """The picture as a ``data:`` URI."""
    out = io.BytesIO()
    segno.make(text, error="m").save(out, kind="svg", scale=5, border=2, light="#fff", xmldecl=False)
    return "data:image/svg+xml;base64," + _base64(out.getvalue())


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def _profile(pages: AccountPages, name: str) -> AnyResponse:
    """The profile behind a link that works once. HEAD does not use it up."""
    if request.method == "HEAD":
        return Response("", 200, {"Content-Type": apple.CONTENT_TYPE, "Cache-Control": "no-store"})
    key = pages.guard.sessions.use_link(name.removesuffix(".mobileconfig"))
    account = pages.guard.authenticator.directory.accounts.get(key or "")
    provider = pages.providers.get(account.address.domain) if account else None
    if account is None or account.disabled or provider is None:
        text = "It works once, for a quarter of an hour. Make a new one on the page “Set up devices”."
        return pages.show("problem.html", 404, title="This link is used up", text=text)
    try:
        body = apple.profile(provider, str(account.address), pages.install_id, label=account.name)
    except RequestError as error:
        return pages.show("problem.html", 404, title="There is no profile", text=f"{error}.")
    try:
        body = pages.sign(body)
    except (OSError, ValueError) as error:
        pages.log.warning("a profile was handed out unsigned", reason=str(error), cure="see [tls] in mailguard.toml")
    headers = {
        "Content-Type": apple.CONTENT_TYPE,
        "Content-Disposition": f'attachment; filename="{provider.domain.replace(".", "-")}.mobileconfig"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(body, 200, headers)
