"""The strongest reasons of a judgement in words people can read, for and against."""

from __future__ import annotations

from heapq import nlargest
from itertools import islice
from zlib import crc32

from .index import TAG_BITS, WORD_BITS, apart, near
from .judge import Judge, Seen
from .learner import PERSONAL_BOUND
from .model import Table
from .rule import Reason

_LEAST = 0.02

_TAG_WORDS: dict[bytes, str] = {
    b"fa": "it comes from {}",
    b"fd": "it comes from the domain {}",
    b"fr": "it comes from the domain {}",
    b"fl": "the sender's address begins with {}",
    b"ft": "the sender's domain ends in {}",
    b"fn": "the sender's name contains “{}”",
    b"fs": "the sender's address is of the form {}",
    b"rd": "answers go to the domain {}",
    b"rr": "answers go to the domain {}",
    b"ra": "answers go to {}",
    b"s": "the subject contains “{}”",
    b"s0": "the subject begins with “{}”",
    b"uh": "a link leads to {}",
    b"ur": "a link leads to {}",
    b"ut": "a link leads to a host under .{}",
    b"up": "a link's path contains “{}”",
    b"m": "the mail program calls itself {}",
    b"ms": "the mail program's name is of the form {}",
    b"k": "it has a part of kind {}",
    b"fx": "a file ending in .{} is attached",
    b"fw": "an attachment's name contains “{}”",
    b"cs": "its charset is {}",
    b"t": "its HTML uses <{}>",
    b"st": "its HTML has the style {}",
    b"at": "its HTML has the attribute {}",
    b"tree": "it is built as {}",
    b"h": "it has a header field {}",
    b"ho": "its header fields come in the order {}",
    b"i16": "it came through the network {}",
    b"i24": "it came through the network {}",
    b"he": "a server on its way is {}",
    b"hr": "a server on its way is under {}",
    b"toa": "it is addressed to {}",
    b"tod": "it is addressed to {}",
    b"lia": "it came through the list {}",
    b"tz": "its sender's clock runs in zone {}",
    b"dk": "its DKIM signature has {}",
    b"mi": "its Message-ID is of the form {}",
    b"md": "its Message-ID names {}",
    b"rpd": "bounces go to {}",
    b"ct": "its content type says {}",
}


Named = tuple[str, *tuple[bytes, ...]]
"""How something seen is said: a form, and what goes into it."""

_WORD, _PAIR, _APART = "the word “{}”", "the words “{} {}”", "the words “{} … {}”"


def explain(judge: Judge, seen: Seen, account: str = "", *, most: int = 10) -> list[Reason]:
    """At most ``most`` reasons by weight: signals and phrases of the rules, and what was learnt of words, links,
    senders and make-up. Weights are log-odds; word pairs and tags that cannot be said in words are left out."""
    personal = judge.personal(account)
    tables: list[tuple[Table, float]] = [(judge.shared.tables["words"], 1.0)]
    tags: list[tuple[Table, float]] = [(judge.shared.tables["tags"], 1.0)]
    if personal:
        tables.append((personal.tables["words"], 1.0))
        tags.append((personal.tables["tags"], 1.0))
    share = judge.prior_share(personal)
    reasons = [Reason(r.weight * share, r.text) for r in seen.prior]
    reasons += _learnt(_spoken(seen), tables, len(seen.numbers.words), (1 << WORD_BITS) - 1, most)
    count = len(seen.numbers.tags) + len(seen.numbers.local)
    reasons += _learnt(_tagged(seen), tags, count, (1 << TAG_BITS) - 1, most)
    best: dict[str, Reason] = {}
    for reason in reasons:
        if abs(reason.weight) >= _LEAST and abs(reason.weight) > abs(best.get(reason.text, Reason(0, "")).weight):
            best[reason.text] = reason
    return list(islice(sorted(best.values(), key=lambda r: -abs(r.weight)), most))


def _learnt(
    named: dict[int, Named], tables: list[tuple[Table, float]], count: int, mask: int, most: int
) -> list[Reason]:
    """The heaviest of what was seen, put into words only then: a message has thousands of words and pairs."""
    scale = 1 / max(1, count) ** 0.5
    pairs = [(table.weights, mask & table.mask) for table, _ in tables]
    weighed = [(sum(weights[number & bits] for weights, bits in pairs), number) for number in named]
    found = []
    for weight, number in nlargest(2 * most, weighed, key=lambda pair: abs(pair[0])):
        form, *parts = named[number]
        weight = max(-PERSONAL_BOUND, min(PERSONAL_BOUND, weight * scale))
        found.append(Reason(weight, form.format(*map(_say, parts))))
    return found


def _spoken(seen: Seen) -> dict[int, Named]:
    words = seen.features.words
    hashes = list(map(crc32, words))
    names: dict[int, Named] = {}
    for i, (word, number) in enumerate(zip(words, hashes, strict=True)):
        names[number] = _WORD, word
        if i:
            names[near(hashes[i - 1], number)] = _PAIR, words[i - 1], word
        if i > 1:
            names[apart(hashes[i - 2], number)] = _APART, words[i - 2], word
    return names


def _tagged(seen: Seen) -> dict[int, Named]:
    names: dict[int, Named] = {}
    for tag in [*seen.features.tags, *seen.features.local]:
        kind, _, value = tag.partition(b":")
        if value and kind in _TAG_WORDS:
            names[crc32(tag)] = _TAG_WORDS[kind], value
    return names


def _say(value: bytes) -> str:
    text = value[:60].decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
