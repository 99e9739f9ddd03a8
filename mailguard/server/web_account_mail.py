"""Account page: the out-of-office reply."""

from __future__ import annotations

import datetime

from flask import Flask, request
from werkzeug.wrappers import Response as AnyResponse

from mailguard.delivery.vacation import MAX_SUBJECT, MAX_TEXT, Vacation
from mailguard.server.web_account import AccountPages

_AWAY = "/account/away"


def add_routes(app: Flask, pages: AccountPages) -> None:
    """Adds the pages of this module."""
    app.add_url_rule(_AWAY, "away", lambda: _away(pages), methods=["GET", "POST"])


def _away(pages: AccountPages) -> AnyResponse:
    key = pages.visit.account.key
    mistakes: dict[str, str] = {}
    if request.method == "POST":
        on = request.form.get("action") != "off"
        vacation, mistakes = _read_vacation(on)
        if not mistakes:
            pages.vacations.set(key, vacation)
            return pages.done(_AWAY, "away" if on else "back")
        shown = dict(request.form)
    else:
        vacation = pages.vacations.get(key) or Vacation()
        shown = {"subject": vacation.subject, "text": vacation.text}
        shown |= {"from": _date(vacation.starts_at), "until": _date(vacation.ends_at, last=True)}
    now = pages.guard.now()
    state = "off" if not vacation.enabled or mistakes else "on" if vacation.active(now) else _waits(vacation, now)
    return pages.show("away.html", 422 if mistakes else 200, shown=shown, state=state, mistakes=mistakes)


def _waits(vacation: Vacation, now: float) -> str:
    return "waiting" if vacation.starts_at > now else "over"


def _read_vacation(on: bool) -> tuple[Vacation, dict[str, str]]:
    mistakes: dict[str, str] = {}
    subject, text = request.form.get("subject", "").strip(), request.form.get("text", "").strip()
    if on and not text:
        mistakes["text"] = "Write what people are to be told."
    if len(text) > MAX_TEXT:
        mistakes["text"] = f"At most {MAX_TEXT} characters; these are {len(text)}."
    if len(subject) > MAX_SUBJECT or "\n" in subject:
        mistakes["subject"] = f"One line of at most {MAX_SUBJECT} characters."
    starts, ends = _midnight("from", mistakes), _midnight("until", mistakes, days=1)
    if starts and ends and ends <= starts:
        mistakes["until"] = "The last day lies before the first."
    return Vacation(on, starts, ends, subject, text.replace("\r\n", "\n")), mistakes


def _midnight(field: str, mistakes: dict[str, str], days: int = 0) -> float:
    """The beginning of a day given as YYYY-MM-DD in the server's zone, ``days`` later; 0 where it was left out."""
    given = request.form.get(field, "").strip()
    if not given:
        return 0.0
    try:
        day = datetime.date.fromisoformat(given) + datetime.timedelta(days=days)
        return datetime.datetime.combine(day, datetime.time()).astimezone().timestamp()
    except (ValueError, OverflowError):
        mistakes[field] = "Write the day as year-month-day, such as 2026-08-31."
        return 0.0


def _date(at: float, *, last: bool = False) -> str:
    if not at:
        return ""
    day = datetime.datetime.fromtimestamp(at - (1 if last else 0)).astimezone().date()
    return day.isoformat()
