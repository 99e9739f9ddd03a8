"""The text of an HTML part as its reader sees it, roughly, in time that grows with its length only."""

from __future__ import annotations

import html
import re

_ELEMENTS = r"<({})\b.*?(?:</\1\s*+>|\Z)"  # with all that is in them
# Whatever opens and never closes reaches to the end, as in browsers: tried at each "<" in vain, it would cost hours.
_MARKUP = re.compile(
    r"<!--.*?(?:-->|\Z)|" + _ELEMENTS.format("script|style") + r"|<[a-z/!?][^>]*+(?:>|\Z)", re.I | re.S
)
_TITLE = re.compile(_ELEMENTS.format("title"), re.I | re.S)
_ALT = re.compile(r"\balt\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>]++))", re.I)


def without_title(markup: str) -> str:
    """The HTML without what a browser shows above the page."""
    return _TITLE.sub(" ", markup)


def html_text(markup: str) -> str:
    """Tags, comments, scripts and styles taken out, pictures' ``alt`` put in their place, character references read."""
    text = _MARKUP.sub(_instead, markup)
    return html.unescape(text) if "&" in text else text


def _instead(found: re.Match[str]) -> str:
    tag = found[0]
    if tag[1:4] in ("img", "IMG", "Img") and (alt := _ALT.search(tag)):
        return f" {alt[1] or alt[2] or alt[3] or ''} "
    return " "
