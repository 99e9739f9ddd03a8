"""THREAD=ORDEREDSUBJECT and THREAD=REFERENCES (RFC 5256 §4), without recursion: a thread may be very long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter

Row = tuple[int, int, str, str, str, bool]
"""What threading knows of one message: its Date in UTC seconds or INTERNALDATE, its number (sequence number or UID),
then as in describe.Description its message id, its references with spaces between them, its base subject, and whether
that was a reply's. Rows sort by date and number."""


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


_row: Callable[[_Node], Row] = attrgetter("row")


def _first(node: _Node) -> Row:
    """The message, or the first one below a container without one."""
    return node.row or _row(node.children[0])


def thread_by_references(rows: Iterable[Row]) -> bytes:
    """The threads as printed after ``* THREAD ``; ``rows`` in mailbox order."""
    nodes = _link(rows)
    roots = _prune(nodes)
    for node in roots:
        if node.row is None:
            node.children.sort(key=_row)
    roots.sort(key=_first)
    roots = _group_by_subject(roots)
    messages = [node for node in nodes if node.row is not None]
    for node in (*messages, *roots):
        if len(node.children) > 1:
            node.children.sort(key=_row)
    roots.sort(key=_first)
    return b"".join([text for root in roots for text in _printed(root)])


def thread_by_subject(rows: Iterable[Row]) -> bytes:
    """ORDEREDSUBJECT: one flat thread for each base subject, by the date of its first message."""
    threads: dict[str, list[int]] = {}
    for _, number, _, _, subject, _ in sorted(rows, key=itemgetter(0, 1)):
        threads.setdefault(subject, []).append(number)
    return b"".join([_flat(numbers) for numbers in threads.values()])


def _flat(numbers: Sequence[int]) -> bytes:
    if len(numbers) < 3:
        return b"(%b)" % b" ".join([b"%d" % number for number in numbers])
    return b"(%d %b)" % (numbers[0], b"".join([b"(%d)" % number for number in numbers[1:]]))


def _link(rows: Iterable[Row]) -> list[_Node]:
    """Step 1: every message under the one it refers to last, the referred ones under each other."""
    by_id: dict[str, _Node] = {}
    nodes: list[_Node] = []
    for row in rows:
        message_id, references = row[2], row[3]
        node = by_id.get(message_id) if message_id else None
        if node is None or node.row is not None:
            node = _Node(row)
            nodes.append(node)
            if message_id:
                by_id.setdefault(message_id, node)
        else:
            node.row = row
        parent: _Node | None = None
        for reference in references.split():
            referred = by_id.get(reference)
            if referred is None:
                referred = by_id[reference] = _Node()
                nodes.append(referred)
            if parent is not None and referred.parent is None and not parent.is_below(referred):
                parent.adopt(referred)
            parent = referred
        if parent is not None or node.parent is not None:
            _set_parent(node, parent)
    return nodes


def _set_parent(node: _Node, parent: _Node | None) -> None:
    if node.parent is not None and node.parent is not parent:
        node.parent.children.remove(node)
        node.parent = None
    if parent is not None and node.parent is None and not parent.is_below(node):
        parent.adopt(node)


def _prune(nodes: Sequence[_Node]) -> list[_Node]:
    """Step 3: containers without a message go; their children move up, to the root only a single one. Returns the
    roots."""
    risen: dict[_Node, list[_Node]] = {}  # by the node under which they come
    for node in nodes:
        if node.row is None and node.parent is not None:
            above = node.parent
            while above.row is None and above.parent is not None:
                above = above.parent
            node.parent = above  # the way is shorter for those below
            risen.setdefault(above, []).extend([child for child in node.children if child.row is not None])
    for above, children in risen.items():
        above.children = [child for child in above.children if child.row is not None] + children
        for child in children:
            child.parent = above
    roots = []
    for node in nodes:
        if node.parent is None and (node.row is not None or node.children):
            if node.row is None and len(node.children) == 1:
                node = node.children[0]
            roots.append(node)
    for node in roots:
        node.parent = None
    return roots


def _group_by_subject(roots: list[_Node]) -> list[_Node]:
    """Step 5: threads with one base subject become one."""
    table: dict[str, _Node] = {}
    for node in roots:
        subject = _first(node)[4]
        other = table.get(subject)
        if other is None or (node.row is None and other.row is not None) or _is_more_original(node, other):
            table[subject] = node
    if len(table) == len(roots):
        return roots
    places = {node: place for place, node in enumerate(roots)}
    for node in list(roots):
        subject = _first(node)[4]
        other = table[subject]
        if other is node or not subject:
            continue
        if other.row is None and node.row is None:
            for child in list(node.children):
                other.adopt(child)
            node.parent = other  # nothing is left of it
        elif other.row is None or (node.row is not None and node.row[5] and not other.row[5]):
            other.adopt(node)
        else:
            both = table[subject] = _Node()
            roots[places[other]] = both
            both.adopt(other)
            both.adopt(node)
    return [node for node in roots if node.parent is None]


def _is_more_original(node: _Node, other: _Node) -> bool:
    return other.row is not None and node.row is not None and other.row[5] and not node.row[5]


def _printed(root: _Node) -> Iterator[bytes]:
    yield b"("
    todo: list[_Node | bytes] = [b")", root]
    spaced = False
    while todo:
        item = todo.pop()
        if isinstance(item, bytes):
            yield item
            spaced = False
            continue
        if item.row is not None:
            yield b" %d" % item.row[1] if spaced else b"%d" % item.row[1]
            spaced = True
        if len(item.children) == 1 and item.row is not None:
            todo.append(item.children[0])
        elif item.children:
            yield b" " if spaced else b""
            for child in reversed(item.children):
                if child.children:
                    todo.extend((b")", child, b"("))
                else:
                    todo.append(b"(%d)" % _row(child)[1])
