"""XCLIENT: a filter or proxy in front of us tells whose connection it passes on (Postfix's XCLIENT_README)."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from mailguard.auth.accounts import Account, Directory
from mailguard.model.reply import Reply
from mailguard.model.session import Session
from mailguard.protocol.smtp.command import Xclient


def introduced(session: Session, command: Xclient, directory: Directory) -> tuple[Session, Account | None] | Reply:
    """The session of the client that is spoken for, and the account it is signed in to; or what is wrong.

    Only for those whom ``xclient_from`` trusts: LOGIN is believed.
    """
    known = command.attributes
    if address := known.get("ADDR", "").removeprefix("IPV6:").removeprefix("IPv6:"):
        try:
            session = replace(session, peer_ip=str(ipaddress.ip_address(address)), peer_port=0, ptr="")
        except ValueError:
            return Reply.of(501, "5.5.4", "ADDR of XCLIENT is no address")
    port = known.get("PORT", "")
    account = directory.account(known["LOGIN"]) if known.get("LOGIN") else None
    session = replace(
        session,
        ptr=known.get("NAME", session.ptr),
        helo=known.get("HELO", ""),
        esmtp=known.get("PROTO", "").upper() == "ESMTP",
        peer_port=int(port) if port.isdecimal() else session.peer_port,
        user=account.key if account and not account.disabled else "",
    )
    return session, account if session.user else None
