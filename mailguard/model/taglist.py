"""Lists of tags as DNS records of the mail world hold them: ``v=DMARC1; p=none`` (RFC 6376 §3.2)."""

from __future__ import annotations

import re

_TAG = re.compile(r"\s*([a-z][a-z0-9_]*)\s*=\s*([^;]*?)\s*\Z", re.IGNORECASE)


def tags_of(text: str, version: str) -> dict[str, str] | None:
    """The tags of a record that begins with ``v=VERSION``, names in lower case; None if it does not.

    What is no tag is skipped, and of several with one name the first counts.
    """
    first, *rest = text.split(";")
    name, _, value = first.partition("=")
    if (name.strip().lower(), value.strip()) != ("v", version):
        return None
    tags: dict[str, str] = {}
    for part in rest:
        if match := _TAG.match(part):
            tags.setdefault(match[1].lower(), match[2])
    return tags
