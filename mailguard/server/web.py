"""The web server's application: set-up pages first and quickly, everything with a sign-in behind them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mailguard.server.web_answer import EMPTY_404, MAX_BODY, Answer, asked
from mailguard.server.web_rate import RateLimit
from mailguard.server.web_setup import SetupPages

MAX_LINE = 4096  # octets of path and query
_FREE = ("/healthz", "/metrics", "/style.css", "/.well-known/acme-challenge/")
_TOO_MANY = Answer(429, headers={"Retry-After": "60"})
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass(frozen=True)
class WebApplication:
    """The WSGI application.

    Methods other than GET, HEAD and POST get 405, unknown paths an empty 404. ``account`` serves paths below
    ``/account`` and ``/setup``; it keeps its own limits. ``count`` is told the page and the status of every answer.
    """

    pages: SetupPages
    limit: RateLimit
    account: Wsgi | None = None
    count: Callable[[str, int], None] = lambda page, status: None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # Some clients send a password unasked: nobody is to see or log it.
        authorization = environ.pop("HTTP_AUTHORIZATION", "")
        peer_ip, secure = self._origin(environ)
        path = environ.get("PATH_INFO", "")
        if self.account is not None and path.startswith(("/account", "/setup/")):
            environ["REMOTE_ADDR"] = peer_ip
            environ["wsgi.url_scheme"] = "https" if secure else "http"
            return self.account(environ, self._counted(start_response))
        token = authorization if path in ("/metrics", "/healthz") else ""
        request = asked(environ, peer_ip=peer_ip, secure=secure, authorization=token)
        found = self.pages.find(request.path)
        name, page = found or ("other", lambda _: EMPTY_404)
        if len(path) + len(request.query) > MAX_LINE:
            answer = Answer(414)
        elif request.method not in ("GET", "HEAD", "POST"):
            answer = Answer(405, headers={"Allow": "GET, HEAD, POST"})
        elif not path.startswith(_FREE) and not self.limit.allow(peer_ip):
            answer = _TOO_MANY
        elif not _fits(environ):
            answer = Answer(413)
        else:
            answer = page(request)
        self.count(name, answer.status)
        return answer.send(start_response, with_body=request.method != "HEAD")

    def _counted(self, start_response: Any) -> Any:
        def start(status: str, headers: Any, *more: Any) -> Any:
            self.count("account", int(status[:3]))
            return start_response(status, headers, *more)

        return start

    def _origin(self, environ: dict[str, Any]) -> tuple[str, bool]:
        """The client's address, and whether it came over TLS: a proxy's word counts where it is one of ours."""
        peer_ip, secure = (
            (environ.get("REMOTE_ADDR") or "").removeprefix("::ffff:"),
            environ.get("wsgi.url_scheme") == "https",
        )
        told = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
        if told and any(_within(peer_ip, network) for network in self.pages.settings.proxies):
            return told, environ.get("HTTP_X_FORWARDED_PROTO", "").strip().lower() == "https"
        return peer_ip, secure


def _fits(environ: dict[str, Any]) -> bool:
    length = environ.get("CONTENT_LENGTH") or "0"
    return length.isdecimal() and int(length) <= MAX_BODY


def _within(peer_ip: str, network: str) -> bool:
    try:
        address = ipaddress.ip_address(peer_ip.partition("%")[0])
    except ValueError:
        return False
    return address in ipaddress.ip_network(network)
