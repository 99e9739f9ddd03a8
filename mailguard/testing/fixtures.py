"""Fixtures of the pytest plugin: what a check is handed, ready-made."""

from __future__ import annotations

import pytest

from mailguard.model.envelope import Envelope
from mailguard.model.message import Message
from mailguard.model.session import Session
from mailguard.testing.builder import make_envelope, make_message, make_session
from mailguard.testing.fake import FakeClock, FakeResolver, MemoryStore


def pytest_configure(config: pytest.Config) -> None:
    """The marker of tests that start a real program."""
    config.addinivalue_line("markers", "e2e: starts a real server or a real third-party program")


@pytest.fixture
def mail_clock() -> FakeClock:
    """A clock that only the test moves."""
    return FakeClock()


@pytest.fixture
def mail_dns() -> FakeResolver:
    """An empty DNS; ``mail_dns.add("name TYPE", records)`` fills it."""
    return FakeResolver()


@pytest.fixture
def mail_store(mail_clock: FakeClock) -> MemoryStore:
    """A plugin's key-value store, on the test's clock."""
    return MemoryStore(mail_clock)


@pytest.fixture
def mail_session() -> Session:
    """A client at 192.0.2.1 that calls itself mail.example.net."""
    return make_session()


@pytest.fixture
def mail_envelope() -> Envelope:
    """From alice@example.net to bob@example.org."""
    return make_envelope()


@pytest.fixture
def mail_message() -> Message:
    """A short text message from Alice to Bob."""
    return make_message()
