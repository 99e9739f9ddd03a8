"""What each SMTP port offers, by the settings."""

from __future__ import annotations

from mailguard.model.session import Role
from mailguard.protocol.smtp.event import Profile
from mailguard.server.smtptransaction import Desk


class Profiles:
    """Makes profiles; those of ports where nobody signs in are made once for all connections of a kind."""

    def __init__(self, desk: Desk, *, tls: bool) -> None:
        self._desk = desk
        self._tls = tls
        self._known: dict[tuple[Role, bool, bool], Profile] = {}

    def profile(self, role: Role, peer_ip: str, *, secured: bool, mechanisms: tuple[str, ...] = ()) -> Profile:
        """The profile of a new connection; ``mechanisms`` are those of AUTH on a submission port."""
        what = role, secured, self._desk.settings.may_xclient(peer_ip)
        if role is Role.SUBMISSION:
            return self._make(*what, mechanisms)
        found = self._known.get(what)
        if found is None:
            found = self._known[what] = self._make(*what, ())
        return found

    def _make(self, role: Role, secured: bool, xclient: bool, mechanisms: tuple[str, ...]) -> Profile:
        desk, settings = self._desk, self._desk.settings
        submission = role is Role.SUBMISSION
        hold = int(desk.submission.hold_max.total_seconds()) if submission else 0
        return Profile(
            desk.hostname,
            settings.size_limit,
            settings.recipients,
            starttls=self._tls and not secured,
            mechanisms=mechanisms,
            needs_auth=submission,
            secured=secured,
            lmtp=role is Role.LMTP,
            xclient=xclient,
            errors_max=settings.errors,
            commands_max=settings.commands,
            mail_max=settings.messages,
            line_limit=0 if submission else settings.line_limit,  # long lines of our own users are folded
            spool_over=settings.spool_over,
            hold_max=hold,
            hold_until=int(desk.now()) + hold if hold else 0,
        )
