"""Everything that mail needs on its way out, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailguard.delivery.attempt import Attempt, LocalHand, Sign
from mailguard.delivery.bounce import Reporter
from mailguard.delivery.mtasts import MAX_POLICY, StsPolicies
from mailguard.delivery.nexthop import Routes
from mailguard.delivery.outgoing_tls import ClientContexts
from mailguard.delivery.queue import Queue
from mailguard.delivery.relay import Relay, TlsReport
from mailguard.delivery.relay_settings import QueueSettings, RelaySettings
from mailguard.delivery.runner import Runner
from mailguard.delivery.settler import Settler
from mailguard.delivery.tlspolicy import TlsDecider
from mailguard.model.event import Event
from mailguard.net.https import Document, fetch
from mailguard.net.resolver import Resolver
from mailguard.state.database import Database


def build_relay(
    relay: RelaySettings,
    queue: QueueSettings,
    *,
    resolver: Resolver,
    database: Database,
    hostname: str,
    tls_report: TlsReport | None = None,
) -> Relay:
    """The relay with its TLS policies. Raises OSError or ssl.SSLError where ``ca_file`` cannot be read."""
    contexts = ClientContexts(relay.ca_file)
    sts = StsPolicies(database, resolver, _fetcher(relay, resolver, contexts)) if relay.mta_sts else None
    return Relay(
        relay,
        Routes(relay),
        resolver,
        TlsDecider(resolver, sts, dane=relay.dane),
        contexts,
        hostname=hostname,
        keep=queue.keep_connection,
        messages_per_connection=queue.messages_per_connection,
        tls_report=tls_report or (lambda domain, host, policy, failure: None),
    )


def _fetcher(relay: RelaySettings, resolver: Resolver, contexts: ClientContexts) -> Callable[[str], Document]:
    def get(domain: str) -> Document:
        return fetch(
            f"mta-sts.{domain}",
            relay.mta_sts_port,
            "/.well-known/mta-sts.txt",
            resolver=resolver,
            context=contexts.checked,
            timeout=relay.timeout.https,
            limit=MAX_POLICY,
        )

    return get


def build_runner(
    queue: Queue,
    relay: Relay,
    settings: QueueSettings,
    *,
    hostname: str,
    emit: Callable[[Event], None],
    log: Any,
    new_id: Callable[[], str],
    local: LocalHand | None = None,
    sign: Sign = lambda message, domain: message,
    beat: Callable[[], None] = lambda: None,
) -> Runner:
    """A runner for one process: build it after the fork, then call ``run``."""
    settler = Settler(queue, emit, log)
    exception = relay.routes.exception
    attempt = Attempt(
        queue,
        relay,
        settler,
        settings,
        Reporter(hostname, settings.bounce_full_up_to),
        exception=exception,
        new_id=new_id,
        log=log,
        local=local,
        sign=sign,
    )
    return Runner(queue, settings, attempt, settler, exception=exception, log=log, beat=beat)
