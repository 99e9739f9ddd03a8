"""Lists of addresses in header fields, as text (RFC 5322 §3.4)."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import getaddresses


def read_addresses(values: Iterable[str]) -> list[tuple[str, str]]:
    """Display name and address of everybody in these field bodies; either may be empty, or no address at all.

    Nobody where comments nest so deeply that it can only be meant to do harm.
    """
    try:
        return getaddresses(list(values))
    except RecursionError:  # the library calls itself for each parenthesis
        return []
