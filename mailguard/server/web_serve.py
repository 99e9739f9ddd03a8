"""HTTP on a listening socket that is open already."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from mailguard.net.tls import TlsContexts


def http_server(
    sock: socket.socket,
    app: Callable[..., Any],
    *,
    tls: TlsContexts | None,
    threads: int,
    log: Any,
    admit: Callable[[str], bool] = lambda ip: True,
    slow: Callable[[str], None] = lambda ip: None,
) -> Any:
    """A cheroot server; call its ``serve`` method (in a thread of its own) after ``prepare``, and ``stop`` to end.

    With ``tls`` it speaks HTTPS, with whichever certificate is loaded when a client comes; ``use_tls`` swaps them all.
    ``admit`` is asked before anything is read from an address, ``slow`` told of one whose request did not come.
    """

    from mailguard.server.web_cheroot import Inherited, Tls

    scheme = "http" if tls is None else "https"

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.url_scheme"] = scheme  # whatever an absolute URI says
        return app(environ, start_response)

    server = Inherited(sock, application, threads=threads, log=log, admit=admit, slow=slow)
    if tls is not None:
        server.ssl_adapter = Tls(tls)
    return server


def use_tls(server: Any, tls: TlsContexts | None) -> None:
    """From the next connection on these certificates are shown, where the server speaks HTTPS at all."""
    if tls is not None and server.ssl_adapter is not None:
        server.ssl_adapter.contexts = tls
