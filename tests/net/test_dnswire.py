"""Whatever octets come: what is read here is what dnspython reads, and only WireError leaves."""

from __future__ import annotations

import contextlib

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.net.dnswire import Read, WireError, _read_any, fits, question, read

NAMES = st.sampled_from(["example.net", "mx.example.net", "a.b.c.example.net", "_dmarc.example.net", "other.example"])
RECORDS = st.sampled_from(
    [
        ("A", "192.0.2.1"),
        ("A", "192.0.2.2"),
        ("AAAA", "2001:db8::7"),
        ("MX", "10 mx.example.net."),
        ("TXT", '"v=spf1" " -all"'),
        ("PTR", "mx.example.net."),
        ("CNAME", "mx.example.net."),
        ("CNAME", "a.b.c.example.net."),
        ("SRV", "1 2 3 mx.example.net."),
        ("NS", "."),
    ]
)
TYPES = ["A", "AAAA", "MX", "TXT", "PTR", "CNAME", "SRV", "NS"]


@given(
    NAMES, st.sampled_from(TYPES), st.lists(st.tuples(NAMES, RECORDS, st.integers(0, 9000)), max_size=6), st.booleans()
)
def test_reads_as_dnspython_does(
    name: str, rdtype: str, rows: list[tuple[str, tuple[str, str], int]], gone: bool
) -> None:
    asked = question(4711, name, rdtype)
    response = dns.message.make_response(dns.message.from_wire(asked))
    response.flags |= dns.flags.AD
    if gone:
        response.set_rcode(3)
    seen = set[tuple[str, str]]()
    for owner, (kind, text), ttl in rows:
        if (owner, kind) not in seen and (owner, "CNAME") not in seen:
            seen.add((owner, kind))
            response.answer.append(dns.rrset.from_text(f"{owner}.", ttl, "IN", kind, text))
    response.authority.append(dns.rrset.from_text("net.", 900, "IN", "SOA", "a. b. 1 2 3 4 77"))
    wire = response.to_wire()
    assert fits(wire, asked)
    mine = read(wire, asked, rdtype)
    with contextlib.suppress(WireError):  # a chain that dnspython finds too long or circular
        theirs = _read_any(wire, rdtype)
        assert (mine.rcode, mine.records, mine.authentic) == (theirs.rcode, theirs.records, theirs.authentic)
        if mine.records:
            assert mine.ttl == theirs.ttl


@given(st.binary(max_size=300), st.sampled_from(TYPES))
def test_garbage_is_an_error_or_an_answer(garbage: bytes, rdtype: str) -> None:
    asked = question(7, "example.net", rdtype)
    for wire in (garbage, asked[:12] + garbage, asked[:-11] + garbage):
        fits(wire, asked)
        with contextlib.suppress(WireError):
            assert isinstance(read(wire, asked, rdtype), Read)


@given(st.integers(0, 120), st.binary(min_size=1, max_size=4))
def test_damaged_answers(at: int, octets: bytes) -> None:
    asked = question(7, "www.example.net", "A")
    response = dns.message.make_response(dns.message.from_wire(asked))
    response.answer.append(dns.rrset.from_text("www.example.net.", 60, "IN", "CNAME", "example.net."))
    response.answer.append(dns.rrset.from_text("example.net.", 60, "IN", "A", "192.0.2.1"))
    wire = response.to_wire()
    with contextlib.suppress(WireError):
        read(wire[:at] + octets + wire[at + len(octets) :], asked, "A")


def test_only_the_answer_to_the_question_fits() -> None:
    asked = question(4711, "example.net", "A")
    answer = dns.message.make_response(dns.message.from_wire(asked)).to_wire()
    assert fits(answer, asked) and fits(answer.replace(b"example", b"eXample"), asked)
    assert not fits(asked, asked)  # a query is no answer
    assert not fits(answer, question(4712, "example.net", "A"))
    assert not fits(answer, question(4711, "example.org", "A"))
    assert not fits(answer, question(4711, "example.net", "AAAA"))
    assert not fits(b"", asked)


@pytest.mark.parametrize("name", ["a..b", "a" * 64, ".".join(["abcdefg"] * 40)])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match=name[:10].replace(".", r"\.")):
        question(1, name, "A")


def test_names_in_other_scripts() -> None:
    assert b"xn--mller-kva" in question(1, "müller.example", "A")
