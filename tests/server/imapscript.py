"""Runs scripted IMAP tests: a header, commands with the results they must have, and the untagged answers to expect."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_RESULTS = ("ok", "no", "bad", '""')
_TOKEN = re.compile(
    rb'\s*(?:(\()|(\))|(\[)|(\])|"((?:[^"\\]|\\.)*)"|~?\{(\d+)\}\r\n|((?:\$\{\w+\}|[^\s()"\[\]{])+))', re.S
)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")

Tree = Any  # bytes, or a list of trees


class ScriptError(AssertionError):
    """The server's answer is not what the script expects."""


@dataclass
class Step:
    """A command and what belongs to it; ``reply`` is the pattern of its tagged answer, ``tag`` set if pipelined."""

    connection: int
    line: int
    command: bytes
    result: str = ""
    tag: str = ""
    reply: bytes = b""
    expected: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass
class Script:
    """One parsed file."""

    header: dict[str, str]
    steps: list[Step]
    messages: list[tuple[bytes, str]]


def load(path: Path) -> Script:
    """Reads a script and its mailbox (its own, else the common one)."""
    mbox = path.with_name(path.name + ".mbox")
    messages = _messages((mbox if mbox.exists() else path.with_name("default.mbox")).read_bytes())
    head, _, body = path.read_bytes().partition(b"\n\n")
    header: dict[str, str] = {}
    if re.match(rb"(?:#[^\n]*\n)*[a-z_]+: ", head):
        for line in head.decode().splitlines():
            name, _, value = line.partition(":")
            if value:
                header[name.strip()] = value.strip()
    else:
        body = head + b"\n\n" + body
    return Script(header, _steps(body, int(header.get("connections", "1")) > 1), messages)


def _messages(data: bytes) -> list[tuple[bytes, str]]:
    found = []
    for match in re.finditer(rb"^From [^\n]*\n(.*?)(?=^From |\Z)", data, re.S | re.M):
        stamp = re.search(rb"[A-Z][a-z]{2} +([A-Z][a-z]{2}) +(\d+) (\d\d:\d\d:\d\d) (\d{4})(?: ([+-]\d{4}))?", match[0])
        assert stamp is not None
        month, day, time, year, zone = (word.decode() for word in stamp.groups(b"+0000"))
        text = f"{int(day):02d}-{month}-{year} {time} {zone}"
        found.append((match[1].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), text))
    return found


def _lines(body: bytes) -> list[tuple[int, bytes]]:
    """Logical lines: ``{{{`` to ``}}}`` becomes a literal."""
    found: list[tuple[int, bytes]] = []
    number, rest = 0, body.split(b"\n")
    while rest:
        line = rest.pop(0)
        number += 1
        start = number
        while line.endswith(b"{{{"):
            pieces: list[bytes] = []
            while rest:
                more = rest.pop(0)
                number += 1
                if more.startswith(b"}}}"):
                    break
                pieces.append(more)
            text = b"\r\n".join(pieces).replace(b"\r\r\n", b"\r\n")
            line = line[:-3] + b"{%d}\r\n%b" % (len(text), text) + more[3:]
        if line.strip() and not line.startswith(b"#"):
            found.append((start, line))
    return found


def _steps(body: bytes, several: bool) -> list[Step]:
    steps: list[Step] = []
    for number, line in _lines(body):
        if line[:2] in (b"* ", b"! ", b"? ") or line == b"*":
            steps[-1].expected.append((line[:1].decode(), line[2:]))
            continue
        connection = 0
        if several and (match := re.match(rb"(\d+) ", line)):
            connection, line = int(match[1]) - 1, line[match.end() :]
        word, _, rest = line.partition(b" ")
        first = word.decode().lower()
        if first in _RESULTS:
            waiting = steps[-1] if steps and not steps[-1].result and steps[-1].connection == connection else None
            if waiting is not None and waiting.tag == "":
                waiting.result, waiting.reply = first, rest
            else:
                steps.append(Step(connection, number, rest, first))
        elif rest.split(b" ")[0].lower() in (b"ok", b"no", b"bad") and re.fullmatch(r"tag\d+", first):
            steps.append(Step(connection, number, b"", rest.decode().split()[0].lower(), first))
        elif re.fullmatch(r"tag\d+", first):
            steps.append(Step(connection, number, rest, "", first))
        else:
            steps.append(Step(connection, number, line))
    return steps


