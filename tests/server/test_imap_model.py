"""Several sessions and an outside writer on one mailbox, compared with a simple model of what must be true.

Set IMAP_MODEL_EXAMPLES for a longer run; failures are replayed from hypothesis' own example database.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import imapoffice
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

pytestmark = pytest.mark.slow

FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "$Work")
LETTERS = {"\\Seen": "S", "\\Flagged": "F", "\\Answered": "R", "\\Deleted": "T"}
SESSIONS = ("plain", "quick", "other")
session = st.sampled_from(SESSIONS)
flag = st.sampled_from(FLAGS)
place = st.integers(0, 1000)


class Seen:
    """One session: what its client has been told, by message number. UIDs it does not know yet are None."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.uids: list[int | None] = []
        self.modseq = 0

    def command(self, text: str) -> tuple[list[bytes], bytes]:
        lines, result = self.client.command(text)
        for line in lines:
            self.hear(line)
        return lines, result

    def ok(self, text: str) -> list[bytes]:
        lines, result = self.command(text)
        assert result.startswith(b"OK"), (text, result)
        return lines

    def append(self, message: bytes, flags: set[str]) -> int:
        text = b"APPEND INBOX (%b) {%d}\r\n%b" % (" ".join(sorted(flags)).encode(), len(message), message)
        lines, result = self.client.command(text)
        for line in lines:
            self.hear(line)
        match = re.search(rb"APPENDUID \d+ (\d+)", result)
        assert match is not None, result
        return int(match[1])

    def hear(self, line: bytes) -> None:
        if match := re.match(rb"\* (\d+) EXISTS", line):
            assert int(match[1]) >= len(self.uids), (line, self.uids)
            self.uids += [None] * (int(match[1]) - len(self.uids))
        elif match := re.match(rb"\* (\d+) EXPUNGE", line):
            assert 1 <= int(match[1]) <= len(self.uids), (line, self.uids)
            del self.uids[int(match[1]) - 1]
        elif match := re.match(rb"\* VANISHED ([\d,:]+)", line):
            gone = {n for part in match[1].split(b",") for n in _span(part)}
            for uid in sorted(gone):
                at = self._place(uid)
                assert self.uids[at : at + 1] in ([None], [uid]), (line, self.uids)
                del self.uids[at]
        elif match := re.match(rb"\* (\d+) FETCH \(.*?UID (\d+)", line):
            number, uid = int(match[1]), int(match[2])
            assert 1 <= number <= len(self.uids), (line, self.uids)
            assert self.uids[number - 1] in (None, uid), (line, self.uids)
            self.uids[number - 1] = uid
            known = [each for each in self.uids if each is not None]
            assert known == sorted(known)
            if modseq := re.search(rb"MODSEQ \((\d+)\)", line):
                self.modseq = max(self.modseq, int(modseq[1]))

    def _place(self, uid: int) -> int:
        """Where a message stands; one that came and went before its UID was asked for stands behind those below."""
        if uid in self.uids:
            return self.uids.index(uid)
        return max((n for n, each in enumerate(self.uids, 1) if each is not None and each < uid), default=0)


def _span(part: bytes) -> range:
    low, _, high = part.partition(b":")
    return range(int(low), int(high or low) + 1)


