"""The text of a message that SEARCH BODY, TEXT and HEADER look at, decoded and folded once (RFC 9051 §6.4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mailguard.model.charset import decode_header
from mailguard.model.mime import Part, parse, unfold
from mailguard.protocol.imap.htmltext import html_text
from mailguard.protocol.imap.sort import fold


@dataclass(frozen=True, slots=True)
class SearchText:
    """``header`` holds ``name: value`` of every field between line feeds, ``body`` the text of all parts and the
    header fields of all but the first. Both are folded (see sort.fold), so neither text holds a line feed."""

    header: str
    body: str

    def has_field(self, name: str, text: str) -> bool:
        """Whether a field of this name (lower case) contains the folded ``text``."""
        start, mark = 0, f"\n{name}: "
        while (start := self.header.find(mark, start)) >= 0:
            end = self.header.index("\n", start + 1)
            if self.header.find(text, start + len(mark), end) >= 0:
                return True
            start = end
        return False


def search_text(raw: bytes) -> SearchText:
    """Reads a whole message; never raises."""
    root = parse(raw)
    return SearchText(_fields(root), fold(" ".join(_texts(root))))


def _fields(part: Part) -> str:
    lines = [
        f"{name.decode('ascii', 'replace')}: {fold(decode_header(unfold(value)))}"
        for name, values in part.fields.items()
        for value in values
    ]
    return "\n" + "\n".join(lines) + "\n" if lines else "\n"


def _texts(root: Part) -> Iterator[str]:
    for part in root.walk():
        if part is not root:
            yield decode_header(part.header)
        kind = part.kind
        if kind == "text/html":
            yield html_text(part.text())
        elif kind.startswith("text/"):
            yield part.text()