class Runner:
    """Runs one script. ``connect`` makes a signed-in client (or one that is not), see imapoffice.Bare."""

    def __init__(self, script: Script, connect: Callable[[bool], Any], mailbox: str = "scripted") -> None:
        self.script = script
        self.mailbox = mailbox
        self._connect = connect
        self._variables: dict[str, Tree] = {"mailbox": mailbox.encode(), "mailbox_url": mailbox.encode()}
        self._next_message = 0
        self._clients: list[Any] = []
        self._numbers: list[list[int]] = []

    def run(self) -> None:
        """Raises ScriptError."""
        state = self.script.header.get("state", "selected")
        count = int(self.script.header.get("connections", "1"))
        self._clients = [self._connect(state != "nonauth") for _ in range(count)]
        self._numbers = [[] for _ in range(count)]
        if state not in ("nonauth", "auth"):
            self._prepare(state)
        pending: dict[str, list[bytes]] = {}
        for step in self.script.steps:
            try:
                self._step(step, pending)
            except AssertionError as error:
                raise ScriptError(f"line {step.line}: {step.command[:80]!r}: {error}") from None

    def capabilities(self) -> list[str]:
        """Those the script needs."""
        return self.script.header.get("capabilities", "").upper().split()

    def close(self) -> None:
        """Ends the connections."""
        for client in self._clients:
            client.__exit__(None, None, None)

    def _prepare(self, state: str) -> None:
        first = self._clients[0]
        first.command(f"DELETE {self.mailbox}")
        first.ok(f"CREATE {self.mailbox}")
        if state == "created":
            return
        wanted = self.script.header.get("messages", "0")
        for _ in range(len(self.script.messages) if wanted == "all" else int(wanted)):
            assert first.append(self.mailbox, *self._message()).startswith(b"OK")
        if state == "selected":
            for client, numbers in zip(self._clients, self._numbers, strict=True):
                lines = client.ok(f"SELECT {self.mailbox}")
                self._follow(numbers, lines)

    def _message(self) -> tuple[bytes, str]:
        message, date = self.script.messages[self._next_message % len(self.script.messages)]
        self._next_message += 1
        return message, f'"{date}" '

    def _step(self, step: Step, pending: dict[str, list[bytes]]) -> None:
        client = self._clients[step.connection]
        if step.tag and step.command:
            client.send(step.tag.encode() + b" " + self._expand(step.command) + b"\r\n")
            pending[step.tag] = step_lines = []
            self._waiting = (step_lines, step)
            return
        if step.tag:
            lines, result = [], b""
            while not result.lower().startswith(step.tag.encode() + b" "):
                result = client.line()
                lines.append(result)
            assert result.split(b" ")[1].decode().lower() == step.result, result
            return
        lines, result = client.command(self._command(step))
        self._variables["tag"] = b"t%d" % client._count
        before = list(self._numbers[step.connection])
        self._follow(self._numbers[step.connection], lines)
        assert step.result == '""' or result.split(b" ")[0].decode().lower() == step.result, result
        for kind, pattern in step.expected:
            self._check(kind, pattern, lines, before)
        if step.reply:
            self._check("*", step.reply, [result.partition(b" ")[2]], before)

    def _command(self, step: Step) -> bytes:
        command = self._expand(step.command)
        words = command.split(b" ", 1)
        if words[0].lower() == b"append" and b"{" not in command:
            message, date = self._message()
            target = words[1] if len(words) > 1 else self.mailbox.encode()
            return b"APPEND %b %b{%d}\r\n%b" % (target, date.encode(), len(message), message)
        return command

    def _follow(self, numbers: list[int], lines: list[bytes]) -> None:
        """Keeps which original message each number now means."""
        for line in lines:
            if match := re.match(rb"\* (\d+) (EXISTS|EXPUNGE)\Z", line, re.I):
                if match[2].upper() == b"EXPUNGE":
                    del numbers[int(match[1]) - 1 : int(match[1])]
                else:
                    fresh = int(match[1]) - len(numbers)
                    numbers.extend(range(max(numbers, default=0) + 1, max(numbers, default=0) + 1 + fresh))
            elif re.match(rb"\* FLAGS ", line, re.I) and b"EXISTS" in b" ".join(lines):
                numbers.clear() if lines and lines.index(line) < 3 else None

    def _expand(self, text: bytes) -> bytes:
        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            found = self._variables.get(name)
            return found.decode("latin-1") if isinstance(found, bytes) else match[0]

        parts = text.decode("latin-1").split("$$")
        return "$".join(_VARIABLE.sub(value, part) for part in parts).encode("latin-1")

    def _check(self, kind: str, pattern: bytes, lines: list[bytes], before: list[int]) -> None:
        pattern = self._moving(pattern, before)
        expected = parse(pattern)
        for line in lines:
            bound = dict(self._variables)
            if Matcher(bound).line(expected, parse(line.removeprefix(b"* "))):
                if kind == "!":
                    raise ScriptError(f"unwanted {line!r}")
                self._variables.update(bound)
                return
        if kind == "*":
            raise ScriptError(f"no {pattern!r} in {lines!r}")

    def _moving(self, pattern: bytes, before: list[int]) -> bytes:
        """``$3 expunge``: message 3 of the start, as its number is when that answer comes."""
        match = re.match(rb"\$(\d+) (expunge|fetch)", pattern, re.I)
        if not match:
            return pattern
        wanted = int(match[1])
        if not hasattr(self, "_moved") or self._moved[0] is not before:
            self._moved = (before, list(range(1, len(before) + 1)))
        left = self._moved[1]
        number = left.index(wanted) + 1 if wanted in left else 0
        if match[2].lower() == b"expunge" and number:
            left.remove(wanted)
        return b"%d%b" % (number, pattern[match.end(1) :])


