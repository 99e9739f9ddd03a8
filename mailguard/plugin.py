"""The plugin author's whole world: everything a filter plugin may import. Follows semantic versioning.

A plugin is a module (or a class instance) whose functions are marked with ``@hookimpl`` and named as in
``mailguard.pipeline.hookspecs``; ``plugins/README.md`` is the guide, ``plugins/skeleton`` the smallest example.
"""

from mailguard.model.address import Address, AddressError
from mailguard.model.authresult import AuthResult
from mailguard.model.duration import Duration, format_duration
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.event import (
    Accepted,
    Bounced,
    Deferred,
    Delivered,
    Event,
    Flagged,
    Held,
    Moved,
    PluginFault,
    Refused,
    SignedIn,
)
from mailguard.model.message import Field, Message
from mailguard.model.mime import Part
from mailguard.model.mime import parse as parse_mime
from mailguard.model.reply import Reply
from mailguard.model.session import Role, Session, TlsInfo
from mailguard.net.dmarc import dmarc_record, dmarc_walk, organisational_domain
from mailguard.net.resolver import Answer, DnsTemporaryError, Resolver, addresses, ask_all, reverse_name
from mailguard.net.talk import Place, Talk, parse_place
from mailguard.pipeline.context import Context, Options, PluginInfo, Store
from mailguard.pipeline.facts import author_domains
from mailguard.pipeline.finding import Finding, Findings
from mailguard.pipeline.hookspecs import hookimpl
from mailguard.pipeline.signature import ArcResult, ArcSet, SignatureResult, verify_arc, verify_dkim
from mailguard.pipeline.verdict import Action, Decision, Verdict
from mailguard.state.sqlite import open_sqlite

API_VERSION = "1.0"
"""The version of this API; a change of the first number breaks plugins, of the second adds to it."""

__all__ = [
    "API_VERSION",
    "Accepted",
    "Action",
    "Address",
    "AddressError",
    "Answer",
    "ArcResult",
    "ArcSet",
    "AuthResult",
    "Bounced",
    "Context",
    "Decision",
    "Deferred",
    "Delivered",
    "DnsTemporaryError",
    "Duration",
    "Envelope",
    "Event",
    "Field",
    "Finding",
    "Findings",
    "Flagged",
    "Held",
    "Message",
    "Moved",
    "Options",
    "Part",
    "Place",
    "PluginFault",
    "PluginInfo",
    "Recipient",
    "Refused",
    "Reply",
    "Resolver",
    "Role",
    "Session",
    "SignatureResult",
    "SignedIn",
    "Store",
    "Talk",
    "TlsInfo",
    "Verdict",
    "addresses",
    "ask_all",
    "author_domains",
    "dmarc_record",
    "dmarc_walk",
    "format_duration",
    "hookimpl",
    "open_sqlite",
    "organisational_domain",
    "parse_mime",
    "parse_place",
    "reverse_name",
    "verify_arc",
    "verify_dkim",
]
