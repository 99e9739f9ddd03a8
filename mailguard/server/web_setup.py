"""What mail clients ask for to set themselves up: answered from the domain alone, never from a user."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mailguard.protocol.autoconfig import mozilla, outlook, pacc
from mailguard.protocol.autoconfig.request import Provider, RequestError, host_domain, parse_address, parse_pox
from mailguard.server.web_answer import EMPTY_404, TEXT, Answer, Asked
from mailguard.server.web_provider import mta_sts_policy
from mailguard.server.web_settings import WebSettings
from mailguard.server.web_template import PAGE, STYLE, page

_HOUR = {"Cache-Control": "max-age=3600"}
_JSON = "/autodiscover/autodiscover.json"
_JSON_ADDRESS = _JSON + "/v1.0/"
_POX = "/autodiscover/autodiscover.xml"
_CHALLENGE = "/.well-known/acme-challenge/"
_HELP = "/help/"


@dataclass(frozen=True)
class SetupPages:
    """The pages and what they need.

    ``troubles`` says what is wrong with the server just now (nothing: it works), ``metrics`` gives Prometheus'
    text, ``challenges`` is the folder of ACME's http-01 answers, one file for each token.
    """

    settings: WebSettings
    hostname: str
    providers: Mapping[str, Provider]
    challenges: Path
    troubles: Callable[[], Sequence[str]] = lambda: ()
    metrics: Callable[[], bytes] | None = None
    account: bool = False
    now: Callable[[], float] = time.time

    @cached_property
    def documents(self) -> Mapping[str, Answer]:
        """Mozilla's document of every domain, made once."""
        return {d: Answer(200, mozilla.config(p), mozilla.CONTENT_TYPE, _HOUR) for d, p in self.providers.items()}

    @cached_property
    def pacc(self) -> Mapping[str, bytes]:
        """The PACC document of every domain, made once: its digest stands in the DNS."""
        return {domain: pacc.configuration(provider) for domain, provider in self.providers.items()}

    @cached_property
    def routes(self) -> Mapping[str, Callable[[Asked], Answer]]:
        """The pages by path; Autodiscover's in lower case, as it comes in any."""
        return {
            "/mail/config-v1.1.xml": self.mozilla,
            "/.well-known/autoconfig/mail/config-v1.1.xml": self.mozilla,
            _POX: self.pox,
            _JSON: self.json,
            "/.well-known/mta-sts.txt": self.mta_sts,
            "/.well-known/user-agent-configuration.json": self.pacc_document,
            "/.well-known/security.txt": self.security,
            "/healthz": self.healthz,
            "/metrics": self.prometheus,
            "/style.css": lambda asked: STYLE,
            "/": self.help,
            "/help": self.help,
        }

    @cached_property
    def folders(self) -> Mapping[str, Callable[[Asked], Answer]]:
        """The pages whose path goes on, by its beginning."""
        return {_JSON_ADDRESS: self.json, _CHALLENGE: self.challenge, _HELP: self.help}

    def find(self, path: str) -> tuple[str, Callable[[Asked], Answer]] | None:
        """The page of a path and its name in metrics; None if there is none."""
        if path[:14].lower() == "/autodiscover/":
            path = path.lower()
        if answer := self.routes.get(path):
            return path, answer
        return next(((start, answer) for start, answer in self.folders.items() if path.startswith(start)), None)

    def provider(self, domain: str) -> Provider | None:
        """Whose provider a domain is; our own host name stands for the domain it lies in, else for the first."""
        if domain == self.hostname and domain not in self.providers:
            above = (name for name in self.providers if domain.endswith("." + name))
            domain = next(above, next(iter(self.providers), ""))
        return self.providers.get(domain)

    def _provider(self, asked: Asked, address: str) -> Provider | None:
        try:
            # An address decides, whatever name it was asked under: hosted domains come by way of their MX.
            domain = parse_address(address).domain if address else host_domain(asked.host)
        except RequestError:
            return None
        return self.providers.get(domain) if address else self.provider(domain)

    def mozilla(self, asked: Asked) -> Answer:
        """Mozilla's autoconfig, with or without an address."""
        provider = self._provider(asked, asked.parameters.get("emailaddress", ""))
        return EMPTY_404 if provider is None else self.documents[provider.domain]

    def pox(self, asked: Asked) -> Answer:
        """Outlook's Autodiscover; in the clear only the way to where it is."""
        if not asked.secure:
            web = next((p.web for p in self.providers.values()), "")
            return Answer(302, headers={"Location": web + _POX}) if web else EMPTY_404
        try:
            request = parse_pox(asked.body() if asked.method == "POST" else b"")
        except RequestError:
            return self._pox_error(outlook.MALFORMED, "Invalid Request")
        provider = self.providers.get(request.address.domain)
        if provider is None:
            return EMPTY_404
        if not request.wants_outlook:
            return self._pox_error(outlook.NO_PROVIDER, "Provider is not available")
        return Answer(200, outlook.settings(provider, request.address.text), outlook.CONTENT_TYPE)

    def _pox_error(self, code: int, message: str) -> Answer:
        at = time.strftime("%H:%M:%S", time.gmtime(self.now())) + ".0000000"
        body = outlook.error(code, message, time=at, number=secrets.randbelow(2**31))
        return Answer(200, body, outlook.CONTENT_TYPE)

    def json(self, asked: Asked) -> Answer:
        """Autodiscover v2."""
        given = asked.parameters
        by_path = asked.path[len(_JSON_ADDRESS) :] if asked.path.lower().startswith(_JSON_ADDRESS) else ""
        provider = self._provider(asked, by_path or given.get("email", ""))
        if provider is None:
            return EMPTY_404
        status, body = outlook.json_answer(given.get("protocol", ""), provider.web)
        return Answer(status, body, "application/json")

    def mta_sts(self, asked: Asked) -> Answer:
        """The MTA-STS policy, under its own name and over HTTPS only (RFC 8461 §3.3)."""
        provider = self.providers.get(host_domain(asked.host))
        if provider is None or not asked.host.lower().startswith("mta-sts.") or not asked.secure:
            return EMPTY_404
        return Answer(200, mta_sts_policy(self.settings, provider.hostname))

    def pacc_document(self, asked: Asked) -> Answer:
        """The PACC document, octet for octet what its digest covers."""
        body = self.pacc.get(host_domain(asked.host)) if self.settings.pacc else None
        return EMPTY_404 if body is None else Answer(200, body, pacc.CONTENT_TYPE, _HOUR)

    def security(self, asked: Asked) -> Answer:
        """Whom to tell of a hole (RFC 9116)."""
        provider = self._provider(asked, "")
        if provider is None:
            return EMPTY_404
        contact = self.settings.contact or f"postmaster@{provider.domain}"
        expires = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(self.now() + 180 * 86_400))
        text = f"Contact: mailto:{contact}\nExpires: {expires}\nPreferred-Languages: en\n"
        return Answer(200, text.encode(), TEXT, _HOUR)

    def challenge(self, asked: Asked) -> Answer:
        """An answer for ACME's http-01."""
        token = asked.path[len(_CHALLENGE) :]
        # A token is base64url (RFC 8555 §8.3): with anything else it could name another file.
        if not token.replace("-", "").replace("_", "").isalnum() or not token.isascii():
            return EMPTY_404
        try:
            return Answer(200, (self.challenges / token).read_bytes(), "application/octet-stream")
        except OSError:
            return EMPTY_404

    def healthz(self, asked: Asked) -> Answer:
        """Whether the server works; what is wrong is told to this machine and to whoever has the token."""
        troubles = self.troubles()
        if not troubles:
            return Answer(200, b"ok\n", headers={"Cache-Control": "no-store"})
        told = "\n".join(troubles) if self._trusted(asked) else "not ready"
        return Answer(503, f"{told}\n".encode(), headers={"Cache-Control": "no-store"})

    def prometheus(self, asked: Asked) -> Answer:
        """The metrics, for this machine or for whoever has the token."""
        if self.metrics is None or not self._trusted(asked):
            return EMPTY_404
        return Answer(200, self.metrics(), "text/plain; version=0.0.4; charset=utf-8")

    def _trusted(self, asked: Asked) -> bool:
        if token := self.settings.metrics_token:
            given = asked.authorization.removeprefix("Bearer ")
            return hmac.compare_digest(given.encode(), token.encode())
        return _local(asked.peer_ip)

    def help(self, asked: Asked) -> Answer:
        """Settings to copy and paste, for people."""
        named = asked.path[len(_HELP) :] if asked.path.startswith(_HELP) else host_domain(asked.host)
        provider = self.provider(named.lower())
        if provider is None:
            return EMPTY_404
        return Answer(200, self._help_page(provider.domain), headers={**PAGE, **_HOUR})

    def _help_page(self, domain: str) -> bytes:
        made = self._helps.get(domain)
        if made is None:
            made = self._helps[domain] = page("help.html", provider=self.providers[domain], account=self.account)
        return made

    @cached_property
    def _helps(self) -> dict[str, bytes]:
        return {}


def _local(peer_ip: str) -> bool:
    try:
        address = ipaddress.ip_address(peer_ip)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
