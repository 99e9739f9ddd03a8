"""DMARC aggregate reports: what other servers saw of mail in a domain's name (RFC 7489 appendix C, RFC 9990)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from mailguard.delivery.report import Report, ReportError, clean

MAX_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class AuthDomain:
    """One raw result: ``method`` is ``spf`` or ``dkim``."""

    method: str
    domain: str
    result: str
    selector: str = ""


@dataclass(frozen=True, slots=True)
class DmarcRow:
    """``count`` messages from one address that fared the same; ``dkim`` and ``spf`` are ``pass`` only in alignment."""

    source_ip: str
    count: int
    disposition: str
    dkim: str
    spf: str
    header_from: str
    envelope_from: str = ""
    auth: tuple[AuthDomain, ...] = ()
    override: str = ""

    @property
    def passed(self) -> bool:
        """Whether they passed DMARC."""
        return "pass" in (self.dkim, self.spf)


@dataclass(frozen=True, slots=True)
class DmarcReport(Report):
    """One report: ``policy`` holds the published tags as the reporter saw them."""

    domain: str
    policy: tuple[tuple[str, str], ...]
    rows: tuple[DmarcRow, ...]


def parse(data: bytes) -> DmarcReport:
    """Reads the XML. Raises ReportError."""
    try:
        root = defusedxml.ElementTree.fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise ReportError(f"not XML: {error}") from None
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]  # some write a namespace, most do not
    if root.tag != "feedback":
        raise ReportError(f"the XML is a <{root.tag[:40]}>, not a <feedback>")
    published = root.find("policy_published")
    policy = tuple((child.tag, clean(child.text or "")) for child in (published if published is not None else ()))
    records = root.findall("record")
    if len(records) > MAX_ROWS:
        raise ReportError(f"more than {MAX_ROWS} records")
    return DmarcReport(
        _text(root, "report_metadata/org_name"),
        _text(root, "report_metadata/email"),
        _text(root, "report_metadata/report_id"),
        _number(root, "report_metadata/date_range/begin"),
        _number(root, "report_metadata/date_range/end"),
        _text(root, "policy_published/domain").lower(),
        tuple((name, value) for name, value in policy if name != "domain"),
        tuple(_row(record) for record in records),
    )


def _row(record: Element) -> DmarcRow:
    return DmarcRow(
        _text(record, "row/source_ip"),
        _number(record, "row/count"),
        _text(record, "row/policy_evaluated/disposition") or "none",
        _text(record, "row/policy_evaluated/dkim") or "fail",
        _text(record, "row/policy_evaluated/spf") or "fail",
        _text(record, "identifiers/header_from").lower(),
        _text(record, "identifiers/envelope_from").lower(),
        tuple(_auth(record)),
        _text(record, "row/policy_evaluated/reason/type"),
    )


def _auth(record: Element) -> Iterator[AuthDomain]:
    for method in ("dkim", "spf"):
        for found in record.findall(f"auth_results/{method}")[:100]:
            yield AuthDomain(method, _text(found, "domain"), _text(found, "result"), _text(found, "selector"))


def _text(element: Element, path: str) -> str:
    found = element.find(path)
    return clean((found.text if found is not None else "") or "")


def _number(element: Element, path: str) -> int:
    text = _text(element, path)
    if not re.fullmatch(r"\d{1,12}", text):
        raise ReportError(f"{path.rpartition('/')[2]} is {text[:40]!r}, not a number")
    return int(text)


def build(report: DmarcReport) -> bytes:
    """The report as XML."""
    root = Element("feedback")
    _put(root, "version", "1.0")
    head = SubElement(root, "report_metadata")
    _put(head, "org_name", report.organisation)
    _put(head, "email", report.contact)
    _put(head, "report_id", report.report_id)
    span = SubElement(head, "date_range")
    _put(span, "begin", str(report.begin))
    _put(span, "end", str(report.end))
    published = SubElement(root, "policy_published")
    for name, value in (("domain", report.domain), *report.policy):
        _put(published, name, value)
    for row in report.rows:
        _put_row(SubElement(root, "record"), row)
    made: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return made


def _put_row(record: Element, row: DmarcRow) -> None:
    body = SubElement(record, "row")
    _put(body, "source_ip", row.source_ip)
    _put(body, "count", str(row.count))
    evaluated = SubElement(body, "policy_evaluated")
    for name, value in (("disposition", row.disposition), ("dkim", row.dkim), ("spf", row.spf)):
        _put(evaluated, name, value)
    if row.override:
        _put(SubElement(evaluated, "reason"), "type", row.override)
    identifiers = SubElement(record, "identifiers")
    if row.envelope_from:
        _put(identifiers, "envelope_from", row.envelope_from)
    _put(identifiers, "header_from", row.header_from)
    results = SubElement(record, "auth_results")
    for auth in row.auth:
        found = SubElement(results, auth.method)
        _put(found, "domain", auth.domain)
        if auth.selector:
            _put(found, "selector", auth.selector)
        _put(found, "result", auth.result)


def _put(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = text
