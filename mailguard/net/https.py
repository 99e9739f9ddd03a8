"""One HTTPS GET: names from our resolver, a checked certificate, no redirects, a deadline, a cap."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
from dataclasses import dataclass

from mailguard.net.dial import dial
from mailguard.net.resolver import Resolver, addresses


class HttpsError(Exception):
    """The document could not be had; the text says why in one line."""


@dataclass(frozen=True, slots=True)
class Document:
    """A 200 answer: its media type without parameters, in lower case, and its octets."""

    media_type: str
    body: bytes


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, port: int, resolver: Resolver, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._resolver = resolver
        self._context = context
        self._seconds = timeout
        self._plain: socket.socket | None = None
        self.is_cut = False

    def cut(self) -> None:
        """Ends the connection from another thread, whatever it waits for."""
        self.is_cut = True
        if self._plain is not None:
            with contextlib.suppress(OSError):
                self._plain.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Closes all there is."""
        self.close()
        if self._plain is not None:
            self._plain.close()

    def connect(self) -> None:
        plain = dial(addresses(self._resolver, self.host), self.port, timeout=self._seconds)
        plain.settimeout(self._seconds)
        try:
            self._plain = socket.socket(fileno=os.dup(plain.fileno()))
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def fetch(
    host: str, port: int, path: str, *, resolver: Resolver, context: ssl.SSLContext, timeout: float, limit: int
) -> Document:
    """GETs ``https://host:port/path``; at most ``limit`` octets. Raises HttpsError, DnsTemporaryError."""
    connection = _Connection(host, port, resolver, context, timeout)
    # However slowly a host drips, at the deadline its connection is gone.
    deadline = threading.Timer(timeout, connection.cut)
    deadline.daemon = True
    deadline.start()
    try:
        connection.request("GET", path, headers={"Accept": "text/plain"})
        response = connection.getresponse()
        if response.status != 200:
            raise HttpsError(f"https://{host}{path} answered {response.status}")
        body = bytearray()
        while block := response.read1(min(8192, limit + 1 - len(body))):
            body += block
            if len(body) > limit:
                raise HttpsError(f"https://{host}{path} is larger than {limit} octets")
        media_type = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        if connection.is_cut:
            raise HttpsError(f"https://{host}{path} took longer than {timeout:g} s")
        return Document(media_type, bytes(body))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HttpsError(f"https://{host}{path}: {error}") from error
    finally:
        deadline.cancel()
        connection.end()
