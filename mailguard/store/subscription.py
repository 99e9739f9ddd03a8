"""The names a user subscribed to, in Dovecot's file, and the special uses given to mailboxes (RFC 6154)."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mailguard.protocol.imap.mailboxname import decode_name, encode_name
from mailguard.store import uidlist

SEPARATOR = "/"
DEFAULT_USES = {"Drafts": "\\Drafts", "Sent": "\\Sent", "Junk": "\\Junk", "Trash": "\\Trash", "Archive": "\\Archive"}
_SUBSCRIPTIONS = "subscriptions"
_USES = "mailguard-special-use"


def read_subscriptions(root: Path) -> list[str]:
    """The names, from version 1 or 2 of the file."""
    try:
        lines = (root / _SUBSCRIPTIONS).read_text("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
    separator = "."
    if lines[0] == "V\t2":
        separator, lines = "\t", lines[2:]
    return [SEPARATOR.join(map(_decoded, line.split(separator))) for line in lines if line]


def _decoded(part: str) -> str:
    with contextlib.suppress(ValueError):
        return decode_name(part)
    return part


def write_subscriptions(root: Path, names: list[str]) -> None:
    """Replaces the file, in version 2: names in modified UTF-7, their parts divided by tabs."""
    lines = ("\t".join(map(encode_name, name.split(SEPARATOR))) + "\n" for name in dict.fromkeys(names))
    uidlist.replace(root / _SUBSCRIPTIONS, "V\t2\n\n" + "".join(lines))


def read_uses(root: Path) -> dict[str, str]:
    """Special uses by mailbox name: those given, and the usual names for uses that nobody gave away."""
    given: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (root / _USES).read_text("utf-8", "replace").split("\n"):
            use, _, name = line.partition("\t")
            given[name] = use
    taken = {use for uses in given.values() for use in uses.split()}
    return {name: use for name, use in DEFAULT_USES.items() if use not in taken} | given


def write_uses(root: Path, uses: dict[str, str]) -> None:
    """Replaces what was given; the usual ones need not be written."""
    given = {name: use for name, use in uses.items() if DEFAULT_USES.get(name) != use}
    uidlist.replace(root / _USES, "".join(f"{use}\t{name}\n" for name, use in given.items()))
