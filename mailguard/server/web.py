"""The set-up pages: a Flask application that answers for configured domains only and never looks a user up."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailguard.protocol.autoconfig import mozilla, outlook, pacc
from mailguard.protocol.autoconfig.request import Provider, RequestError, host_domain, parse_address, parse_pox
from mailguard.server.web_help import help_page
from mailguard.server.web_rate import RateLimit
from mailguard.server.web_settings import WebSettings, mta_sts_policy

if TYPE_CHECKING:  # Flask is not loaded before a listener wants it
    from flask import Flask, Request, Response

MAX_BODY = 8192
_HOUR = {"Cache-Control": "max-age=3600"}
_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
_HTML = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _CSP, "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True)
class WebPages:
    """What the pages need. ``healthy`` says whether the server works, ``metrics`` gives Prometheus' text,
    ``challenges`` is the folder of ACME's http-01 answers, one file for each token."""

    settings: WebSettings
    hostname: str
    providers: Mapping[str, Provider]
    challenges: Path
    healthy: Callable[[], bool] = lambda: True
    metrics: Callable[[], bytes] | None = None
    now: Callable[[], float] = time.time

    @cached_property
    def limit(self) -> RateLimit:
        """How often one network may ask."""
        return RateLimit(self.settings.rate, self.settings.burst, self.now)

    @cached_property
    def documents(self) -> Mapping[str, bytes]:
        """Mozilla's document of every domain, made once."""
        return {domain: mozilla.config(provider) for domain, provider in self.providers.items()}

    @cached_property
    def pacc(self) -> Mapping[str, bytes]:
        """The PACC document of every domain, made once: its digest stands in the DNS."""
        return {domain: pacc.configuration(provider) for domain, provider in self.providers.items()}

    def provider(self, domain: str) -> Provider | None:
        """Whose provider a domain is; our own host name stands for the domain it lies in, else for the first."""
        if domain == self.hostname and domain not in self.providers:
            above = (name for name in self.providers if domain.endswith("." + name))
            domain = next(above, next(iter(self.providers), ""))
        return self.providers.get(domain)


