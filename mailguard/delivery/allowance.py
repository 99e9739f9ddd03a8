"""How much one user may send: over it mail is held and somebody told, for a stolen password must not make us a
spammer, and a forgotten newsletter must not bounce."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.delivery.submission_settings import SubmissionSettings
from mailguard.state.allowance import sent_alert, sent_hour, sent_recipient
from mailguard.state.database import Database

_DAY = 86_400.0
_ALERT_EVERY = _DAY  # seconds between two alerts about one account
_KEEP = 400 * _DAY  # seconds after which a recipient not written to is a new one again

_h, _r = sent_hour.c, sent_recipient.c


# Built once: to build them for each message costs more than to run them.
_who: sa.BindParameter[str] = sa.bindparam("who")
_mine = sa.and_(_r.account == _who, _r.recipient.in_(sa.bindparam("wanted", expanding=True)))
_KNOWN = sa.select(_r.recipient).where(_mine)
_TOUCH = sa.update(sent_recipient).where(_mine).values(last_at=sa.bindparam("moment"))
_REMEMBER = sent_recipient.insert()
_MORE = (
    sa.update(sent_hour)
    .where(_h.account == _who, _h.hour == sa.bindparam("this"))
    .values(messages=_h.messages + 1, recipients=_h.recipients + sa.bindparam("more", type_=sa.Integer))
)
_FIRST = sent_hour.insert()


def _sum(column: sa.Column[int], *, hour: bool) -> sa.ColumnElement[int]:
    counted = sa.case((_h.hour >= sa.bindparam("this"), column), else_=0) if hour else column
    return sa.func.coalesce(sa.func.sum(counted), 0)


_SENT = sa.select(
    *(_sum(column, hour=hour) for hour in (True, False) for column in (_h.messages, _h.recipients))
).where(_h.account == _who, _h.hour >= sa.bindparam("since"))
_NEW = sa.select(sa.func.count()).where(_r.account == _who, _r.first_at > sa.bindparam("since"))


@dataclass(frozen=True, slots=True)
class Excess:
    """Why a message must be held; ``alert`` when nobody has been told today."""

    reason: str
    alert: bool


class Allowance:
    """Counts in the state database, so that all workers agree. Safe for threads."""

    def __init__(
        self, database: Database, settings: SubmissionSettings, *, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._settings = settings
        self._now = now

    def count(self, account: str, recipients: Sequence[str]) -> Excess | None:
        """Counts one message of an account (its key) to these address keys; what it exceeds, if anything. Raises
        sqlalchemy.exc.OperationalError."""
        now = self._now()
        with self._database.write() as connection:
            new = self._note_recipients(connection, account, recipients, now)
            self._note_message(connection, account, len(recipients), int(now // 3600))
            reason = self._excess(connection, account, new, now)
            return Excess(reason, self._must_alert(connection, account, now)) if reason else None

    def _note_recipients(self, connection: sa.Connection, account: str, recipients: Sequence[str], now: float) -> int:
        """Remembers the recipients; returns how many are new."""
        wanted = [key[:320] for key in dict.fromkeys(recipients)]
        known = set(connection.execute(_KNOWN, {"who": account, "wanted": wanted}).scalars())
        if known:
            connection.execute(_TOUCH, {"who": account, "wanted": wanted, "moment": now})
        new = [{"account": account, "recipient": key, "first_at": now, "last_at": now} for key in wanted]
        new = [row for row in new if row["recipient"] not in known]
        if new:
            connection.execute(_REMEMBER, new)
        return len(new)

    @staticmethod
    def _note_message(connection: sa.Connection, account: str, recipients: int, hour: int) -> None:
        if not connection.execute(_MORE, {"who": account, "this": hour, "more": recipients}).rowcount:
            connection.execute(_FIRST, {"account": account, "hour": hour, "messages": 1, "recipients": recipients})

    def _excess(self, connection: sa.Connection, account: str, new: int, now: float) -> str:
        s, hour = self._settings, int(now // 3600)
        sent = connection.execute(_SENT, {"who": account, "this": hour, "since": hour - 23}).one()
        for span, counts, most in (
            ("hour", sent[:2], (s.messages_per_hour, s.recipients_per_hour)),
            ("day", sent[2:], (s.messages_per_day, s.recipients_per_day)),
        ):
            for what, count, limit in zip(("messages", "recipients"), counts, most, strict=True):
                if limit and count > limit:
                    return f"{account}: {count} {what} in one {span}, {what}_per_{span} of [submission] is {limit}"
        if new and s.new_recipients_per_day:
            count = connection.execute(_NEW, {"who": account, "since": now - _DAY}).scalar_one()
            if count > s.new_recipients_per_day:
                cap = f"new_recipients_per_day of [submission] is {s.new_recipients_per_day}"
                return f"{account}: {count} recipients in one day that it never wrote to before, {cap}"
        return ""

    @staticmethod
    def _must_alert(connection: sa.Connection, account: str, now: float) -> bool:
        last = connection.execute(sa.select(sent_alert.c.at).where(sent_alert.c.account == account)).scalar()
        if last is not None and last > now - _ALERT_EVERY:
            return False
        if last is None:
            connection.execute(sa.insert(sent_alert).values(account=account, at=now))
        else:
            connection.execute(sa.update(sent_alert).where(sent_alert.c.account == account).values(at=now))
        return True

    def prune(self) -> None:
        """Forgets what no longer counts."""
        now = self._now()
        with self._database.write() as connection:
            connection.execute(sa.delete(sent_hour).where(_h.hour < int(now // 3600) - 48))
            connection.execute(sa.delete(sent_recipient).where(_r.last_at < now - _KEEP))
