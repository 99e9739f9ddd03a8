"""What one worker does now and then for the whole server: the certificate, and the daily look at the DNS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mailguard.config.schema import Config
from mailguard.model.address import Address
from mailguard.net.acme import AcmeError
from mailguard.net.resolver import DnsResolver, DnsTemporaryError

if TYPE_CHECKING:
    from mailguard.app.parts import Parts, Shared

_TICK = 5.0  # seconds
_NAMES = 900.0  # seconds between two looks at which names are published
_DAY = 86_400.0
_ALIVE = 120.0  # seconds between two questions whether the DNS answers at all
_FIRST_LOOK = 600.0  # seconds after the start until the DNS is first looked at


class Upkeep:
    """Runs in the elected worker; ``parts`` gives the configuration in force, so that a reload counts at once."""

    def __init__(self, parts: Callable[[], Parts], shared: Shared, now: Callable[[], float] = time.time) -> None:
        self._parts = parts
        self._shared = shared
        self._log: Any = shared.log
        self._now = now
        self._checked: tuple[int, float] = (0, 0.0)
        self._asked = 0.0
        self._dead = False
        self._look_after = now() + _FIRST_LOOK

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``."""
        while not stop.wait(_TICK):
            for duty in (self.ask_dns, self.certificate, self.look_at_dns):
                try:
                    duty()
                except Exception as error:
                    self._log.error("upkeep failed; it goes on", exc_info=error)
                    stop.wait(60)

    def ask_dns(self) -> None:
        """Says so when the DNS is dead, which everything else only suffers from; and when it is back."""
        if self._now() - self._asked < (_ALIVE if not self._dead else _ALIVE / 4):
            return
        self._asked = self._now()
        config = self._parts().plan.config
        settings = config.main.dns
        try:
            DnsResolver(settings.model_copy(update={"cache_size": 0})).query(".", "NS")
        except DnsTemporaryError as error:
            if not self._dead:
                where = ", ".join(settings.nameservers) or "those of /etc/resolv.conf"
                cure = f"see `[dns] nameservers` in {config.path}; mail to others waits, checks find nothing"
                self._log.error("the DNS does not answer", nameservers=where, cure=cure, reason=str(error)[:200])
            self._dead = True
        else:
            if self._dead:
                self._log.info("the DNS answers again")
            self._dead = False

    def certificate(self) -> None:
        """Gets a certificate where one is due; the workers take it in by themselves."""
        parts = self._parts()
        config = parts.plan.config
        if config.issued is None or not self._worth_a_look(config):
            return
        from mailguard.app.certificates import Certificates

        ours = Certificates(config, parts.resolver, self._log, self._now)
        if not ours.may_try():
            return
        why = ours.why_due()
        if not why:
            return
        self._log.info("asking for a certificate", reason=why, ca=config.main.acme.url)
        try:
            names = ours.renew()
        except AcmeError as error:
            wait = round(ours.memory.next_attempt - self._now())
            self._log.error("no certificate from the CA", reason=str(error), next_attempt_in=wait)
            self._checked = (0, 0.0)
            letter = ours.tell()
            if letter is not None:
                self._notify(config, *letter)
        else:
            self._log.info("a new certificate", names=", ".join(names), file=str(ours.path))

    def _worth_a_look(self, config: Config) -> bool:
        """Once in a while, and at once after a reload."""
        key, at = self._checked
        if key == id(config) and self._now() - at < _NAMES:
            return self._now() - at >= 60 and config.issued is not None and not config.issued.exists()
        self._checked = (id(config), self._now())
        return True

    def look_at_dns(self) -> None:
        """Once a day; tells postmaster what has changed."""
        from mailguard.state.kv import KeyValueStore

        config = self._parts().plan.config
        if not config.main.dns_check.daily or self._now() < self._look_after or not config.directory.domains:
            return
        store = KeyValueStore(self._shared.database, "dns_check", self._now)
        self._look_after = self._now() + _FIRST_LOOK
        if self._now() - (store.get("last") or 0.0) < _DAY:
            return
        store.put("last", self._now())
        from mailguard.app.publication import look
        from mailguard.delivery.dnswatch import told, watch

        lines = watch(look(config), store)
        self._log.info("looked at our DNS", changes=sum(not line.startswith(" ") for line in lines))
        if lines:
            self._notify(config, *told(lines, config.main.hostname))

    def _notify(self, config: Config, subject: str, lines: Any) -> None:
        from mailguard.app.parts import new_id
        from mailguard.delivery.notice import Notices

        domain = next(iter(config.directory.domains), "")
        if domain:
            to = Address("postmaster", domain)
            Notices(self._shared.queue, config.main.hostname, to, new_id, self._now).send(subject, lines)