def parse(text: bytes) -> list[Tree]:
    """An answer as nested lists; section brackets stay with their word."""
    stack: list[list[Tree]] = [[]]
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            break
        at = match.end()
        if match[1]:
            stack.append([])
        elif match[3]:
            end = text.find(b"]", at)
            after_word = bool(stack[-1]) and isinstance(stack[-1][-1], bytes)
            joined = after_word and text[match.start() : match.start() + 1] == b"["
            inner = text[at:end] if end >= 0 else text[at:]
            at = end + 1 if end >= 0 else len(text)
            if joined:
                tail = re.match(rb"<[\d.]+>", text[at:])
                stack[-1][-1] += b"[" + inner + b"]" + (tail[0] if tail else b"")
                at += tail.end() if tail else 0
            else:
                stack[-1].append([b"[", *parse(inner)])
        elif match[2] or match[4]:
            if len(stack) > 1:
                done = stack.pop()
                stack[-1].append(done)
        elif match[6]:
            stack[-1].append(text[at : at + int(match[6])])
            at += int(match[6])
        elif match[5] is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", match[5]))
        else:
            stack[-1].append(match[7])
    return stack[0]


class Matcher:
    """Compares answers with patterns; binds variables in ``bound``."""

    def __init__(self, bound: dict[str, Tree]) -> None:
        self.bound = bound

    def line(self, expected: list[Tree], actual: list[Tree]) -> bool:
        """Whether a line is as expected; more words may follow."""
        words = [w.lower() for w in actual[:2] if isinstance(w, bytes)]
        if words[:1] in ([b"search"], [b"sort"], [b"thread"]) and len(expected) != len(actual):
            return False
        if len(words) == 2 and words[1] == b"fetch" and len(expected) == 3 and len(actual) == 3:
            return self.prefix(expected[:2], actual[:2]) and self.pairs(expected[2], actual[2])
        if words[:1] == [b"status"] and len(expected) == 3 and len(actual) == 3:
            return self.prefix(expected[:2], actual[:2]) and self.pairs(expected[2], actual[2])
        return self.prefix(expected, actual)

    def pairs(self, expected: Tree, actual: Tree) -> bool:
        """Data items in any order."""
        if not isinstance(expected, list) or not isinstance(actual, list):
            return False
        there = {actual[n].lower(): actual[n + 1] for n in range(0, len(actual) - 1, 2)}
        for n in range(0, len(expected) - 1, 2):
            name = expected[n].lower()
            if name not in there:
                return False
            if name == b"flags":
                if not self.flags(expected[n + 1], there[name]):
                    return False
            elif not self.one(expected[n + 1], there[name]):
                return False
        return True

    def flags(self, expected: Tree, actual: Tree) -> bool:
        """Flags in any order; \\Recent may be there."""
        want = {f.replace(b"$$", b"$").lower() for f in expected if not f.startswith(b"$!")}
        have = {f.lower() for f in actual}
        return want - {b"\\recent"} == have - {b"\\recent"} and want <= have

    def prefix(self, expected: list[Tree], actual: list[Tree]) -> bool:
        """Word by word; directives in lists are obeyed."""
        directives = [w for w in expected if isinstance(w, bytes) and w.startswith(b"$!")]
        expected = [w for w in expected if w not in directives]
        banned = [w.partition(b"=")[2].lower() for w in directives if w.startswith(b"$!ban=")]
        if any(isinstance(w, bytes) and w.lower() in banned for w in actual):
            return False
        if b"$!unordered" in directives or all(isinstance(w, bytes) and w.startswith(b"\\") for w in expected):
            return all(any(self.one(want, have) for have in actual) for want in expected)
        return len(expected) <= len(actual) and all(map(self.one, expected, actual))

    def one(self, expected: Tree, actual: Tree) -> bool:
        """One word or list."""
        if isinstance(expected, list):
            return isinstance(actual, list) and self.prefix(expected, actual)
        if match := re.fullmatch(rb"(.*?)\$\{?(\w+)\}?(.*)", expected, re.S):
            return self._variable(match, actual)
        if not isinstance(actual, bytes):
            return False
        return _lines_alike(self._expanded(expected)) == _lines_alike(actual)

    def _variable(self, match: re.Match[bytes], actual: Tree) -> bool:
        name = match[2].decode()
        if match[0] == b"$" + match[2] or match[0] == b"${" + match[2] + b"}":
            if name in self.bound:
                known = self.bound[name]
                return bool(known.lower() == actual.lower() if isinstance(known, bytes) and isinstance(actual, bytes)
                            else known == actual)  # fmt: skip
            self.bound[name] = actual
            return True
        return isinstance(actual, bytes) and self._expanded(match[0]).lower() == actual.lower()

    def _expanded(self, text: bytes) -> bytes:
        def value(match: re.Match[str]) -> str:
            found = self.bound.get(match[1] or match[2])
            return found.decode("latin-1") if isinstance(found, bytes) else match[0]

        parts = text.decode("latin-1").split("$$")
        return "$".join(_VARIABLE.sub(value, part) for part in parts).encode("latin-1")


def _lines_alike(text: bytes) -> bytes:
    """In lower case, with one kind of line end: a script cannot say which it means."""
    return text.lower().replace(b"\r\n", b"\n")
