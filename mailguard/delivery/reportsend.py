"""The daily post: reports to domains that ask for them, where ``[reports]`` allows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from mailguard.delivery import dmarcreport, tlsreport
from mailguard.delivery.dmarcrecord import destinations, mailto
from mailguard.delivery.dmarcreport import DmarcReport
from mailguard.delivery.dmarctally import Tally
from mailguard.delivery.queue import Queue
from mailguard.delivery.report_settings import ReportSettings
from mailguard.delivery.reportmail import Parcel, compose
from mailguard.delivery.tlsledger import DAY, TlsLedger
from mailguard.delivery.tlsreport import TlsReport
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.taglist import tags_of
from mailguard.net.resolver import DnsTemporaryError, Resolver
from mailguard.state.kv import KeyValueStore

_LOOK_EVERY = 600.0  # seconds
_SETTLE = 900  # seconds after midnight UTC, until everything of the day is written
_PUBLISHED = ("adkim", "aspf", "p", "sp", "np", "fo", "testing")


class ReportPost:
    """Sends yesterday's reports, each once, however often the server is restarted."""

    def __init__(
        self,
        settings: ReportSettings,
        queue: Queue,
        resolver: Resolver,
        ledger: TlsLedger,
        *,
        domains: frozenset[str],
        sender: Address,
        sign: Callable[[Message, str], Message],
        new_id: Callable[[], str],
        log: Any,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._resolver = resolver
        self._ledger = ledger
        self._domains = domains
        self._sender = sender
        self._sign = sign
        self._new_id = new_id
        self._log = log
        self._now = now
        self._sent = KeyValueStore(queue.database, "mailguard:reports", now)

    def run(self, stop: threading.Event) -> None:
        """Looks every ten minutes whether a day is over."""
        done = -1
        while not stop.wait(_LOOK_EVERY if done >= 0 else 1):
            self._ledger.flush()
            day = int((self._now() - _SETTLE) // DAY) - 1
            if day != done:
                self.send(day)
                done = day

    def send(self, day: int) -> int:
        """Queues the reports on one day (since 1970, UTC) that were not sent yet; returns how many."""
        count = 0
        for parcel, to in self._parcels(day):
            try:
                count += self._post(parcel, to)
            except (OSError, sa.exc.SQLAlchemyError) as error:
                self._log.error("a report could not be queued", domain=parcel.domain, error=str(error))
        self._ledger.prune()
        return count

    def _parcels(self, day: int) -> Iterator[tuple[Parcel, Address]]:
        if self._settings.tls:
            yield from self._about_tls(day)
        if self._settings.dmarc:
            yield from self._about_mail(day)

    def _about_tls(self, day: int) -> Iterator[tuple[Parcel, Address]]:
        for domain, policies in self._ledger.day(day).items():
            ident = f"{day}.{domain}"
            begin, end = day * DAY, (day + 1) * DAY - 1
            report = TlsReport(self._name, str(self._sender), ident, begin, end, policies)
            for to, _ in self._tls_readers(domain):
                yield Parcel("tls", domain, ident, begin, end, tlsreport.build(report)), to

    def _tls_readers(self, domain: str) -> Iterator[tuple[Address, int]]:
        try:
            texts = self._resolver.query(f"_smtp._tls.{domain}", "TXT").records
        except DnsTemporaryError:
            return
        found = [tags for text in texts if (tags := tags_of(text, "TLSRPTv1")) is not None]
        if len(found) == 1:  # several are none (RFC 8460 §3)
            yield from filter(None, map(mailto, found[0].get("rua", "").split(",")))

    def _about_mail(self, day: int) -> Iterator[tuple[Parcel, Address]]:
        begin, end = day * DAY, (day + 1) * DAY
        tally = Tally(self._resolver, self._domains)
        for domain, (record, rows) in tally.day(self._queue.database, begin, end).items():
            ident = f"{day}.{domain}"
            policy = tuple((name, record.tags[name]) for name in _PUBLISHED if name in record.tags)
            report = DmarcReport(self._name, str(self._sender), ident, begin, end - 1, domain, policy, rows)
            data = dmarcreport.build(report)
            try:
                for to, limit in destinations(self._resolver, record):
                    if not limit or len(data) <= limit:
                        yield Parcel("dmarc", domain, ident, begin, end - 1, data), to
            except DnsTemporaryError as error:
                self._log.warning("no DMARC report today", domain=domain, reason=str(error))

    @property
    def _name(self) -> str:
        return self._settings.organisation or self._sender.domain

    def _post(self, parcel: Parcel, to: Address) -> bool:
        mark = f"{parcel.kind}:{parcel.report_id}:{to.key}"[:500]
        if self._sent.get(mark):
            return False
        ident = self._new_id()
        message = compose(
            parcel,
            submitter=self._sender.domain,
            sender=str(self._sender),
            to=str(to),
            ident=ident,
            now=self._now(),
        )
        envelope = Envelope(id=ident, mail_from=self._sender)
        # A report that cannot be delivered is nobody's concern.
        reader = Recipient(to, frozenset({"NEVER"}))
        self._queue.put(envelope, self._sign(message, self._sender.domain), [reader])
        self._sent.put(mark, True, ttl=4 * DAY)
        self._log.info("report queued", kind=parcel.kind, about=parcel.domain, to=str(to))
        return True
