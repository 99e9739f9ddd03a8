"""Outlook's Autodiscover: plain old XML (MS-OXDSCLI) and its JSON successor."""

from __future__ import annotations

import json
import re

from mailguard.protocol.autoconfig.request import Provider, Security, Service

CONTENT_TYPE = "text/xml; charset=utf-8"
MALFORMED = 600
NO_PROVIDER = 601
_OUTER = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
_INNER = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
_TYPE = {"imap": "IMAP", "pop3": "POP3", "smtp": "SMTP"}
# Outlook keeps the two apart: SSL is TLS from the first octet, TLS is STARTTLS.
_ENCRYPTION = {Security.IMPLICIT: "SSL", Security.STARTTLS: "TLS"}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_NOT_WORD = re.compile(r"[^A-Za-z0-9]")


def settings(provider: Provider, address: str) -> bytes:
    """The answer to a POX request of ``address``, which it echoes as the sign-in name.

    AccountType and Action come before the protocols, one protocol of each kind: readers go by position.
    """
    name = address.translate(_ESCAPES)
    protocols = "".join(_protocol(provider, service, name) for service in _one_of_each(provider))
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<Autodiscover xmlns="{_OUTER}">\n'
        f' <Response xmlns="{_INNER}">\n  <User><DisplayName>{name}</DisplayName></User>\n'
        f"  <Account>\n   <AccountType>email</AccountType>\n   <Action>settings</Action>\n{protocols}"
        "  </Account>\n </Response>\n</Autodiscover>\n"
    ).encode()


def _one_of_each(provider: Provider) -> list[Service]:
    best: dict[str, Service] = {}
    for service in (*provider.incoming, *provider.outgoing):
        best.setdefault(service.protocol, service)
    return list(best.values())


def _protocol(provider: Provider, service: Service, name: str) -> str:
    fields = {
        "Type": _TYPE[service.protocol],
        "Server": provider.hostname,
        "Port": str(service.port),
        "DomainRequired": "off",
        "LoginName": name,
        "SPA": "off",  # on where it is left out
        "SSL": "on",
        "Encryption": _ENCRYPTION[service.security],
        "AuthRequired": "on",
    }
    if service.protocol == "smtp":
        fields |= {"UsePOPAuth": "on", "SMTPLast": "off"}
    return "   <Protocol>" + "".join(f"<{tag}>{text}</{tag}>" for tag, text in fields.items()) + "</Protocol>\n"


def error(code: int, message: str, *, time: str, number: int) -> bytes:
    """An error answer, sent with status 200: ``time`` as ``HH:MM:SS.fffffff``, ``number`` any id for it."""
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<Autodiscover xmlns="{_OUTER}">'
        f'<Response xmlns=""><Error Time="{time}" Id="{number}"><ErrorCode>{code}</ErrorCode>'
        f"<Message>{message.translate(_ESCAPES)}</Message><DebugData/></Error></Response></Autodiscover>\n"
    ).encode()


def json_answer(protocol: str, web: str) -> tuple[int, bytes]:
    """Status and body of the JSON form: where to find the XML, or that the protocol is not served.

    Android asks for ActiveSync and macOS for EWS; both must hear that it is not here.
    """
    if protocol.lower() == "autodiscoverv1":
        return 200, _json(Protocol="AutodiscoverV1", Url=f"{web}/autodiscover/autodiscover.xml")
    asked = _NOT_WORD.sub("", protocol)[:40]
    text = f"The given protocol value '{asked}' is invalid. Supported values are 'AutodiscoverV1'"
    return 400, _json(ErrorCode="InvalidProtocol", ErrorMessage=text)


def _json(**fields: str) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
