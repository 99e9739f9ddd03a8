"""Rewritten senders come back to whom they belong, and nobody else can make them."""

from __future__ import annotations

import pytest

from mailguard.delivery.srs import Srs, SrsError
from mailguard.model.address import Address
from mailguard.testing import FakeClock


def make(clock: FakeClock | None = None, domain: str = "office.test", secret: bytes = b"s") -> Srs:
    return Srs(secret, domain, now=clock or FakeClock())


def test_there_and_back() -> None:
    srs, sender = make(), Address.parse("bob@x.test")
    forwarded = srs.forward(sender)
    assert forwarded and forwarded.domain == "office.test" and forwarded.local.startswith("SRS0=")
    assert forwarded.local.endswith("=x.test=bob")
    assert srs.reverse(forwarded) == sender
    assert srs.reverse(Address(forwarded.local.lower(), forwarded.domain)) == sender


def test_null_and_own_senders_stay() -> None:
    own = Address.parse("a@office.test")
    assert make().forward(None) is None and make().forward(own) == own


def test_a_second_forwarder_points_back_to_the_first() -> None:
    first, second, third = make(domain="one.test"), make(domain="two.test", secret=b"t"), make(domain="three.test")
    one = first.forward(Address.parse("bob@x.test"))
    two = second.forward(one)
    three = third.forward(two)
    assert two and two.local.startswith("SRS1=") and three
    assert second.reverse(two) == one
    assert third.reverse(three) == one
    assert first.reverse(second.reverse(two)) == Address.parse("bob@x.test")


def test_forged_expired_and_foreign_ones_are_refused() -> None:
    clock = FakeClock()
    srs = make(clock)
    good = srs.forward(Address.parse("bob@x.test"))
    assert good
    for bad in (
        Address(good.local.replace("bob", "eve"), good.domain),
        Address(good.local, "x.test"),
        Address("SRS0=AAAA", good.domain),
        Address("bob", good.domain),
    ):
        with pytest.raises(SrsError):
            srs.reverse(bad)
    clock.tick(22 * 86_400)
    with pytest.raises(SrsError, match="expired"):
        srs.reverse(good)


def test_what_would_be_too_long_stays() -> None:
    sender = Address("x" * 60, "x.test")
    assert make().forward(sender) == sender
