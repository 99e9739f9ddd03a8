"""Mozilla's autoconfig document, version 1.1 (draft-ietf-mailmaint-autoconfig)."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from mailguard.protocol.autoconfig.request import Provider, Security, Service

CONTENT_TYPE = "text/xml; charset=utf-8"
_SOCKET = {Security.IMPLICIT: "SSL", Security.STARTTLS: "STARTTLS"}


def config(provider: Provider) -> bytes:
    """The document for one domain, the same for whoever asks: the user name stays a placeholder."""
    root = Element("clientConfig", version="1.1")
    mail = SubElement(root, "emailProvider", id=provider.domain)
    _text(mail, "domain", provider.domain)
    _text(mail, "displayName", provider.name[:60])
    _text(mail, "displayShortName", provider.name[:20].strip())
    for service in _preferred(provider.incoming):
        server = _server(mail, "incomingServer", provider, service)
        if service.protocol == "pop3":
            _text(SubElement(server, "pop3"), "leaveMessagesOnServer", "true")
    for service in _preferred(provider.outgoing):
        _server(mail, "outgoingServer", provider, service)
    help_page = SubElement(mail, "documentation", url=f"{provider.web}/help/{provider.domain}")
    _text(help_page, "descr", "How to set up your mail program", lang="en")
    indent(root)
    document: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
    return document + b"\n"


def _preferred(services: Sequence[Service]) -> list[Service]:
    """One way for each protocol, over TLS from the first octet if there is such a one: most clients take the first
    that they are offered, Evolution the last."""
    best: dict[str, Service] = {}
    for service in services:
        if service.protocol not in best or (
            service.security is Security.IMPLICIT and best[service.protocol].security is not Security.IMPLICIT
        ):
            best[service.protocol] = service
    return list(best.values())


def _server(mail: Element, tag: str, provider: Provider, service: Service) -> Element:
    server = SubElement(mail, tag, type=service.protocol)
    _text(server, "hostname", provider.hostname)
    _text(server, "port", str(service.port))
    _text(server, "socketType", _SOCKET[service.security])
    _text(server, "authentication", "password-cleartext")
    _text(server, "username", "%EMAILADDRESS%")
    return server


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    SubElement(parent, tag, attributes).text = text
