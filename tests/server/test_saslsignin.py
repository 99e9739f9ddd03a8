"""The one sign-in driver: what each protocol gets to hear."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import AuthError
from mailguard.model.address import Address
from mailguard.net.stream import Stream
from mailguard.protocol.sasl import Challenge, ScramKeys
from mailguard.server.saslsignin import Granted, Refused, SaslSignIn

ANN = Account(Address("ann", "office.test"))


class Door:
    """An authenticator that knows one password, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def password(self, user: str, password: str, *, protocol: str, peer_ip: str) -> Account:
        self.asked.append((user, protocol, peer_ip))
        if password == "down":
            raise AuthError("later", temporary=True)
        if password != "right":
            raise AuthError("wrong name or password", delay=2.0)
        return ANN

    def scram_credentials(self, user: str) -> ScramKeys:
        return ScramKeys(b"salt of a user", b"s" * 32, b"k" * 32, 4096)

    def scram_result(self, user: str, ok: bool, *, protocol: str, peer_ip: str) -> Account:
        self.asked.append((user, protocol, peer_ip))
        if not ok:
            raise AuthError("wrong name or password")
        return ANN


@pytest.fixture
def made() -> Iterator[tuple[SaslSignIn, Door, list[float]]]:
    ours, theirs = socket.socketpair()
    door, pauses = Door(), list[float]()
    authenticator: Any = door
    stream = Stream(ours)
    yield (
        SaslSignIn(
            authenticator,
            stream,
            protocol="imap",
            peer_ip="192.0.2.7",
            tls=None,
            cleartext=True,
            pause=pauses.append,
        ),
        door,
        pauses,
    )
    stream.close()
    theirs.close()


def test_plain_signs_in_with_and_without_an_initial_response(made: tuple[SaslSignIn, Door, list[float]]) -> None:
    sign_in, door, _ = made
    assert sign_in.begin("plain", b"\0ann\0right") == Granted(ANN)
    assert sign_in.begin("PLAIN", None) == Challenge(b"")
    assert sign_in.respond(b"\0ann\0right") == Granted(ANN)
    assert door.asked == [("ann", "imap", "192.0.2.7")] * 2


def test_login_asks_twice(made: tuple[SaslSignIn, Door, list[float]]) -> None:
    sign_in = made[0]
    assert sign_in.begin("LOGIN", None) == Challenge(b"Username:")
    assert sign_in.respond(b"ann") == Challenge(b"Password:")
    assert sign_in.respond(b"right") == Granted(ANN)


def test_refusals_are_told_apart_and_held_back(made: tuple[SaslSignIn, Door, list[float]]) -> None:
    sign_in, _, pauses = made
    assert sign_in.password("ann", "wrong") == Refused("wrong name or password")
    assert pauses == [2.0]
    assert sign_in.password("ann", "down") == Refused("later", temporary=True)
    broken = sign_in.begin("PLAIN", b"nonsense")
    assert isinstance(broken, Refused)
    assert broken.malformed
    unknown = sign_in.begin("CRAM-MD5", None)
    assert isinstance(unknown, Refused)
    assert unknown.unknown
    binding = sign_in.begin("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=ann,r=abc")  # no TLS here
    assert isinstance(binding, Refused)
    assert binding.unknown


def test_a_wrong_scram_proof_counts_as_a_wrong_password(made: tuple[SaslSignIn, Door, list[float]]) -> None:
    sign_in, door, _ = made
    first = sign_in.begin("SCRAM-SHA-256", b"n,,n=ann,r=abcdefgh")
    assert isinstance(first, Challenge)
    nonce = first.data.split(b",")[0]
    proof = b"c=biws," + nonce + b",p=" + b"A" * 43 + b"="
    assert sign_in.respond(proof) == Refused("wrong name or password")
    assert door.asked == [("ann", "imap", "192.0.2.7")]


def test_nothing_runs_on_after_cancelling(made: tuple[SaslSignIn, Door, list[float]]) -> None:
    sign_in, door, _ = made
    sign_in.begin("PLAIN", None)
    sign_in.cancel()
    assert isinstance(sign_in.respond(b"\0ann\0right"), Refused)
    assert door.asked == []


def test_nothing_is_offered_without_tls() -> None:
    ours, theirs = socket.socketpair()
    authenticator: Any = Door()
    stream = Stream(ours)
    sign_in = SaslSignIn(authenticator, stream, protocol="smtp", peer_ip="", tls=None)
    assert sign_in.mechanisms() == ()
    assert isinstance(sign_in.begin("PLAIN", b"\0ann\0right"), Refused)
    stream.close()
    theirs.close()
