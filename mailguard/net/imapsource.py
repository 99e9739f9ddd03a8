"""Another server's mail, read by IMAP to be copied: folders, flags, dates."""

from __future__ import annotations

import contextlib
import imaplib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

from mailguard.model.foreign import Foreign
from mailguard.net.tls import client_context
from mailguard.protocol.imap.mailboxname import decode_name, encode_name

_LIST = re.compile(rb'\((?P<attributes>[^)]*)\) (?:"(?P<separator>[^"])"|NIL) (?P<name>.+)')
_USES = {"\\drafts": "Drafts", "\\sent": "Sent", "\\junk": "Junk", "\\trash": "Trash", "\\archive": "Archive"}
_SKIPPED = {"\\noselect", "\\nonexistent", "\\all", "\\flagged", "\\important"}
_OCTETS = 4 << 20  # fetched at a time
_COUNT = 100
_TIMEOUT = 120.0


class SourceError(Exception):
    """The server refuses, or says what nobody understands."""


class ImapSource:
    """One connection. ``tls`` is ``tls``, ``starttls`` or ``none``; ``check`` whether certificates must be right."""

    def __init__(self, host: str, port: int = 0, *, tls: str = "tls", check: bool = True) -> None:
        """Raises SourceError."""
        context = client_context(verify=check)
        with _explained():
            if tls == "tls":
                self._server: imaplib.IMAP4 = imaplib.IMAP4_SSL(
                    host, port or 993, ssl_context=context, timeout=_TIMEOUT
                )
            else:
                self._server = imaplib.IMAP4(host, port or 143, timeout=_TIMEOUT)
                if tls == "starttls":
                    self._server.starttls(context)

    def __enter__(self) -> ImapSource:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._server.logout()

    def login(self, user: str, password: str) -> None:
        """Raises SourceError."""
        with _explained():
            self._server.login(_quoted(user), password)

    def folders(self) -> list[tuple[str, str]]:
        """Every folder that holds mail of its own, and the name it should have here."""
        with _explained():
            _, lines = self._server.list()
        found = []
        for line in lines:
            text = line[0] + b" " + line[1] if isinstance(line, tuple) else line
            match = _LIST.match(text or b"")
            if match is None:
                continue
            words = {word.lower() for word in match["attributes"].decode().split()}
            if words & _SKIPPED:
                continue
            name = match["name"].strip(b'"').replace(b'\\"', b'"').replace(b"\\\\", b"\\").decode("ascii", "replace")
            separator = (match["separator"] or b"").decode()
            use = next((_USES[word] for word in words if word in _USES), "")
            found.append((name, use or _here(name, separator)))
        return found

    def messages(self, folder: str, done: set[str]) -> tuple[Iterator[Foreign], set[str]]:
        """The messages of a folder that are not done yet, and the ids of all of them. Raises SourceError."""
        with _explained():
            kind, answer = self._server.select(_quoted(folder), readonly=True)
            if kind != "OK":
                raise SourceError(f"{folder} cannot be opened: {_first(answer)}")
            validity = _first(self._server.response("UIDVALIDITY")[1]) or "0"
            sizes = self._sizes() if _first(answer) != "0" else {}
        ids = {uid: f"{folder}\t{validity}\t{uid}" for uid in sizes}
        wanted = [uid for uid in sizes if ids[uid] not in done]
        return self._fetch(wanted, sizes, ids), set(ids.values())

    def _sizes(self) -> dict[int, int]:
        _, lines = self._server.uid("FETCH", "1:*", "(RFC822.SIZE)")
        sizes = {}
        for line in lines:
            uid, size = re.search(rb"UID (\d+)", line or b""), re.search(rb"RFC822\.SIZE (\d+)", line or b"")
            if uid and size:
                sizes[int(uid[1])] = int(size[1])
        return dict(sorted(sizes.items()))

    def _fetch(self, uids: Sequence[int], sizes: dict[int, int], ids: dict[int, str]) -> Iterator[Foreign]:
        ahead: Future[Sequence[Any]] | None = None
        with ThreadPoolExecutor(1) as pool:  # the next portion comes while the last one is put away
            for some in _portions(uids, sizes):
                ready, ahead = ahead, pool.submit(self._load, some)
                if ready is not None:
                    yield from _messages(ready.result(), ids)
            if ahead is not None:
                yield from _messages(ahead.result(), ids)

    def _load(self, uids: Sequence[int]) -> Sequence[Any]:
        with _explained():
            wanted = ",".join(map(str, uids))
            kind, parts = self._server.uid("FETCH", wanted, "(UID FLAGS INTERNALDATE BODY.PEEK[])")
        if kind != "OK":
            raise SourceError(f"FETCH: {_first(parts)}")
        return parts


def _messages(parts: Sequence[Any], ids: dict[int, str]) -> Iterator[Foreign]:
    """What imaplib made of FETCH answers: a pair of head and literal, then the tail, for each message."""
    for number, part in enumerate(parts):
        if not isinstance(part, tuple):
            continue
        tail = parts[number + 1] if number + 1 < len(parts) and isinstance(parts[number + 1], bytes) else b""
        text = part[0] + b" " + tail
        uid = re.search(rb"UID (\d+)", text)
        flags = re.search(rb"FLAGS \(([^)]*)\)", text)
        date = re.search(rb'INTERNALDATE "([^"]+)"', text)
        if uid and int(uid[1]) in ids:
            had = (flags[1] if flags else b"").decode("ascii", "replace").split()
            kept = tuple(flag for flag in had if flag.lower() != "\\recent")
            yield Foreign(ids[int(uid[1])], part[1], kept, _unix(date[1]) if date else None)


def _portions(uids: Sequence[int], sizes: dict[int, int]) -> Iterator[list[int]]:
    some: list[int] = []
    octets = 0
    for uid in uids:
        if some and (len(some) >= _COUNT or octets + sizes[uid] > _OCTETS):
            yield some
            some, octets = [], 0
        some.append(uid)
        octets += sizes[uid]
    if some:
        yield some


def _here(name: str, separator: str) -> str:
    """The name as it should be here: hierarchies with slashes, without the prefix ``INBOX`` that some servers have;
    a dot, which no Maildir++ name can hold, becomes a hyphen."""
    parts = name.split(separator) if separator else [name]
    if len(parts) > 1 and parts[0].upper() == "INBOX":
        parts = parts[1:]
    decoded = []
    for part in parts:
        with contextlib.suppress(ValueError):
            part = decode_name(part)
        decoded.append(part.replace(".", "-").replace("/", "-").lstrip("~") or "-")
    return "INBOX" if name.upper() == "INBOX" else "/".join(decoded)


def _quoted(text: str) -> str:
    if not text.isascii():
        text = encode_name(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _first(answer: Sequence[Any] | None) -> str:
    found = answer[0] if answer else None
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""


def _unix(date: bytes) -> float | None:
    try:
        return datetime.strptime(date.decode().strip(), "%d-%b-%Y %H:%M:%S %z").timestamp()
    except ValueError:
        return None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (imaplib.IMAP4.error, OSError, EOFError) as error:
        text = str(error)
        raise SourceError(text[2:-1] if text.startswith(("b'", 'b"')) else text or type(error).__name__) from error
