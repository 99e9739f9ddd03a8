"""THREAD=ORDEREDSUBJECT and THREAD=REFERENCES (RFC 5256 §4), without recursion: a thread may be very long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What threading knows of one message: ``number`` is what the answer shows (sequence number or UID), ``sent_at``
    its Date in UTC seconds or INTERNALDATE; the others as in describe.Description."""

    number: int
    message_id: str
    references: tuple[str, ...]
    base_subject: str
    is_reply: bool
    sent_at: int


class _Node:
    """A container: ``row`` is None where a message is only referred to."""

    __slots__ = ("children", "parent", "row")

    def __init__(self, row: Row | None = None) -> None:
        self.row = row
        self.parent: _Node | None = None
        self.children: list[_Node] = []

    def adopt(self, child: _Node) -> None:
        if child.parent is not None:
            child.parent.children.remove(child)
        child.parent = self
        self.children.append(child)

    def is_below(self, other: _Node) -> bool:
        """Whether it is ``other`` or under it."""
        if not other.children:
            return self is other
        node: _Node | None = self
        while node is not None and node is not other:
            node = node.parent
        return node is other

    @property
    def first(self) -> Row | None:
        """The message, or the first one below a container without one."""
        return self.row or (self.children[0].row if self.children else None)


def _date(node: _Node) -> tuple[int, int]:
    row = node.first
    return (row.sent_at, row.number) if row else (0, 0)


def thread_by_references(rows: Iterable[Row]) -> bytes:
    """The threads as printed after ``* THREAD ``; ``rows`` in mailbox order."""
    nodes = _link(rows)
    roots = _prune([node for node in nodes if node.parent is None])
    for node in roots:
        if node.row is None:
            node.children.sort(key=_date)
    roots.sort(key=_date)
    roots = _group_by_subject(roots)
    for root in roots:
        for node in _below(root):
            if len(node.children) > 1:
                node.children.sort(key=_date)
    roots.sort(key=_date)
    return b"".join([_print(root) for root in roots])


def thread_by_subject(rows: Iterable[Row]) -> bytes:
    """ORDEREDSUBJECT: one flat thread for each base subject, by the date of its first message."""
    threads: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda r: (r.sent_at, r.number)):
        threads.setdefault(row.base_subject, []).append(row)
    out: list[bytes] = []
    for first, *others in threads.values():
        below = [b"%d" % row.number for row in others]
        tail = b"" if not below else b" " + below[0] if len(below) == 1 else b" (%b)" % b")(".join(below)
        out.append(b"(%d%b)" % (first.number, tail))
    return b"".join(out)


def _link(rows: Iterable[Row]) -> list[_Node]:
    """Step 1: every message under the one it refers to last, the referred ones under each other."""
    by_id: dict[str, _Node] = {}
    nodes: list[_Node] = []
    for row in rows:
        node = by_id.get(row.message_id) if row.message_id else None
        if node is None or node.row is not None:
            node = _Node()
            nodes.append(node)
            if row.message_id:
                by_id.setdefault(row.message_id, node)
        node.row = row
        parent: _Node | None = None
        for reference in row.references:
            referred = by_id.get(reference)
            if referred is None:
                referred = by_id[reference] = _Node()
                nodes.append(referred)
            if parent is not None and referred.parent is None and not parent.is_below(referred):
                parent.adopt(referred)
            parent = referred
        _set_parent(node, parent)
    return nodes


def _set_parent(node: _Node, parent: _Node | None) -> None:
    if node.parent is not None and node.parent is not parent:
        node.parent.children.remove(node)
        node.parent = None
    if parent is not None and node.parent is None and not parent.is_below(node):
        parent.adopt(node)


def _prune(roots: list[_Node]) -> list[_Node]:
    """Step 3: containers without a message go; their children move up, to the root only a single one."""
    kept: list[_Node] = []
    for root in roots:
        for node in reversed(list(_below(root))):
            if any(child.row is None for child in node.children):
                node.children = [up for child in node.children for up in ([child] if child.row else child.children)]
                for child in node.children:
                    child.parent = node
        if root.row is None and len(root.children) == 1:
            root = root.children[0]
            root.parent = None
        if root.row is not None or root.children:
            kept.append(root)
    return kept


def _below(root: _Node) -> Iterator[_Node]:
    """The node and all below it, parents first."""
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        todo.extend(node.children)


def _group_by_subject(roots: list[_Node]) -> list[_Node]:
    """Step 5: threads with one base subject become one."""
    table: dict[str, _Node] = {}
    for node in roots:
        row = node.first
        if row is None or not row.base_subject:
            continue
        other = table.get(row.base_subject)
        if other is None or (node.row is None and other.row is not None) or _is_more_original(node, other):
            table[row.base_subject] = node
    merged: list[_Node] = []
    for node in roots:
        row = node.first
        other = table.get(row.base_subject) if row and row.base_subject else None
        if other is None or other is node or row is None:
            merged.append(node)
        elif other.row is None and node.row is None:
            for child in list(node.children):
                other.adopt(child)
        elif other.row is None or (node.row is not None and node.row.is_reply and not other.row.is_reply):
            other.adopt(node)
        else:
            both = _Node()
            table[row.base_subject] = both
            if other in merged:
                merged[merged.index(other)] = both
            else:
                merged.append(both)
            both.adopt(other)
            both.adopt(node)
    return [node for node in merged if node.parent is None]


def _is_more_original(node: _Node, other: _Node) -> bool:
    return other.row is not None and node.row is not None and other.row.is_reply and not node.row.is_reply


def _print(root: _Node) -> bytes:
    out: list[bytes] = [b"("]
    todo: list[_Node | bytes] = [b")", root]
    spaced = False
    while todo:
        item = todo.pop()
        if isinstance(item, bytes):
            out.append(item)
            spaced = False
            continue
        if item.row is not None:
            out.append(b" %d" % item.row.number if spaced else b"%d" % item.row.number)
            spaced = True
        if len(item.children) == 1 and item.row is not None:
            todo.append(item.children[0])
        elif item.children:
            out.append(b" " if spaced else b"")
            for child in reversed(item.children):
                todo.extend((b")", child, b"("))
    return b"".join(out)
