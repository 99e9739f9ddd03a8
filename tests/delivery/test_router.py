"""The router behind the real RCPT grammar: a stranger's recipient is ours, or it is refused; none is relayed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.auth.accounts import Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.delivery.router import Route, Router
from mailguard.model.address import Address
from mailguard.model.reply import Reply
from mailguard.protocol.smtp.command import Rcpt, parse
from mailguard.protocol.wire import ProtocolError

FILE = {"domain": [{"name": "office.test"}], "account": [{"address": "ann@office.test", "name": "Ann"}]}
DIRECTORY = Directory.build(AccountsFile.model_validate(FILE), Path("/nowhere"))

PIECES = (
    "ann",
    "user",
    "far.test",
    "office.test",
    "bücher.test",
    "xn--bcher-kva.test",
    "[192.0.2.1]",
    "[IPv6:2001:db8::1]",
    "@",
    "%",
    "!",
    ":",
    ",",
    ".",
    "+",
    "\\",
    '"',
    " ",
    "<",
    ">",
    "\\@",
    '"ann@far.test"',
    "@far.test:",
)
PATHS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
TRICKS = (
    "user%far.test@office.test",
    "far.test!user@office.test",
    '"user@far.test"@office.test',
    "ann@[192.0.2.1]",
    "@office.test:user@far.test",
    "@a.test,@office.test:user@far.test",
    "user@bücher.test",
    '"ann@office.test"@far.test',
    "user%office.test@far.test",
    "ann@office.test.far.test",
    "user@far.test@office.test",
)


def routed(path: str) -> Route | Reply | None:
    """What a stranger's RCPT gets; None where the grammar refused it."""
    try:
        command = parse(f"RCPT TO:<{path}>".encode())
    except ProtocolError:
        return None
    assert isinstance(command, Rcpt)
    return Router(DIRECTORY).route(command.recipient.address, may_relay=False)


@given(PATHS)
def test_no_path_makes_us_a_relay(path: str) -> None:
    found = routed(path)
    if isinstance(found, Route):
        assert found.accounts and not found.remote
    elif found is not None:
        assert found.code >= 500


@pytest.mark.parametrize("path", TRICKS)
def test_none_of_the_old_tricks_works(path: str) -> None:
    assert not isinstance(routed(path), Route)


def test_only_who_signed_in_may_send_on() -> None:
    far = Address.parse("user@far.test")
    refused, route = (Router(DIRECTORY).route(far, may_relay=may) for may in (False, True))
    assert isinstance(refused, Reply) and (refused.code, refused.status) == (550, "5.7.1")
    assert route == Route(remote=(far,))


def test_a_full_mailbox_is_told_at_rcpt_and_may_be_tried_again() -> None:
    found = Router(DIRECTORY, full=lambda account, octets: True).route(
        Address.parse("ann@office.test"), may_relay=False
    )
    assert isinstance(found, Reply) and (found.code, found.status) == (452, "4.2.2")


@pytest.mark.parametrize(("size", "said"), [(0, ""), (99, ""), (100, "has no room for 100 octets")])
def test_a_message_larger_than_what_is_left_is_refused_before_it_has_travelled(size: int, said: str) -> None:
    router = Router(DIRECTORY, full=lambda account, octets: octets >= 100)
    found = router.route(Address.parse("ann@office.test"), may_relay=False, size=size)
    assert isinstance(found, Reply) == bool(said)
    assert said in str(found)
    assert isinstance(router.route(Address.parse("postmaster@office.test"), may_relay=False, size=size), Route)
