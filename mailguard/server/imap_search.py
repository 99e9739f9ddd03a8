"""SEARCH, SORT and THREAD (RFC 9051 §6.4.4, RFC 4731, RFC 5182, RFC 5256, RFC 9394)."""

from __future__ import annotations

from collections.abc import Sequence

from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.response import esearch_line, numbers_line
from mailguard.protocol.imap.search import All, resolve, uses_modseq
from mailguard.protocol.imap.searchgrammar import Search, Sort, Thread
from mailguard.protocol.imap.sequence import render_set
from mailguard.protocol.imap.sort import SortKey
from mailguard.protocol.imap.text import quoted
from mailguard.protocol.imap.thread import Row, thread_by_references, thread_by_subject
from mailguard.server.imap_client import Client, Done, Handler, Selected
from mailguard.server.imap_fetch import window
from mailguard.store.search import find as find_in

_COLUMNS = {
    "ARRIVAL": "date", "CC": "cc_key", "DATE": "sent", "FROM": "from_key", "SIZE": "size",
    "SUBJECT": "base_subject", "TO": "to_key", "DISPLAYFROM": "display_from", "DISPLAYTO": "display_to",
}  # fmt: skip


_THREADED = ("sent", "uid", "message_id", "references", "base_subject", "is_reply")  # see thread.Row


def search(client: Client, command: Search) -> Done:
    """SEARCH."""
    uids = find(client, command)
    answer(client, command, uids, b"SEARCH")
    if command.update:
        key, tag = resolve(command.key, client.selected.view.search_uids), client.request.tag
        if not client.contexts.add(tag, uid=command.uid, key=key, uids=uids):
            client.send(b"* NO [NOUPDATE %b] too many searches are kept up to date\r\n" % quoted(tag))
    return Done()


def cancel(client: Client, tags: tuple[bytes, ...]) -> None:
    """CANCELUPDATE."""
    client.contexts.cancel(tags)


def find(client: Client, command: Search) -> list[int]:
    """The UIDs that match, of those the client knows, ascending. A failed search empties ``$`` if it was to be set."""
    selected = client.selected
    if uses_modseq(command.key):
        client.enable_condstore()
    try:
        if command.refused:
            raise command.refused
        if isinstance(command.key, All):
            return list(selected.view.uids)
        key = resolve(command.key, selected.view.search_uids)
        return selected.view.known(find_in(selected.mailbox, key, client.now()))
    except CommandError:
        if command.results and "SAVE" in command.results:
            selected.view.saved = []
        raise


def answer(client: Client, command: Search, uids: Sequence[int], verb: bytes) -> None:
    """Prints a result, in the order given; saves it where that is asked for."""
    view = client.selected.view
    shown: Sequence[int] = uids if command.uid else view.numbers(uids)
    highest = _highest(client, command, uids)
    if command.results is None and "IMAP4REV2" not in client.session.enabled:
        tail = b" (MODSEQ %d)" % highest if highest else b""
        client.send(numbers_line(verb, shown, tail))
        return
    results = command.results or ("ALL",)
    if "SAVE" in results:
        view.saved = _saved(results, list(uids), command)
        if results == ("SAVE",):
            return
    pairs = _pairs(results, shown, command, ordered=verb == b"SORT")
    if highest:
        pairs.append(("MODSEQ", b"%d" % highest))
    client.send(esearch_line(client.request.tag, command.uid, pairs))


def _highest(client: Client, command: Search, uids: Sequence[int]) -> int:
    """The MODSEQ of the answer: of MIN and MAX if they are all it tells (RFC 7162 §3.1.10)."""
    if not uids or not uses_modseq(command.key):
        return 0
    told = set(command.results or ("ALL",)) - {"SAVE"}
    if told <= {"MIN", "MAX"}:
        uids = [uids[0]] * ("MIN" in told) + [uids[-1]] * ("MAX" in told)
    return max((int(modseq) for (modseq,) in client.selected.mailbox.rows(sorted(uids), ("modseq",))), default=0)


def _pairs(results: Sequence[str], shown: Sequence[int], command: Search, *, ordered: bool) -> list[tuple[str, bytes]]:
    pairs: list[tuple[str, bytes]] = []
    if shown and "MIN" in results:
        pairs.append(("MIN", b"%d" % (shown[0] if ordered else min(shown))))
    if shown and "MAX" in results:
        pairs.append(("MAX", b"%d" % (shown[-1] if ordered else max(shown))))
    if "COUNT" in results:
        pairs.append(("COUNT", b"%d" % len(shown)))
    if shown and "ALL" in results:
        pairs.append(("ALL", render_set(shown).encode()))
    if command.partial is not None:
        first, last = command.partial
        part = window(shown, command.partial)
        pairs.append(("PARTIAL", b"(%d:%d %b)" % (first, last, render_set(part).encode() if part else b"NIL")))
    return pairs


def _saved(results: Sequence[str], uids: list[int], command: Search) -> list[int]:
    """What ``$`` stands for afterwards (RFC 5182 §2.4): only MIN and MAX where nothing else is asked for."""
    if {"ALL", "COUNT"} & set(results) or set(results) == {"SAVE"} or not uids:
        return sorted(uids)
    if command.partial is not None:
        return sorted(window(uids, command.partial))
    ends = ([uids[0]] if "MIN" in results else []) + ([uids[-1]] if "MAX" in results else [])
    return sorted(set(ends))


def sort(client: Client, command: Sort) -> Done:
    """SORT."""
    uids = find(client, command.search)
    answer(client, command.search, sorted_uids(client, uids, command.order), b"SORT")
    return Done()


def sorted_uids(client: Client, uids: list[int], order: Sequence[SortKey]) -> list[int]:
    """The UIDs in the order of these keys; equal ones in mailbox order (RFC 5256 §3)."""
    keys = [(_COLUMNS[key.name], key.reverse) for key in order]
    return client.selected.mailbox.sorted_uids(uids, keys)


def thread(client: Client, command: Thread) -> Done:
    """THREAD."""
    uids = find(client, command.search)
    threads = threaded(client.selected, uids, command)
    client.send(b"* THREAD%b%b\r\n" % (b" " if threads else b"", threads))
    return Done()


def threaded(selected: Selected, uids: list[int], command: Thread) -> bytes:
    """The threads of these messages as printed; those of a whole mailbox are remembered."""
    roster = selected.mailbox.roster()
    every = uids == roster.uids == selected.view.uids
    asked = ("THREAD", command.algorithm, command.search.uid)
    if every and (threads := roster.recall(asked)) is not None:
        return bytes(threads)
    found = selected.mailbox.rows(uids, _THREADED)
    rows: list[Row] = found
    if not command.search.uid:
        numbers = selected.view.numbers([row[1] for row in found])
        rows = [(row[0], number, *row[2:]) for number, row in zip(numbers, found, strict=True)]
    threads = (thread_by_references if command.algorithm == "REFERENCES" else thread_by_subject)(rows)
    return roster.remember(asked, threads) if every and len(rows) == len(uids) else threads


HANDLERS: dict[str, Handler] = {
    "CANCELUPDATE": cancel,
    "SEARCH": search, "UID SEARCH": search, "SORT": sort, "UID SORT": sort, "THREAD": thread, "UID THREAD": thread,
}  # fmt: skip
