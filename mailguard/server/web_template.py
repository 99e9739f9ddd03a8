"""Pages for people: Jinja templates, one style sheet, no script, and header fields that allow nothing else."""

from __future__ import annotations

import hashlib
import time
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mailguard.model.address import unicode_domain
from mailguard.server.web_answer import Answer

if TYPE_CHECKING:
    from jinja2 import Environment

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
PAGE = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": CSP,
    # Not `no-referrer`: browsers then send forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Header fields of every page."""

_sheet = files("mailguard.server").joinpath("templates/style.css").read_bytes()
STYLE = Answer(200, _sheet, "text/css; charset=utf-8", {"Cache-Control": "max-age=86400"})
"""The style sheet; pages name it with ``_version`` behind it, so a new one is fetched at once."""
_version = hashlib.sha256(_sheet).hexdigest()[:8]


def page(template: str, /, **values: Any) -> bytes:
    """A template filled in. Everything in ``values`` is escaped."""
    return _environment().get_template(template).render(style=f"/style.css?{_version}", **values).encode()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # 2 MB, and most workers never show a page

    made = Environment(
        loader=PackageLoader("mailguard.server", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["idn"] = unicode_domain
    made.filters["moment"] = _moment
    made.filters["day"] = _day
    made.filters["browser"] = browser_name
    return made


def _moment(at: float) -> str:
    """A Unix time for people, in the server's zone."""
    return time.strftime("%-d %B %Y, %H:%M", time.localtime(at)) if at else "never"


def _day(at: float) -> str:
    return time.strftime("%-d %B %Y", time.localtime(at)) if at else ""


def browser_name(agent: str) -> str:
    """A User-Agent field in words: the browser and what it runs on."""
    names = {"Edg": "Edge", "OPR/": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
    systems = ("iPhone", "iPad", "Android", "Windows", "Macintosh", "Linux")
    name = next((text for mark, text in names.items() if mark in agent), "")
    system = next((mark for mark in systems if mark in agent), "").replace("Macintosh", "Mac")
    return f"{name} on {system}" if name and system else name or system or agent[:40] or "unknown"
