"""Messages built to be slow, to hide or to confuse: bounded work, no exception, the trick named."""

from __future__ import annotations

import base64
import itertools
import time
import tracemalloc
from zlib import crc32

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from mailguard_spamscore.index import gram_numbers, index, spoken_numbers
from mailguard_spamscore.judge import Judge
from mailguard_spamscore.part import MAX_PARTS
from mailguard_spamscore.rule import load_rules
from mailguard_spamscore.token import MAX_WORDS, beginning, extract
from mailguard_spamscore.visible import MAX_TEXT

HEAD = (
    b"From: a@b.example\r\nTo: c@d.example\r\nSubject: x\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@b>\r\n"
)
HTML = HEAD + b"Content-Type: text/html; charset=utf-8\r\n\r\n"
MEGABYTE = 1 << 20


def nested(depth: int) -> bytes:
    body = b"Content-Type: text/plain\r\n\r\nhello\r\n"
    for n in range(depth):
        mark = b"m%d" % n
        body = b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n--%s\r\n%s\r\n--%s--\r\n' % (
            mark,
            mark,
            body,
            mark,
        )
    return HEAD + body


def _index(raw: bytes) -> None:
    features = extract(raw)
    index(features, spoken_numbers(features.words))


HOSTILE = {
    "ten thousand parts": HEAD
    + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
    + b"--x\r\nContent-Type: text/plain\r\n\r\nbuy\r\n" * 10_000
    + b"--x--\r\n",
    "nested two hundred deep": nested(200),
    "huge base64": HEAD
    + b"Content-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(b"spam and eggs " * MEGABYTE)[: 8 * MEGABYTE],
    "open tags only": HTML + b"<a <b <c <font " * 100_000,
    "open comments": HTML + b"<!-- <!-- x" * 100_000,
    "open scripts": HTML + b"<script><style><title>" * 50_000,
    "links without end": HTML + b'<a href="http://x.example/' * 50_000,
    "entities": HTML + b"&amp;&#x41;&nbsp;" * 100_000,
    "one long word": HEAD + b"\r\n" + b"a" * (4 * MEGABYTE),
    "slashes": HEAD + b"\r\n" + b"://" * MEGABYTE,
    "www": HEAD + b"\r\n" + b"www.a-" * MEGABYTE,
    "a million fields": b"X: y\r\n" * 1_000_000 + b"\r\nbody",
    "one field of megabytes": b"Subject: " + b"=?utf-8?b?AAAA?= " * 200_000 + b"\r\n\r\nbody",
    "parameters": HEAD + b"Content-Type: text/plain" + b"; a=b" * 200_000 + b"\r\n\r\nx",
    "mixed scripts": HTML + "pаypаl vеrify аccоunt ".encode() * 20_000,
    "zero width": HTML + "v\u200bi\u200ba\u200bg\u200br\u200ba ".encode() * 20_000,
    "combining": HTML + ("a" + "\u0301" * 2000).encode() * 200,
    "word salad": HEAD + b"\r\n" + b" ".join(b"w%d" % n for n in range(300_000)),
    "nothing": b"",
    "no header end": b"Subject: x",
    "zeros": b"\0" * MEGABYTE,
    "broken charset": HEAD + b"Content-Type: text/plain; charset=\xff\xfe\r\n\r\n\xff\xfe\xfd",
    "codec that is none": HEAD + b"Content-Type: text/plain; charset=rot13\r\n\r\nuryyb",
    "hops": b"Received: from a (b [1.2.3.4]) by c\r\n" * 5000 + HEAD + b"\r\nx",
}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    judge = Judge(tmp_path_factory.mktemp("judge"), load_rules(), seed=1)
    yield judge
    judge.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_cost_bounded_work(judge, name):
    before = time.thread_time()
    seen = judge.look(HOSTILE[name])
    judge.judge(seen, "")
    spent = time.thread_time() - before
    assert len(seen.features.words) <= MAX_WORDS
    assert len(seen.features.seen.text) <= MAX_TEXT + 64
    assert len(seen.features.tree.parts) <= MAX_PARTS
    assert spent < 1.0, f"{spent:.2f} s of CPU"  # about 0.05 s; the bound is for machines under load


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_cost_bounded_memory(judge, name):
    tracemalloc.start()
    try:
        judge.judge(judge.look(HOSTILE[name]), "")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 12 * MEGABYTE  # one body of the greatest size looked at, and 4 MB beside it


@given(st.binary(max_size=3000))
def test_any_octets_are_taken(raw):
    _index(raw)


PIECES = (
    *(b"--x\r\n", b"--x--\r\n", b"\r\n", HEAD, HTML, b"Content-Type: multipart/mixed; boundary=x\r\n", b"\xff", b"&#"),
    *(b"Content-Transfer-Encoding: base64\r\n", b"=?utf-8?q?=?=", b"<a href=http://", b"</a>"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_order_of_pieces_is_taken(pieces):
    _index(b"".join(pieces))


@given(st.lists(st.binary(min_size=1, max_size=8), max_size=60), st.binary(max_size=300))
def test_lanes_hash_as_single_arithmetic_would(words, text):
    hashes = [crc32(word) for word in words]
    mask = (1 << 16) - 1
    wanted = {h & mask for h in hashes}
    wanted |= {(a * 5 + b * 3) & mask for a, b in itertools.pairwise(hashes)}
    assert set().union(*spoken_numbers(words)) == wanted
    values = {int.from_bytes(text[i : i + 4], "little") for i in range(len(text) - 3)}
    assert set(gram_numbers(text)) == {(v * 0x9E3779B1 >> 9) & mask for v in values}


@given(st.text(alphabet="ab \n\t", max_size=40), st.integers(1, 200))
def test_the_beginning_of_a_text_is_that_of_the_whole(piece, times):
    text = (piece * times).encode()
    assert beginning(text) == b" ".join(text.split())[:1000]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mixed scripts", "mix letters that only look alike"),
        ("zero width", "broken up by invisible characters"),
        ("ten thousand parts", "more parts than any reader would look at"),
        ("word salad", "a long run of words without any sentence"),
    ],
)
def test_the_trick_is_named(judge, name, says):
    assert any(says in reason.text for reason in judge.look(HOSTILE[name]).prior)


def test_look_alikes_and_invisible_letters_are_read_as_what_they_look_like(judge):
    assert b"viagra" in judge.look(HOSTILE["zero width"]).features.words
    assert b"paypal" in judge.look(HOSTILE["mixed scripts"]).features.words


def test_hidden_text_is_counted(judge):
    hidden = HTML + b'<div style="display:none">' + b"gentle words " * 100 + b"</div><p>Buy now</p>"
    assert any("characters of text are hidden" in reason.text for reason in judge.look(hidden).prior)


def test_text_in_nested_encodings_is_found(judge):
    inner = b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(
        b"<b>vi</b>agra"
    )
    raw = HEAD + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n" + inner
    assert b"viagra" in judge.look(raw + b"\r\n--x--\r\n").features.words