class Mailbox(RuleBasedStateMachine):
    """The model is ``flags``: a set for each UID there is."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.office = imapoffice.Office(folder, self.stack)
        self.mailbox = self.office.store.mailbox("INBOX")
        self.flags: dict[int, set[str]] = {}
        self.highest = 0
        self.seen: dict[str, Seen] = {}

    def teardown(self) -> None:
        self.stack.close()

    @initialize()
    def connect(self) -> None:
        for name in SESSIONS:
            client = self.stack.enter_context(self.office.bare())
            self.seen[name] = Seen(client)
            if name == "quick":
                client.ok("ENABLE QRESYNC")
            self.seen[name].ok("SELECT INBOX")

    def _arrived(self, uid: int, flags: set[str]) -> None:
        assert uid > self.highest, "a UID came back"
        self.highest = uid
        self.flags[uid] = flags

    def _pick(self, n: int) -> int:
        return sorted(self.flags)[n % len(self.flags)]

    def _file(self, uid: int) -> Path:
        return Path(self.mailbox.file(uid))

    @rule(name=session, some=st.sets(flag, max_size=3))
    def append(self, name: str, some: set[str]) -> None:
        self._arrived(self.seen[name].append(b"a: b\r\n\r\nc\r\n", some), set(some))

    @rule()
    def deliver(self) -> None:
        self.office.store.deliver([b"a: b\r\n\r\nc\r\n"])
        self._arrived(max(self.mailbox.uids()), set())

    @precondition(lambda self: self.flags)
    @rule(name=session, n=place, word=flag, mode=st.sampled_from("+-"), silent=st.booleans())
    def store(self, name: str, n: int, word: str, mode: str, silent: bool) -> None:
        uid = self._pick(n)
        self.seen[name].ok("NOOP")  # a message that the session never heard of would be ignored
        self.seen[name].ok(f"UID STORE {uid} {mode}FLAGS{'.SILENT' if silent else ''} ({word})")
        self.flags[uid] = self.flags[uid] | {word} if mode == "+" else self.flags[uid] - {word}

    @precondition(lambda self: self.flags)
    @rule(name=session)
    def expunge(self, name: str) -> None:
        self.seen[name].ok("NOOP")
        self.seen[name].ok("EXPUNGE")
        self.flags = {uid: some for uid, some in self.flags.items() if "\\Deleted" not in some}

    @precondition(lambda self: self.flags)
    @rule(name=session, n=place)
    def move_away(self, name: str, n: int) -> None:
        uid = self._pick(n)
        self.seen[name].ok("NOOP")
        self.seen[name].ok(f"UID MOVE {uid} Archive")
        del self.flags[uid]

    @precondition(lambda self: self.flags)
    @rule(name=session, n=place)
    def copy_here(self, name: str, n: int) -> None:
        uid = self._pick(n)
        self.seen[name].ok("NOOP")
        _, result = self.seen[name].command(f"UID COPY {uid} INBOX")
        match = re.search(rb"COPYUID \d+ \d+ (\d+)", result)
        assert match is not None, result
        self._arrived(int(match[1]), set(self.flags[uid]))

    @precondition(lambda self: self.flags)
    @rule(n=place)
    def outside_removes(self, n: int) -> None:
        uid = self._pick(n)
        self._file(uid).unlink()
        del self.flags[uid]
        self._settle()

    @precondition(lambda self: self.flags)
    @rule(n=place, word=st.sampled_from(sorted(LETTERS)))
    def outside_flags(self, n: int, word: str) -> None:
        uid = self._pick(n)
        file = self._file(uid)
        base, _, letters = file.name.partition(":2,")
        file.rename(file.with_name(f"{base}:2,{''.join(sorted({*letters, LETTERS[word]}))}"))
        self.flags[uid] = self.flags[uid] | {word}
        self._settle()

    def _settle(self) -> None:
        """What others do is taken in soon, not at once (see store.standing)."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            rows = {uid: set(flags.split()) for uid, flags in self.mailbox.rows(None, ("uid", "flags"))}
            if rows == self.flags:
                return
            self.mailbox.refresh()
            time.sleep(0.02)
        raise AssertionError((rows, self.flags))

    @rule(name=session, n=place)
    def fetch_by_number(self, name: str, n: int) -> None:
        seen = self.seen[name]
        if seen.uids:
            number = n % len(seen.uids) + 1
            before = list(seen.uids)
            lines, _ = seen.command(f"FETCH {number} (UID FLAGS)")
            assert not any(b"EXPUNGE" in line or b"VANISHED" in line for line in lines)
            assert seen.uids[number - 1] in (before[number - 1], *self.flags)

    @rule(name=session)
    def look_at_everything(self, name: str) -> None:
        seen = self.seen[name]
        seen.ok("NOOP")
        assert len(seen.uids) == len(self.flags), (seen.uids, self.flags)
        found = {}
        for line in seen.ok("UID FETCH 1:* (FLAGS)"):
            if match := re.search(rb"UID (\d+) FLAGS \((.*?)\)", line):
                found[int(match[1])] = set(match[2].decode().split()) - {"\\Recent"}
        assert found == self.flags
        assert seen.uids == sorted(self.flags)
        (line,) = [each for each in seen.ok("UID SEARCH UNDELETED") if each.startswith(b"* SEARCH")]
        assert [int(word) for word in line.split()[2:]] == [
            uid for uid in sorted(self.flags) if "\\Deleted" not in self.flags[uid]
        ]

    @invariant()
    def modseq_only_grows(self) -> None:
        highest = self.mailbox.refresh()
        assert all(seen.modseq <= highest for seen in self.seen.values())


examples = int(os.environ.get("IMAP_MODEL_EXAMPLES", "12"))
TestMailbox = Mailbox.TestCase
TestMailbox.settings = settings(
    max_examples=examples,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking starts a server hundreds of times
)
TestMailbox = pytest.mark.timeout(60 + 30 * examples)(TestMailbox)
