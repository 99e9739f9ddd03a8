"""What kind of mail a message is. How sure the learners may be depends on how much wanted mail of its kind they had:
who has only seen letters from people as wanted mail knows nothing of a wanted newsletter."""

from __future__ import annotations

from .index import Indexed, tag_numbers

KINDS = ("in a conversation", "plain text by itself", "HTML by itself")
"""Answers, mail that quotes, is signed or came over a list; and the rest, without and with a part of HTML."""
CONVERSATION, PLAIN, HTML = range(len(KINDS))

_CONVERSATION = frozenset(tag_numbers([b"rule:is_answer", b"rule:list_post", b"rule:quotes", b"rule:signed"]))
_HTML = frozenset(tag_numbers([b"k:text/html"]))


def kind_of(numbers: Indexed) -> int:
    """The kind as a position in ``KINDS``. Read off the numbers, so that it is known of a remembered message, too."""
    if not _CONVERSATION.isdisjoint(numbers.tags):
        return CONVERSATION
    return PLAIN if _HTML.isdisjoint(numbers.dress) else HTML
