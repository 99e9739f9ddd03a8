"""Does the DNS hold the keys we sign with? Where it does not, every receiver sees a broken signature."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from mailguard.delivery.dkimkey import DkimKey, DkimKeyError, DkimKeys, KeyState
from mailguard.net.resolver import DnsTemporaryError, Resolver

_FIRST, _EVERY = 60.0, 86_400.0  # seconds from the start to the first look, and between looks


class KeyPublication(Enum):
    """What the DNS says of a key."""

    GOOD = "published"
    MISSING = "not published"
    OTHER = "another key is published"
    UNKNOWN = "the DNS does not answer"


def published(key: DkimKey, resolver: Resolver) -> tuple[KeyPublication, str]:
    """Whether the key's record is there and is its own, and what to do about it (``""`` where nothing)."""
    try:
        found = resolver.query(key.record_name, "TXT").records
    except DnsTemporaryError as error:
        return KeyPublication.UNKNOWN, f"check the resolver ({error}), then try again"
    if any(_public(text) == _public(key.record) for text in found):
        return KeyPublication.GOOD, ""
    cure = f"publish TXT {key.record} at {key.record_name}"
    return (KeyPublication.OTHER if found else KeyPublication.MISSING), cure


def _public(record: str) -> str:
    tags = dict(part.strip().partition("=")[::2] for part in record.split(";") if "=" in part)
    return "".join(tags.get("p", "").split())


def wrong_keys(folder: Path, domains: Sequence[str], resolver: Resolver) -> Iterator[tuple[str, str, str]]:
    """``(domain, what is wrong, the cure)`` for every domain of ours whose mail others cannot check."""
    store = DkimKeys(folder)
    for domain in domains:
        try:
            keys = [key for key in store.keys(domain) if key.state is KeyState.SIGNING]
        except (DkimKeyError, OSError) as error:
            yield domain, str(error), "mail is not signed until then"
            continue
        if not keys:
            yield domain, "its mail is not signed with DKIM", f"`mailguard dkim add {domain}`"
        for key in keys:
            state, cure = published(key, resolver)
            if state is not KeyPublication.GOOD:
                yield domain, f"{key.record_name}: {state.value}", cure


def watch_keys(folder: Path, domains: Sequence[str], resolver: Resolver, log: Any, stop: threading.Event) -> None:
    """Warns in the log once a day, until ``stop``; a job of the elected worker."""
    pause = _FIRST
    while not stop.wait(pause):
        pause = _EVERY
        for domain, problem, cure in wrong_keys(folder, domains, resolver):
            log.warning("DKIM is not in order", domain=domain, problem=problem, cure=cure)
