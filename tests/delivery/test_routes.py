"""Ways out that the configuration names: by sender and recipient, from which address, and the last resort."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from mailguard.delivery.nexthop import Routes
from mailguard.delivery.relay_settings import RelaySettings
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope
from mailguard.model.event import Bounced, Delivered

ROUTES = (
    {"recipient": "direct.test"},
    {"recipient": ".inside.test", "host": "10.0.0.9", "port": 25, "tls": "none"},
    {"sender": "shop.test", "host": "smart.test", "user": "shop", "password": "secret"},
    {"sender": "*", "recipient": "far.test", "host": "far-gate.test", "port": 465},
)


@pytest.mark.parametrize(
    ("sender", "recipient", "destination"),
    [
        ("a@shop.test", "u@direct.test", "direct.test"),
        ("a@shop.test", "u@deep.inside.test", "[10.0.0.9]:25"),
        ("a@shop.test", "u@inside.test", "[smart.test]:587 as shop"),
        ("a@office.test", "u@far.test", "[far-gate.test]:465"),
        ("a@office.test", "u@else.test", "else.test"),
        ("", "u@far.test", "[far-gate.test]:465"),
    ],
)
def test_the_first_route_that_fits_decides(sender: str, recipient: str, destination: str) -> None:
    routes = Routes(RelaySettings.model_validate({"route": ROUTES}))
    envelope = Envelope("m1", Address.parse(sender) if sender else None)
    assert routes.destination(envelope, Address.parse(recipient)) == destination
    hop = routes.hop(destination)
    assert hop.by_mx == (not destination.startswith("[")) and hop.implicit_tls == destination.endswith(":465")
    assert (hop.user, hop.password) == (("shop", "secret") if "shop" in destination else ("", ""))


def through_mx(house: Any, port: int) -> None:
    house.dns.add("x.test MX", "10 mx.x.test")
    house.dns.add("mx.x.test A", "127.0.0.1")
    house.relay |= {"port": port, "ipv6": False}


@pytest.mark.parametrize("greeting", ["", "421 4.3.2 too busy"])
def test_the_last_resort_takes_what_no_mx_does(house: Any, peers: Any, greeting: str) -> None:
    first, last = peers(answers={"greeting": greeting}), peers()
    if not greeting:
        first.close()  # nobody at that port
    through_mx(house, first.port)
    house.relay["fallback"] = {"host": "127.0.0.1", "port": last.port}
    house.put("u@x.test")
    house.start()
    (delivered,) = house.events.wait(Delivered)
    assert delivered.where == f"127.0.0.1[127.0.0.1]:{last.port}" and len(last.messages) == 1


def test_the_last_resort_is_not_for_what_must_have_tls(house: Any, peers: Any) -> None:
    last = peers()
    through_mx(house, peers().port)
    house.relay["fallback"] = {"host": "127.0.0.1", "port": last.port}
    house.put("u@x.test", require_tls=True)
    house.start()
    (bounced,) = house.events.wait(Bounced)
    assert bounced.reply.status == "5.7.30" and last.messages == []


def test_each_senders_domain_may_have_its_own_address(house: Any, peers: Any) -> None:
    seen: list[str] = []

    def handler(talk: Any) -> None:
        sock: socket.socket = talk.sock
        seen.append(sock.getpeername()[0])
        talk.peer.serve(talk)

    through_mx(house, peers(handler=handler).port)
    house.relay["source"] = {"office.test": ("127.0.0.7",), "*": ("127.0.0.8",)}
    house.put("u@x.test")
    house.put("u@x.test", sender="b@shop.test")
    house.start()
    house.events.wait(Delivered, 2)
    assert sorted(seen) == ["127.0.0.7", "127.0.0.8"]
