"""Public test kit, for mailguard and for plugin authors: fake DNS, clock and store, a DNS server, ``run_check``.

Installed with mailguard as a pytest plugin: the fixtures of ``mailguard.testing.fixtures`` are there in any test.
"""

from mailguard.testing.builder import make_envelope, make_message, make_session
from mailguard.testing.dns import DnsServer
from mailguard.testing.fake import FakeClock, FakeResolver, MemoryStore
from mailguard.testing.fixtures import (
    mail_clock,
    mail_dns,
    mail_envelope,
    mail_message,
    mail_session,
    mail_store,
    pytest_configure,
)
from mailguard.testing.harness import Harness, run_check
from mailguard.testing.program import Program, free_port, need

__all__ = [
    "DnsServer",
    "FakeClock",
    "FakeResolver",
    "Harness",
    "MemoryStore",
    "Program",
    "free_port",
    "mail_clock",
    "mail_dns",
    "mail_envelope",
    "mail_message",
    "mail_session",
    "mail_store",
    "make_envelope",
    "make_message",
    "make_session",
    "need",
    "pytest_configure",
    "run_check",
]
