"""A message from the server to whoever looks after it."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from email.utils import format_datetime

from mailguard.model.address import Address
from mailguard.model.message import Message


def held_mail(ident: str, *, hostname: str, to: Address, account: Address, reason: str, now: float) -> Message:
    """The alert about an account that sends more than it may."""
    text = textwrap.dedent(f"""\
        Mail of {account} is being held, because it is more than this user may send:

          {reason}

        Nothing is lost and nothing has bounced. Either the user has a good reason, or somebody has
        learnt the password. Ask before you release anything.

          See what is held:         mailguard queue list --held --from {account}
          It is good, send it:      mailguard queue release --from {account}
          It is not, drop it:       mailguard queue drop --from {account}
          Stop whoever it is:       mailguard user passwd {account}

        More of it today is held, too, without another message like this one.
        """)
    header = [
        f"From: Mail server <postmaster@{to.domain or hostname}>",
        f"To: <{to}>",
        f"Subject: Mail of {account} is held",
        f"Date: {format_datetime(datetime.fromtimestamp(now, UTC))}",
        f"Message-ID: <{ident}.alert@{hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    return Message(("\n".join(header) + "\n\n" + text).replace("\n", "\r\n").encode())
