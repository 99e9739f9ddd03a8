"""The help page of one domain: settings to copy and paste, for people whose mail program asks for them."""

from __future__ import annotations

from html import escape

from mailguard.model.address import unicode_domain
from mailguard.protocol.autoconfig.request import Provider, Security, Service

_STYLE = (
    "body{font:1.05rem/1.5 system-ui,sans-serif;max-width:42rem;margin:0 auto;padding:1rem;color:#1c2733;"
    "background:#fff}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;"
    "width:100%}th,td{text-align:left;padding:.45rem .6rem;border-bottom:1px solid #d5dbe1;vertical-align:top}"
    "th{width:9rem;font-weight:600}code{font-size:1.05em;user-select:all;overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{background:#14191f;color:#dfe6ee}th,td{border-color:#36404b}}"
)
_TITLE = {"imap": "Incoming mail (IMAP)", "pop3": "Incoming mail (POP3), if you must", "smtp": "Outgoing mail (SMTP)"}
_SECURITY = {Security.IMPLICIT: "SSL/TLS", Security.STARTTLS: "STARTTLS"}


def help_page(provider: Provider) -> str:
    """The page as HTML that needs no script."""
    name = escape(unicode_domain(provider.domain))
    services = (*provider.incoming, *provider.outgoing)
    tables = "".join(
        f"<h2>{title}</h2>" + "".join(_table(provider, s) for s in services if s.protocol == protocol)
        for protocol, title in _TITLE.items()
        if any(s.protocol == protocol for s in services)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Mail for {name}</title><style>{_STYLE}</style></head><body><main><h1>Mail for {name}</h1>"
        "<p>Most mail programs need only your address and your password: Thunderbird, Outlook and many phones find "
        "the rest by themselves. Where one asks, this is what to enter. Your user name is always your whole "
        f"address, such as <code>you@{name}</code>.</p>{tables}"
        "<p>There is nothing to choose but SSL/TLS (or STARTTLS where it says so) and an ordinary password. If your "
        "program warns of the certificate, do not go on: ask whoever runs the server.</p></main></body></html>\n"
    )


def _table(provider: Provider, service: Service) -> str:
    rows = {
        "Server": f"<code>{escape(provider.hostname)}</code>",
        "Port": f"<code>{service.port}</code>",
        "Security": _SECURITY[service.security],
        "Sign-in": "normal password",
    }
    return "<table>" + "".join(f'<tr><th scope="row">{k}</th><td>{v}</td></tr>' for k, v in rows.items()) + "</table>"
