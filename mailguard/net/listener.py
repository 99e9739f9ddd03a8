"""Accepting connections: threads that wait in accept(), caps for each network and in all, and a drain."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailguard.net import proxyproto
from mailguard.net.listening import ListenerSettings
from mailguard.net.settings import LimitSettings
from mailguard.net.stream import Stream
from mailguard.net.tls import TlsContexts

_HANDSHAKE = 30.0  # seconds for a PROXY header and an implicit TLS handshake

_BUSY = {
    "smtp": b"421 4.3.2 too many connections, try again later\r\n",
    "submission": b"421 4.3.2 too many connections, try again later\r\n",
    "lmtp": b"421 4.3.2 too many connections, try again later\r\n",
    "imap": b"* BYE too many connections\r\n",
    "pop3": b"-ERR [SYS/TEMP] too many connections\r\n",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """The two ends of a connection: the client's address (without a zone) and our port; ports are 0, the address
    ``"local"`` on a Unix socket. ``proxied`` says that a proxy told us so. ``id`` names the connection in every log
    line."""

    ip: str
    port: int
    local_port: int
    proxied: bool = False
    id: str = ""


Handler = Callable[[Stream, Peer, ListenerSettings], bool | None]
"""Serves one connection; one that returns True keeps the stream, and closes it by itself later."""


class Census:
    """Open connections of one worker, counted in all and by network."""

    def __init__(self, limits: LimitSettings, exempt: Callable[[str], bool] = lambda ip: False) -> None:
        self.limits = limits
        self.exempt = exempt
        self.open = 0
        self._by_network: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, ip: str) -> str:
        """Counts a connection in; returns ``""``, or which limit stands in its way."""
        network = _network(ip)
        with self._lock:
            if self.open >= self.limits.connections:
                return "connections"
            if self._by_network[network] >= self.limits.per_network and not self.exempt(ip):
                return "per_network"
            self.open += 1
            self._by_network[network] += 1
        return ""

    def leave(self, ip: str) -> None:
        """Counts a connection out."""
        network = _network(ip)
        with self._lock:
            self.open -= 1
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]


class Listener:
    """One listening socket of one worker. ``handler`` may be replaced at any time, for a reload.

    Threads wait in accept(); one that takes a connection while no other waits starts its successor, and ends
    after its connection if enough are waiting. ``handler`` raises nothing but OSError; anything else is logged.
    ``on_refused(peer, settings, limit)`` hears of connections refused for a limit. ``new_id`` makes a connection's id.
    """

    def __init__(
        self,
        sock: socket.socket,
        settings: ListenerSettings,
        handler: Handler,
        *,
        census: Census,
        tls: TlsContexts | None,
        log: Any,
        first_threads: int = 1,
        on_refused: Callable[[Peer, ListenerSettings, str], None] = lambda *_: None,
        new_id: Callable[[], str] = lambda: "",
    ) -> None:
        self.sock = sock
        self.settings = settings
        self.handler = handler
        self.tls = tls
        self.draining = threading.Event()
        self._census = census
        self._log = log
        self._first_threads = first_threads
        self._on_refused = on_refused
        self._new_id = new_id
        self._waiting = 0
        self._streams: set[Stream] = set()
        self._lock = threading.Lock()
        self._port = sock.getsockname()[1] if sock.family != socket.AF_UNIX else 0
        self._proxies = [ipaddress.ip_network(text) for text in settings.proxy_from]

    def start(self) -> None:
        """Starts the first waiting threads."""
        for _ in range(self._first_threads):
            self._spawn()

    def stop_accepting(self) -> None:
        """Ends accept() in every process that shares the socket; for the end of the whole server."""
        self.draining.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def hang_up(self, *, under_way: bool = True) -> None:
        """Lets open connections read their end now, with or without those in the middle of something."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            if under_way or not stream.under_way:
                stream.hang_up()

    @property
    def busy(self) -> int:
        """How many connections of this listener are open."""
        return len(self._streams)

    def _spawn(self) -> None:
        with self._lock:
            self._waiting += 1
        threading.Thread(target=self._work, name=f"{self.settings.kind}-{self.settings.tcp_port}", daemon=True).start()

    def _work(self) -> None:
        while not self.draining.is_set():
            accepted = self._accept()
            if accepted is None:
                return
            with self._lock:
                self._waiting -= 1
                alone = self._waiting == 0
            if alone and not self.draining.is_set():
                self._spawn()
            self._serve(*accepted)
            with self._lock:
                if self._waiting >= self._census.limits.waiting_threads:
                    return
                self._waiting += 1

    def _accept(self) -> tuple[socket.socket, Any] | None:
        while True:
            try:
                return self.sock.accept()
            except OSError as error:
                if self.draining.is_set() or error.errno in (errno.EINVAL, errno.EBADF):
                    return None
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._log.error("cannot accept connections", error=str(error), cure="raise LimitNOFILE")
                    time.sleep(0.1)

    def _serve(self, sock: socket.socket, address: Any) -> None:
        try:
            stream = Stream(sock)
            peer = self._peer(address)
        except OSError:
            sock.close()  # gone before we could look
            return
        kept = False
        try:
            stream.set_deadline(_HANDSHAKE)
            peer = self._behind_proxy(stream, peer)
            if limit := self._census.enter(peer.ip):
                self._refuse(stream, peer, limit)
                return
            stream.on_close = lambda: self._ended(stream, peer)
            kept = self._handle(stream, peer)
        except proxyproto.ProxyError as error:
            self._log.warning("connection refused", **self._named(peer), reason=str(error))
        except OSError as error:
            self._log.debug("connection ended", **self._named(peer), error=str(error))
        except Exception as error:
            self._log.error("a connection failed", **self._named(peer), exc_info=error)
        finally:
            if not kept:
                stream.close()

    def _peer(self, address: Any) -> Peer:
        if not isinstance(address, tuple):
            return Peer("local", 0, 0, id=self._new_id())  # a Unix socket
        return Peer(_plain(address[0]), address[1], self._port, id=self._new_id())

    def _named(self, peer: Peer) -> dict[str, str]:
        return {"kind": self.settings.kind, "peer": peer.ip, "id": peer.id}

    def _handle(self, stream: Stream, peer: Peer) -> bool:
        self._log.debug("connected", kind=self.settings.kind, peer=peer.ip, id=peer.id)
        with self._lock:
            self._streams.add(stream)
        if self.settings.implicit_tls:
            if self.tls is None:
                raise OSError("no certificate is set up")
            try:
                stream.start_tls(self.tls.server_context())
            except (ssl.SSLError, OSError) as error:
                self._log.info("TLS handshake failed", **self._named(peer), error=str(error))
                return False
        stream.set_deadline(None)
        return bool(self.handler(stream, peer, self.settings))

    def _ended(self, stream: Stream, peer: Peer) -> None:
        """The connection is closed, on whichever thread."""
        with self._lock:
            self._streams.discard(stream)
        self._census.leave(peer.ip)

    def _refuse(self, stream: Stream, peer: Peer, limit: str) -> None:
        self._log.warning("connection refused", **self._named(peer), limit=f"limits.{limit}")
        self._on_refused(peer, self.settings, limit)
        if text := _BUSY.get(self.settings.kind):
            stream.write(text)

    def _behind_proxy(self, stream: Stream, peer: Peer) -> Peer:
        if not self._proxies:
            return peer
        if not any(ipaddress.ip_address(peer.ip) in network for network in self._proxies):
            raise proxyproto.ProxyError(f"{peer.ip} is not in `proxy_from` of the {self.settings.kind} listener")
        data = b""
        while (header := proxyproto.parse(data)) is None:
            # Never more than the header, so that what follows stays in the socket for TLS.
            more = _peek(stream, len(data) + 1)
            if not more:
                raise proxyproto.ProxyError("the proxy closed the connection")
            data = more
        stream.sock.recv(header.length)
        if not header.ip:
            return peer
        return Peer(header.ip, header.port, header.local_port, proxied=True, id=peer.id)


def _peek(stream: Stream, at_least: int) -> bytes:
    """What has arrived so far, left in place, once it is more than before."""
    sock = stream.sock
    while True:
        with contextlib.suppress(BlockingIOError):
            data = sock.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            if not data or len(data) >= at_least:
                return data
            time.sleep(0.005)  # poll() would return at once for the part that is already there
            stream.wait_readable()
            continue
        stream.wait_readable()


def _plain(ip: str) -> str:
    """Without a zone, and IPv4 as such where it came in through a dual-stack socket."""
    return ip.partition("%")[0].removeprefix("::ffff:") if "." in ip else ip.partition("%")[0]


def _network(ip: str) -> str:
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ":" in ip else ip
