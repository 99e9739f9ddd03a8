from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.imap.describe import describe
from mailguard.protocol.imap.sort import sent_date
from mailguard.protocol.imap.thread import Row, thread_by_references, thread_by_subject


def row(number: int, references: str = "", subject: str = "", *, reply: bool = False, message_id: str = "") -> Row:
    return number, number, message_id or str(number), references, subject, reply


def test_a_chain_and_its_branches() -> None:
    assert thread_by_references([row(1), row(2, "1"), row(3, "1 2"), row(4, "1 2")]) == b"(1 2 (3)(4))"


def test_a_missing_parent_holds_its_children_together() -> None:
    assert thread_by_references([row(1, "x"), row(2, "x"), row(3, "y")]) == b"((1)(2))(3)"


def test_loops_and_double_ids_are_survived() -> None:
    assert thread_by_references([row(1, "2"), row(2, "1")]) == b"(2 1)"
    assert thread_by_references([row(1, message_id="a"), row(2, message_id="a")]) == b"(1)(2)"
    assert thread_by_references([row(1, "1")]) == b"(1)"


def test_one_subject_is_one_thread() -> None:
    assert thread_by_references([row(1, subject="S"), row(2, subject="S", reply=True)]) == b"(1 2)"
    assert thread_by_references([row(1, subject="S"), row(2, subject="S"), row(3, subject="S")]) == b"((1)(2)(3))"


def test_ordered_subject() -> None:
    rows = [row(1, subject="A"), row(2, subject="B"), row(3, subject="A"), row(4, subject="A")]
    assert thread_by_subject(rows) == b"(1 (3)(4))(2)"


def test_a_long_thread_needs_no_stack() -> None:
    assert thread_by_references([row(n, str(n - 1)) for n in range(1, 3_000)]).startswith(b"(1 2 3 ")


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.lists(st.sampled_from("abcde"), max_size=4),
                          st.sampled_from(["", "S", "T"]), st.booleans()), max_size=12))  # fmt: skip
def test_every_message_appears_once(messages: list[tuple[str, list[str], str, bool]]) -> None:
    rows = [(n, n, mid, " ".join(refs), subject, reply) for n, (mid, refs, subject, reply) in enumerate(messages, 1)]
    printed = thread_by_references(rows)
    assert sorted(map(int, re.findall(rb"\d+", printed))) == [number for _, number, *_ in rows]
    assert printed.count(b"(") == printed.count(b")")


@pytest.mark.parametrize("group", ["", "2", "3", "4", "5", "6", "7", "8", "-orderedsubject", "-orderedsubject2"])
def test_third_party_threads(shared: Path, group: str) -> None:
    folder = shared / "testdata" / "imaptest" / "tests"
    script = (folder / f"thread{group}").read_text()
    wanted = re.search(r"^\* thread (.*)$", script, re.M | re.I)
    assert wanted
    rows = _rows(folder / f"thread{group}.mbox")
    if "state: created" in script:  # the script appends them one by one
        rows = rows[: script[: wanted.start()].count("ok append")]
    printed = thread_by_subject(rows) if "ordered" in group else thread_by_references(rows)
    assert printed.decode() == wanted[1].strip()


def _rows(mbox: Path) -> list[Row]:
    pieces = re.split(rb"(?m)^From \S+ +(.*)\n", mbox.read_bytes())[1:]
    rows = []
    for n, (arrival, text) in enumerate(zip(pieces[::2], pieces[1::2], strict=True), 1):
        d, internal = describe(text.replace(b"\n", b"\r\n")), sent_date(arrival)
        at = d.sent_at if d.sent_at is not None else internal.at if internal else 0
        rows.append((at, n, d.message_id, " ".join(d.references), d.base_subject, d.is_reply))
    return rows
