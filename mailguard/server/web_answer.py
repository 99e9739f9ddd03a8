"""A request and its answer as the set-up pages see them: small enough to serve a thousand a second."""

from __future__ import annotations

import http
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

TEXT = "text/plain; charset=utf-8"
MAX_BODY = 8_192  # octets of a set-up request
_PARAMETERS = 20  # of a query, at most
_SAFE = {"X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. ``host`` is the Host field as sent, ``body`` reads what was posted."""

    method: str
    path: str
    query: str
    host: str
    secure: bool
    peer_ip: str
    authorization: str = ""
    body: Callable[[], bytes] = lambda: b""

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query's parameters, names in lower case; of several with one name the first."""
        try:
            pairs = parse_qsl(self.query, keep_blank_values=True, max_num_fields=_PARAMETERS)
        except ValueError:
            return {}
        return {name.lower(): value for name, value in reversed(pairs)}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; ``headers`` come on top of what every answer has."""

    status: int = 200
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, start_response: Callable[..., Any], *, with_body: bool = True) -> Iterable[bytes]:
        """Gives it to a WSGI server."""
        fields = {"Content-Type": self.content_type, "Content-Length": str(len(self.body)), **_SAFE, **self.headers}
        start_response(_LINES[self.status], list(fields.items()))
        return (self.body,) if with_body else ()


_LINES = {status.value: f"{status.value} {status.phrase}" for status in http.HTTPStatus}
EMPTY_404 = Answer(404)


def asked(environ: Mapping[str, Any], *, peer_ip: str, secure: bool, authorization: str) -> Asked:
    """The request of a WSGI environment."""
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")

    def body() -> bytes:
        chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        length = MAX_BODY if chunked else int(environ.get("CONTENT_LENGTH") or 0)
        read: bytes = environ["wsgi.input"].read(length)
        return read

    return Asked(
        environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), environ.get("HTTP_HOST", ""), secure,
        peer_ip, authorization, body,
    )  # fmt: skip