def application(pages: WebPages) -> Flask:
    """The WSGI application. Methods other than GET, HEAD and POST get 405, unknown paths an empty 404."""
    from flask import Flask, request

    app = Flask("mailguard", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    answers = _Answers(pages, app.response_class)
    for path in ("/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml"):
        app.add_url_rule(path, path, lambda: answers.mozilla(request))
    app.add_url_rule("/autodiscover/autodiscover.xml", "pox", lambda: answers.pox(request), methods=["GET", "POST"])
    app.add_url_rule("/autodiscover/autodiscover.json", "json", lambda: answers.json(request))
    app.add_url_rule("/autodiscover/autodiscover.json/v1.0/<address>", "json1", lambda address: answers.json(request))
    app.add_url_rule("/.well-known/mta-sts.txt", "mta-sts", lambda: answers.mta_sts(request))
    app.add_url_rule("/.well-known/user-agent-configuration.json", "pacc", lambda: answers.pacc(request))
    app.add_url_rule("/.well-known/security.txt", "security", lambda: answers.security(request))
    app.add_url_rule("/.well-known/acme-challenge/<token>", "acme", lambda token: answers.challenge(token))
    app.add_url_rule("/healthz", "healthz", answers.healthz)
    app.add_url_rule("/metrics", "metrics", lambda: answers.metrics(request))
    app.add_url_rule("/", "root", lambda: answers.help(request, host_domain(request.host)))
    app.add_url_rule("/help/<domain>", "help", lambda domain: answers.help(request, domain))
    for code in (404, 405, 413, 500):
        app.register_error_handler(code, lambda error, code=code: answers.empty(code))

    @app.before_request
    def _limited() -> Response | None:
        free = request.path in ("/healthz", "/metrics") or request.path.startswith("/.well-known/acme-challenge/")
        if free or pages.limit.allow(request.remote_addr or ""):
            return None
        return answers.empty(429, {"Retry-After": "60"})

    app.wsgi_app = _AnyCase(app.wsgi_app)  # type: ignore[method-assign]
    return app


@dataclass(frozen=True)
class _AnyCase:
    """Takes Autodiscover's path in any case, as Outlook writes it."""

    app: Callable[..., Any]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ.get("PATH_INFO", "")
        if path[:14].lower() == "/autodiscover/":
            environ["PATH_INFO"] = path.lower()
        if path != "/metrics":
            environ.pop("HTTP_AUTHORIZATION", None)  # sent unasked by some clients: seen and logged by nobody
        return self.app(environ, start_response)


@dataclass(frozen=True)
class _Answers:
    pages: WebPages
    response: type[Response]
    headers: Mapping[str, str] = field(default_factory=lambda: {"X-Content-Type-Options": "nosniff"})

    def reply(self, body: bytes, content_type: str, more: Mapping[str, str] = {}, status: int = 200) -> Response:
        return self.response(body, status, {"Content-Type": content_type, **self.headers, **more})

    def empty(self, status: int, more: Mapping[str, str] = {}) -> Response:
        return self.reply(b"", "text/plain; charset=utf-8", more, status)

    def _provider(self, request: Request, address: str) -> Provider | None:
        try:
            domain = parse_address(address).domain if address else host_domain(request.host)
        except RequestError:
            return None
        return self.pages.providers.get(domain) if address else self.pages.provider(domain)

    def mozilla(self, request: Request) -> Response:
        provider = self._provider(request, request.args.get("emailaddress", ""))
        if provider is None:
            return self.empty(404)
        return self.reply(self.pages.documents[provider.domain], mozilla.CONTENT_TYPE, _HOUR)

    def pox(self, request: Request) -> Response:
        if not request.is_secure:
            web = next((p.web for p in self.pages.providers.values()), "")
            return self.empty(302, {"Location": f"{web}/autodiscover/autodiscover.xml"}) if web else self.empty(404)
        try:
            asked = parse_pox(request.get_data() if request.method == "POST" else b"")
        except RequestError:
            return self._pox_error(outlook.MALFORMED, "Invalid Request")
        provider = self.pages.providers.get(asked.address.domain)
        if provider is None:
            return self.empty(404)
        if not asked.wants_outlook:
            return self._pox_error(outlook.NO_PROVIDER, "Provider is not available")
        return self.reply(outlook.settings(provider, asked.address.text), outlook.CONTENT_TYPE)

    def _pox_error(self, code: int, message: str) -> Response:
        at = time.strftime("%H:%M:%S", time.gmtime(self.pages.now())) + ".0000000"
        body = outlook.error(code, message, time=at, number=secrets.randbelow(2**31))
        return self.reply(body, outlook.CONTENT_TYPE)

    def json(self, request: Request) -> Response:
        given = {name.lower(): value for name, value in request.args.items()}
        address = (request.view_args or {}).get("address") or given.get("email", "")
        provider = self._provider(request, address)
        if provider is None:
            return self.empty(404)
        status, body = outlook.json_answer(given.get("protocol", ""), provider.web)
        return self.reply(body, "application/json", status=status)

    def mta_sts(self, request: Request) -> Response:
        provider = self.pages.providers.get(host_domain(request.host))
        if provider is None or not request.host.lower().startswith("mta-sts.") or not request.is_secure:
            return self.empty(404)
        body = mta_sts_policy(self.pages.settings, provider.hostname)
        return self.reply(body, "text/plain; charset=utf-8")

    def pacc(self, request: Request) -> Response:
        body = self.pages.pacc.get(host_domain(request.host)) if self.pages.settings.pacc else None
        return self.empty(404) if body is None else self.reply(body, pacc.CONTENT_TYPE, _HOUR)

    def security(self, request: Request) -> Response:
        provider = self._provider(request, "")
        if provider is None:
            return self.empty(404)
        contact = self.pages.settings.contact or f"postmaster@{provider.domain}"
        expires = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(self.pages.now() + 180 * 86_400))
        text = f"Contact: mailto:{contact}\nExpires: {expires}\nPreferred-Languages: en\n"
        return self.reply(text.encode(), "text/plain; charset=utf-8", _HOUR)

    def challenge(self, token: str) -> Response:
        # A token is base64url (RFC 8555 §8.3): with anything else it could name another file.
        if not token.replace("-", "").replace("_", "").isalnum() or not token.isascii():
            return self.empty(404)
        try:
            body = (self.pages.challenges / token).read_bytes()
        except OSError:
            return self.empty(404)
        return self.reply(body, "application/octet-stream")

    def healthz(self) -> Response:
        ok = self.pages.healthy()
        return self.reply(b"ok\n" if ok else b"not ready\n", "text/plain; charset=utf-8", status=200 if ok else 503)

    def metrics(self, request: Request) -> Response:
        token = self.pages.settings.metrics_token
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        allowed = hmac.compare_digest(given, token.encode()) if token else _local(request.remote_addr)
        if not allowed or self.pages.metrics is None:
            return self.empty(404)
        return self.reply(self.pages.metrics(), "text/plain; version=0.0.4; charset=utf-8")

    def help(self, request: Request, domain: str) -> Response:
        provider = self.pages.provider(domain.lower())
        if provider is None:
            return self.empty(404)
        return self.reply(help_page(provider).encode(), _HTML["Content-Type"], {**_HTML, **_HOUR})


def _local(peer_ip: str | None) -> bool:
    try:
        address = ipaddress.ip_address(peer_ip or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
