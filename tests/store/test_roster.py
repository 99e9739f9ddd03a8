"""The roster of a mailbox: always what the index says, whoever changed it and in whatever order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailguard.protocol.imap import search as s
from mailguard.store.account import AccountStore
from mailguard.store.mailbox import Mailbox
from mailguard.store.roster import Roster, Rosters
from mailguard.store.search import find
from mailguard.store.snapshot import NewMessage

FLAGS = ("\\Seen", "\\Deleted", "$Work")
KEYS: list[s.Key] = [
    s.Flag("\\seen"), s.Not(s.Flag("\\Seen")), s.And((s.Flag("$work"), s.Not(s.Flag("\\Deleted")))), s.All(),
    s.Or(s.Flag("\\Deleted"), s.Uids(((2, 4), (7, 7)))), s.And((s.Uids(()), s.All())), s.Uids(((3, 99),)),
]  # fmt: skip
steps = st.tuples(
    st.sampled_from(("append", "deliver", "+", "-", "expunge", "forget")), st.integers(0, 1), st.sampled_from(FLAGS),
    st.sets(st.integers(1, 9), min_size=1),
)  # fmt: skip


def holds(key: s.Key, uid: int, flags: set[str]) -> bool:
    """What a key means, in the plainest words."""
    match key:
        case s.And(keys):
            return all(holds(each, uid, flags) for each in keys)
        case s.Or(left, right):
            return holds(left, uid, flags) or holds(right, uid, flags)
        case s.Not(inner):
            return not holds(inner, uid, flags)
        case s.Flag(name):
            return name.lower() in {flag.lower() for flag in flags}
        case s.Uids(ranges):
            return any(low <= uid <= high for low, high in ranges)
        case _:
            return True


def check(box: Mailbox, subjects: dict[int, str]) -> None:
    rows = [row[:2] for row in box.rows(None, ("uid", "flags", "date"))]  # from the index, for it has a date
    roster = box.roster()
    assert roster.uids == box.uids() == [uid for uid, _ in rows]
    assert box.rows(None, ("uid", "flags")) == rows
    for some in (roster.uids[1:], roster.uids[::2], [*roster.uids[:2], 99], [], [77]):
        wanted = [(f"{flags} \\Recent".lstrip(), uid) for uid, flags in rows if uid in some]
        assert list(zip(*roster.columns(some, ("recent_flags", "uid")), strict=True)) == wanted
    for key in KEYS:
        assert find(box, key, 0) == [uid for uid, flags in rows if holds(key, uid, set(flags.split()))]
    sizes = dict(box.rows(None, ("uid", "size")))
    assert box.sorted_uids(None, [("size", True)]) == sorted(sizes, key=lambda uid: (-sizes[uid], uid))
    assert box.rows(None, ("uid", "subject")) == [(uid, subjects[uid]) for uid in roster.uids]
    some = roster.uids[::2]
    assert box.rows(some, ("subject", "uid", "flags")) == [(subjects[uid], uid, dict(rows)[uid]) for uid in some]
    for text in set(subjects.values()):
        assert find(box, s.Text(text), 0) == [uid for uid in roster.uids if subjects[uid] == text]
    assert box.sorted_uids(some, [("size", False)]) == sorted(some, key=lambda uid: (sizes[uid], uid))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=12))
def test_it_follows_every_change(changes: list[tuple[str, int, str, set[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = [AccountStore(Path(folder) / "mail", Path(folder) / "index.db", host="mx") for _ in range(2)]
        boxes = [store.mailbox("INBOX") for store in stores]
        subjects: dict[int, str] = {}
        for number, (what, who, flag, uids) in enumerate(changes):
            box, text = boxes[who], f"mail{number:02}"
            mail = b"Subject: %b\r\n\r\n" % text.encode() + b"y" * (number * 7 % 5)
            if what == "append":
                subjects |= dict.fromkeys(box.append([NewMessage([mail], (flag,))] * 2), text)
            elif what == "deliver":
                subjects[box.status().uid_next] = text
                (Path(folder) / f"mail/cur/{number}.x:2,").write_bytes(mail)
                box.refresh()
            elif what == "expunge":
                box.remove(sorted(uids))
            elif what == "forget":
                stores[who].forget_descriptions()
            else:
                box.store(sorted(uids), what, [flag])
            check(box, subjects)
        for box, store in zip(boxes, stores, strict=True):
            box.refresh()
            check(box, subjects)
            store.close()


def test_any_number_of_kinds_of_flags() -> None:
    flags = [f"$k{n}" for n in range(300)]
    roster = Roster.of((1, 1), 1, list(enumerate(flags, 1)))
    assert roster.chosen(roster.flagged(lambda each: each in ("$k0", "$k299"))) == [1, 300]
    roster = Roster.of((1, 1), 1, [(1, ""), (2, "")])
    for n, each in enumerate(flags):
        roster = roster.updated(n + 2, [(1, each)], [])
    assert roster.chosen(roster.flagged(lambda each: each == "$k299")) == [1]


def test_results_live_until_messages_come_or_go() -> None:
    roster = Roster.of((1, 1), 1, [(1, ""), (2, "")])
    assert roster.recall("order") is None
    assert roster.remember("order", [2, 1]) == [2, 1]
    assert roster.updated(2, [(1, "\\Seen")], [9]).recall("order") == [2, 1]
    assert roster.updated(2, [(3, "")], []).recall("order") is None
    assert roster.updated(2, [], [1]).recall("order") is None
    for n in range(20):
        roster.remember(n, n)
    assert [n for n in range(20) if roster.recall(n) is not None] == [14, 15, 16, 17, 18, 19]


def test_the_longest_unused_roster_goes_first() -> None:
    rosters = Rosters(messages=5)
    for name in "abc":
        rosters.put(name, Roster.of((1, 1), 1, [(1, ""), (2, "")]))
        rosters.get("a")
    assert [name for name in "abc" if rosters.get(name)] == ["a", "c"]
    rosters = Rosters(seconds=0)
    rosters.put("a", Roster.of((1, 1), 1, []))
    rosters.put("b", Roster.of((1, 1), 1, []))
    assert rosters.get("a") is None and rosters.get("b") is not None
