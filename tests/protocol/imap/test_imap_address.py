from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.imap.address import address_text, parse_addresses, print_addresses


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (b"user@domain", b'((NIL NIL "user" "domain"))'),
        (b"  <user@domain> ", b'((NIL NIL "user" "domain"))'),
        (b"Real Name <user@domain>", b'(("Real Name" NIL "user" "domain"))'),
        (b'"Real, Name" <user@domain>', b'(("Real, Name" NIL "user" "domain"))'),
        (b'"a \\"b\\"" <u@d>', b'(("a \\"b\\"" NIL "u" "d"))'),
        (b"user@domain (Real Name)", b'(("Real Name" NIL "user" "domain"))'),
        (b"A <a@x>, b@y,C D <c@z>", b'(("A" NIL "a" "x")(NIL NIL "b" "y")("C D" NIL "c" "z"))'),
        (
            b"g: a@b, c@d;, e@f",
            b'((NIL NIL "g" NIL)(NIL NIL "a" "b")(NIL NIL "c" "d")(NIL NIL NIL NIL)(NIL NIL "e" "f"))',
        ),
        (b"undisclosed-recipients:;", b'((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL))'),
        (b"<@route:user@domain>", b'((NIL "@route" "user" "domain"))'),
        (b"<@a,@b:user@domain>", b'((NIL "@a,@b" "user" "domain"))'),
        (b'"quoted local"@domain', b'((NIL NIL "quoted local" "domain"))'),
        (b"u@[192.0.2.1]", b'((NIL NIL "u" "[192.0.2.1]"))'),
        (b"root", b'((NIL NIL "root" "MISSING_DOMAIN"))'),
        (
            b"The Account Team ,_<a@b>",
            b'(("The Account Team" NIL "MISSING_MAILBOX" "MISSING_DOMAIN")("_" NIL "a" "b"))',
        ),
        (
            b'"offers@c.example", <d@e>',
            b'(("offers@c.example" NIL "MISSING_MAILBOX" "MISSING_DOMAIN")(NIL NIL "d" "e"))',
        ),
        (b"", b"NIL"),
        (b" , ,", b"NIL"),
    ],
)
def test_addresses_are_shown_as_the_rfc_says(value: bytes, printed: bytes) -> None:
    assert print_addresses(parse_addresses(value)) == printed


def test_names_are_decoded_for_people() -> None:
    assert address_text(parse_addresses(b"=?utf-8?q?J=C3=B6?= <j@x>, g: b@y;")) == "Jö <j@x>, g:, b@y"
    assert address_text(parse_addresses(b"The Team, <j@x>")) == "The Team, j@x"


@given(st.binary(max_size=200) | st.text(alphabet='<>@,;:()"\\[] ab', max_size=60).map(str.encode))
def test_nothing_raises_and_everything_prints(value: bytes) -> None:
    printed = print_addresses(parse_addresses(value))
    assert printed == b"NIL" or printed[:2] == b"(("


@pytest.mark.parametrize(
    "value", [b" " * 200_000, b"(" * 200_000, b'"' + b"\\" * 200_000, b"a<" * 100_000, b"@" * 200_000]
)
def test_hostile_fields_take_linear_time(value: bytes) -> None:
    parse_addresses(value)
