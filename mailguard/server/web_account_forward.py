"""Account page: forwarding, and the page where a forward's recipient agrees to it."""

from __future__ import annotations

from flask import Flask, request
from werkzeug.wrappers import Response as AnyResponse

from mailguard.delivery.forwarding import Forward, ForwardError
from mailguard.server.web_account import AccountPages

_FORWARDING = "/account/forwarding"
_CONSENT = "/setup/forward/"


def add_routes(app: Flask, pages: AccountPages) -> None:
    """Adds the pages of this module."""
    app.add_url_rule(_FORWARDING, "forwarding", lambda: _forwarding(pages), methods=["GET", "POST"])
    app.add_url_rule(f"{_CONSENT}<code>", "consent", lambda code: _consent(pages, code), methods=["GET", "POST"])


def _forwarding(pages: AccountPages) -> AnyResponse:
    account = pages.visit.account
    mistakes: dict[str, str] = {}
    forward = pages.forwards.get(account.key) or Forward()
    shown = "\n".join(map(str, forward.targets))
    keep = forward.keep
    if request.method == "POST":
        action = request.form.get("action")
        if action == "agree":
            return _agree(pages, account.key, request.form.get("code", ""))
        shown, keep = request.form.get("targets", ""), "keep" in request.form
        try:
            wanted = pages.forwards.read(account, () if action == "off" else shown.splitlines(), keep=keep)
            page = pages.provider.web + _CONSENT
            pages.forward_post.set(account, wanted, page=page, peer_ip=request.remote_addr or "")
            return pages.done(_FORWARDING, "forward" if wanted.targets else "unforward")
        except ForwardError as error:
            mistakes["targets"] = f"{error}."
    return _show(pages, forward, shown, mistakes, keep=keep)


def _show(pages: AccountPages, forward: Forward, shown: str, mistakes: dict[str, str], *, keep: bool) -> AnyResponse:
    key = pages.visit.account.key
    consents = pages.forward_post.consents.of(key)
    strangers = [str(t) for t in forward.targets if pages.forwards.needs_consent(t)]
    waiting = [
        (target, consents[target].asked_at if target in consents else 0.0) for target in strangers
        if target not in consents or not consents[target].agreed_at
    ]  # fmt: skip
    return pages.show(
        "forwarding.html",
        422 if mistakes else 200,
        shown=shown,
        keep=keep,
        targets=len(forward.targets),
        waiting=waiting,
        allowed=pages.forwards.allowed,
        mistakes=mistakes,
    )


def _agree(pages: AccountPages, key: str, code: str) -> AnyResponse:
    """Takes a code that the recipient has told the owner."""
    consents = pages.forward_post.consents
    found = consents.find(code)
    if found is None or found.account != key:
        forward = pages.forwards.get(key) or Forward()
        shown = "\n".join(map(str, forward.targets))
        return _show(pages, forward, shown, {"code": "No letter of yours has this code."}, keep=forward.keep)
    consents.answer(code, agreed=True)
    return pages.done(_FORWARDING, "agreed")


def _consent(pages: AccountPages, code: str) -> AnyResponse:
    """For whoever got the letter. Only a press of the button counts: programs that look at mail open every link."""
    consents = pages.forward_post.consents
    found = consents.find(code)
    if found is None:
        text = "A letter holds for thirty days. Ask whoever wants to send you their mail for a new one."
        return pages.show("problem.html", 404, title="This link is not known", text=text)
    if request.method == "POST":
        consents.answer(code, agreed=request.form.get("action") == "yes")
        found = consents.find(code) or found
        pages.log.info("forwarding answered", account=found.account, to=found.target, agreed=bool(found.agreed_at))
    asked = request.method == "GET"
    return pages.show_form("consent.html", consent=found, asked=asked, action=request.path)
