"""Mail out: from a destination to an open connection, host after host, and one reply for each recipient."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from mailguard.delivery.mtasts import StsPolicy
from mailguard.delivery.mx import mail_hosts
from mailguard.delivery.nexthop import Hop, Routes
from mailguard.delivery.outgoing import ConnectionLostError, Outgoing
from mailguard.delivery.outgoing_tls import ClientContexts, TlsFailedError
from mailguard.delivery.queue_entry import Work
from mailguard.delivery.relay_settings import RelaySettings
from mailguard.delivery.tlspolicy import TlsDecider, TlsPolicy, Wish
from mailguard.model.message import Message
from mailguard.model.reply import MailError, PermanentError, Reply, TransientError
from mailguard.net.dial import DialError, dial
from mailguard.net.resolver import DnsTemporaryError, Resolver, addresses
from mailguard.net.stream import Stream
from mailguard.protocol.smtp.client import Transaction

MAX_HOSTS = 8  # of one domain tried in one attempt
TlsReport = Callable[[str, str, TlsPolicy, str], None]
"""Told ``(domain, host, policy, failure)`` of each attempt at TLS; ``failure`` is ``""`` or from RFC 8460 §4.3."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How one message fared: a reply per recipient, who gave them, the TLS in words.

    ``keeps_dsn`` says that the next hop reports success itself; ``unreached`` that no host could be talked to,
    so that all other mail for the destination would fare the same.
    """

    replies: tuple[Reply, ...]
    host: str = ""
    tls: str = ""
    keeps_dsn: bool = False
    unreached: bool = False
    lost: bool = False
    local: bool = False


@dataclass(frozen=True, slots=True)
class _Key:
    destination: str
    sources: tuple[str, ...]
    wish: Wish


class Relay:
    """Sends mail to next hops and keeps their connections a little while. Safe for threads."""

    def __init__(
        self,
        settings: RelaySettings,
        routes: Routes,
        resolver: Resolver,
        decider: TlsDecider,
        contexts: ClientContexts,
        *,
        hostname: str,
        keep: float = 3.0,
        messages_per_connection: int = 100,
        tls_report: TlsReport = lambda domain, host, policy, failure: None,
    ) -> None:
        self.routes = routes
        self._settings = settings
        self._resolver = resolver
        self._decider = decider
        self._contexts = contexts
        self._name = settings.hello or hostname
        self._keep = keep
        self._most = messages_per_connection
        self._tls_report = tls_report
        self._idle: dict[_Key, list[Outgoing]] = {}
        self._lock = threading.Lock()

    def send(self, work: Work, message: Message) -> Sent:
        """One attempt on all recipients of ``work``; never raises for what a next hop does."""
        envelope = work.message.envelope
        wish = Wish(envelope.require_tls, work.message.tls_optional)
        sender = envelope.mail_from.domain if envelope.mail_from else ""
        key = _Key(work.recipients[0].destination, self.routes.sources(sender), wish)
        transaction = Transaction(envelope, tuple(r.recipient for r in work.recipients), len(message))
        kept = self._take(key)
        if kept is not None:
            try:
                return self._over(kept, key, transaction, message)
            except ConnectionLostError as error:
                kept.close()
                if kept.in_doubt:
                    return _lost(error, kept, len(work.recipients))
                # It died while idle; a new one will do.
        try:
            outgoing = self._open(key)
        except MailError as error:
            # A failed TLS policy may concern this message only (RFC 8689), an absent host concerns all.
            unreached = isinstance(error, TransientError) and not error.reply.status.startswith("4.7.")
            return Sent((error.reply,) * len(work.recipients), unreached=unreached)
        try:
            return self._over(outgoing, key, transaction, message)
        except ConnectionLostError as error:
            outgoing.close()
            return _lost(error, outgoing, len(work.recipients))

    def _over(self, outgoing: Outgoing, key: _Key, transaction: Transaction, message: Message) -> Sent:
        replies = outgoing.send(transaction, message)
        sent = Sent(replies, outgoing.peer, outgoing.tls_text, outgoing.keeps_dsn)
        self._give_back(outgoing, key)
        return sent

    # -- kept connections -------------------------------------------------------------------------------------

    def _take(self, key: _Key) -> Outgoing | None:
        with self._lock:
            kept = self._idle.get(key)
            outgoing = kept.pop() if kept else None
            if kept is not None and not kept:
                del self._idle[key]
        if outgoing and time.monotonic() - outgoing.idle_since > self._keep:
            outgoing.close()
            return None
        return outgoing

    def _give_back(self, outgoing: Outgoing, key: _Key) -> None:
        if not outgoing.usable or outgoing.sent >= self._most or self._keep <= 0:
            outgoing.close()
            return
        with self._lock:
            self._idle.setdefault(key, []).append(outgoing)

    def close_idle(self, *, all_of_them: bool = False) -> None:
        """Closes the connections that were kept for long enough."""
        now = time.monotonic()
        old: list[Outgoing] = []
        with self._lock:
            for key, kept in list(self._idle.items()):
                gone = [o for o in kept if all_of_them or now - o.idle_since > self._keep]
                old += gone
                left = [o for o in kept if o not in gone]
                if left:
                    self._idle[key] = left
                else:
                    del self._idle[key]
        for outgoing in old:
            outgoing.close()

    # -- new ones ---------------------------------------------------------------------------------------------

    def _open(self, key: _Key) -> Outgoing:
        hop = self.routes.hop(key.destination)
        try:
            return self._open_any(hop, key)
        except TransientError:
            last = self.routes.fallback()
            if last is None or not hop.by_mx or key.wish.require:
                raise
            return self._to_host(last, last.host, key, None, authentic=False)

    def _open_any(self, hop: Hop, key: _Key) -> Outgoing:
        if not hop.by_mx:
            return self._to_host(hop, hop.host, key, None, authentic=False)
        found = mail_hosts(self._resolver, hop.host, own_name=self._name, shuffle=random.shuffle)
        sts = self._decider.domain_policy(hop, key.wish)
        failures: list[MailError] = []
        for name in found.names[:MAX_HOSTS]:
            try:
                return self._to_host(hop, name, key, sts, authentic=found.authentic)
            except MailError as error:
                failures.append(error)
        # A host that might answer later outweighs one that never will.
        raise next((f for f in failures if isinstance(f, TransientError)), failures[0])

    def _to_host(self, hop: Hop, host: str, key: _Key, sts: StsPolicy | None, *, authentic: bool) -> Outgoing:
        try:
            policy = self._decider.for_host(hop, host, key.wish, sts, authentic=authentic)
        except TransientError:
            self._report(hop, host, TlsPolicy("verify", "MTA-STS" if sts else "DANE"), "validation-failure")
            raise
        if policy.tried and sts is not None and not sts.allows(host):
            self._report(hop, host, policy, "validation-failure")
            return self._opportunistic(hop, host, key)
        try:
            outgoing = self._connect(hop, host, key, policy)
        except TlsFailedError as error:
            self._report(hop, host, policy, error.kind)
            if policy.must:
                raise
            if policy.tried:
                return self._opportunistic(hop, host, key)
            # Opportunistic: what can be had in the clear is better than nothing (RFC 7435).
            return self._connect(hop, host, key, replace(policy, level="none"))
        if policy.level != "none":
            self._report(hop, host, policy, "" if outgoing.tls_text != "none" else "starttls-not-supported")
        return outgoing

    def _opportunistic(self, hop: Hop, host: str, key: _Key) -> Outgoing:
        policy = TlsPolicy(hop.tls)
        try:
            return self._connect(hop, host, key, policy)
        except TlsFailedError:
            if policy.must:
                raise
            return self._connect(hop, host, key, replace(policy, level="none"))

    def _report(self, hop: Hop, host: str, policy: TlsPolicy, failure: str) -> None:
        if hop.by_mx:  # smarthosts are between us and their operator
            self._tls_report(hop.host, host, policy, failure)

    def _connect(self, hop: Hop, host: str, key: _Key, policy: TlsPolicy) -> Outgoing:
        try:
            sock = dial(self._addresses(host), hop.port, timeout=self._settings.timeout.connect, sources=key.sources)
        except DialError as error:
            raise TransientError(Reply.of(451, "4.4.1", f"no connection to {host}: {error}")) from None
        peer = f"{host}[{sock.getpeername()[0]}]:{hop.port}"
        outgoing = Outgoing(Stream(sock), host, peer, timeouts=self._settings.timeout, contexts=self._contexts)
        outgoing.open(self._name, hop, policy)
        return outgoing

    def _addresses(self, host: str) -> list[str]:
        if host.replace(".", "").isdigit() or ":" in host:
            return [host]
        try:
            found = list(addresses(self._resolver, host, ipv6=self._settings.ipv6))
        except DnsTemporaryError as error:
            raise TransientError(Reply.of(451, "4.4.3", f"DNS gave no answer for {host}"), str(error)) from None
        if not found:
            raise PermanentError(Reply.of(550, "5.4.4", f"the mail server {host} has no address in DNS"))
        return found


def _lost(error: ConnectionLostError, outgoing: Outgoing, count: int) -> Sent:
    return Sent((error.reply,) * count, outgoing.peer, outgoing.tls_text, lost=True)
