"""The strongest reasons of a judgement in words people can read, for and against."""

from __future__ import annotations

from itertools import islice
from operator import add
from zlib import crc32

from .index import TAG_MASK
from .judge import Judge, Seen
from .learner import PERSONAL_BOUND
from .model import Table
from .rule import Reason

_LEAST = 0.02
_MOST_WORDS = 500

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


def explain(judge: Judge, seen: Seen, account: str = "", *, most: int = 10) -> list[Reason]:
    """At most ``most`` reasons by weight: signals and phrases of the rules, and what was learnt of words, links,
    senders and make-up. Weights are log-odds; tags that cannot be said in words are left out."""
    personal = judge.personal(account)
    models = [judge.shared, personal] if personal else [judge.shared]
    share = judge.prior_share(personal)
    reasons = [Reason(r.weight * share, r.text) for r in seen.prior]
    words = [model.tables["words"] for model in models]
    reasons += _of_words(seen, words, 1 / max(1, len(seen.numbers.words)) ** 0.5, most)
    tags = [model.tables["tags"] for model in models]
    for found in ([*seen.features.tags, *seen.features.local], seen.features.dress):
        reasons += _of_tags(found, tags, 1 / max(1, len(found)) ** 0.5, most)
    best: dict[str, Reason] = {}
    for reason in reasons:
        if abs(reason.weight) >= _LEAST and abs(reason.weight) > abs(best.get(reason.text, Reason(0, "")).weight):
            best[reason.text] = reason
    return sorted(best.values(), key=lambda r: abs(r.weight), reverse=True)[:most]


def _weights(numbers: list[int], tables: list[Table]) -> list[float]:
    """What each of these features adds to the score before it is scaled."""
    sums: list[float] = []
    for table in tables:
        own = table.at(numbers)
        sums = list(map(add, sums, own)) if sums else list(own)
    return sums


def _strongest(sums: list[float], most: int, least: float) -> list[int]:
    """The places of the strongest on both sides, the strongest first; what is below ``least`` cannot be a reason."""
    most_against = -least
    strong = [i for i, value in enumerate(sums) if value >= least or value <= most_against]
    return _both_ends(sums, strong, len(sums) - len(strong), most)


def _both_ends(sums: list[float], strong: list[int], weak: int, most: int) -> list[int]:
    """The same among those known to be strong; so many others are weak."""
    strong.sort(key=sums.__getitem__)
    against = [i for i in strong if sums[i] < 0]
    order = [*against, *[-1] * min(weak, most), *strong[len(against) :]]
    chosen = {*order[:most], *order[-most:]} - {-1}
    return sorted(chosen, key=lambda i: (-abs(sums[i]), i))[:most]


def _bounded(weight: float) -> float:
    """So that no single feature can look like the whole."""
    return max(-PERSONAL_BOUND, min(PERSONAL_BOUND, weight))


def _of_words(seen: Seen, tables: list[Table], scale: float, most: int) -> list[Reason]:
    """The strongest of the first words and pairs of neighbours; only those are put into text."""
    words = seen.features.words
    single, paired = seen.spoken[0][:_MOST_WORDS], seen.spoken[1][: _MOST_WORDS - 1]
    distinct = dict.fromkeys(single)
    numbers = [*distinct, *dict.fromkeys(paired)]
    sums = _weights(numbers, tables)
    reasons = []
    for i in _strongest(sums, most, _LEAST / scale):
        spoken = single if i < len(distinct) else paired
        at = len(spoken) - 1 - spoken[::-1].index(numbers[i])
        word = _say(words[at])
        text = f"the word “{word}”" if spoken is single else f"the words “{word} {_say(words[at + 1])}”"
        reasons.append(Reason(_bounded(sums[i] * scale), text))
    return reasons


def _of_tags(tags: list[bytes], tables: list[Table], scale: float, most: int) -> list[Reason]:
    sums = _weights([number & TAG_MASK for number in map(crc32, tags)], tables)
    least, most_against = _LEAST / scale, -_LEAST / scale
    # Most tags weigh too little to be a reason: that is told sooner than whether they can be said in words.
    strong = [i for i, value in enumerate(sums) if value >= least or value <= most_against]
    said = [i for i in strong if _can_be_said(tags[i])]
    beside = set(strong)
    weak = sum(1 for _ in islice((i for i, tag in enumerate(tags) if i not in beside and _can_be_said(tag)), most))
    return [Reason(_bounded(sums[i] * scale), _saying(tags[i])) for i in _both_ends(sums, said, weak, most)]


def _can_be_said(tag: bytes) -> bool:
    return 0 < (at := tag.find(b":")) < len(tag) - 1 and tag[:at] in _TAG_WORDS


def _saying(tag: bytes) -> str:
    kind, _, value = tag.partition(b":")
    return _TAG_WORDS[kind].format(_say(value))


def _say(value: bytes) -> str:
    text = value[:60].decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
