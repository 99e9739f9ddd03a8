"""SMTP TLS reports: how encrypted delivery to a domain went, as other servers tell it (RFC 8460 §4)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mailguard.delivery.report import Report, ReportError, clean

_MOST = 10_000  # of policies, and of failures of one


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """``count`` sessions that failed the same way; ``result`` is a word of RFC 8460 §4.3."""

    result: str
    count: int
    mx_host: str = ""
    sending_ip: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TlsPolicyReport:
    """What came of one policy: ``kind`` is ``sts``, ``tlsa`` or ``no-policy-found``."""

    kind: str
    domain: str
    successes: int
    failed: int
    failures: tuple[TlsFailure, ...] = ()
    lines: tuple[str, ...] = ()
    mx_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsReport(Report):
    """One report."""

    policies: tuple[TlsPolicyReport, ...]


def parse(data: bytes) -> TlsReport:
    """Reads the JSON. Raises ReportError."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"not JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("policies"), list):
        raise ReportError("the JSON is no TLS report: it has no list of policies")
    span = _dict(found.get("date-range"))
    return TlsReport(
        _text(found.get("organization-name")),
        _text(found.get("contact-info")),
        _text(found.get("report-id")),
        _time(span.get("start-datetime")),
        _time(span.get("end-datetime")),
        tuple(_policy(_dict(one)) for one in found["policies"][:_MOST]),
    )


def _policy(found: dict[str, Any]) -> TlsPolicyReport:
    policy, summary = _dict(found.get("policy")), _dict(found.get("summary"))
    return TlsPolicyReport(
        _text(policy.get("policy-type")),
        _text(policy.get("policy-domain")).lower(),
        _number(summary.get("total-successful-session-count")),
        _number(summary.get("total-failure-session-count")),
        tuple(_failures(found.get("failure-details"))),
        tuple(map(_text, _list(policy.get("policy-string")))),
        tuple(map(_text, _list(policy.get("mx-host")))),
    )


def _failures(found: Any) -> Iterator[TlsFailure]:
    for one in map(_dict, _list(found)):
        reason = _text(one.get("failure-reason-code")) or _text(one.get("additional-information"))
        host, ip = _text(one.get("receiving-mx-hostname")), _text(one.get("sending-mta-ip"))
        yield TlsFailure(_text(one.get("result-type")), _number(one.get("failed-session-count")), host, ip, reason)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value[:_MOST] if isinstance(value, list) else [value] if isinstance(value, str) else []


def _text(value: Any) -> str:
    return clean(str(value)) if isinstance(value, str | int) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**12 else 0


def _time(value: Any) -> int:
    try:
        moment = datetime.datetime.fromisoformat(_text(value).upper().replace("Z", "+00:00"))
    except ValueError:
        raise ReportError(f"{_text(value)[:40]!r} is no date and time") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp())


def build(report: TlsReport) -> bytes:
    """The report as JSON."""
    made = {
        "organization-name": report.organisation,
        "date-range": {"start-datetime": _moment(report.begin), "end-datetime": _moment(report.end)},
        "contact-info": report.contact,
        "report-id": report.report_id,
        "policies": [_built(policy) for policy in report.policies],
    }
    return json.dumps(made, indent=1).encode()


def _built(policy: TlsPolicyReport) -> dict[str, Any]:
    about: dict[str, Any] = {"policy-type": policy.kind, "policy-domain": policy.domain}
    if policy.lines:
        about["policy-string"] = list(policy.lines)
    if policy.mx_hosts:
        about["mx-host"] = list(policy.mx_hosts)
    summary = {
        "total-successful-session-count": policy.successes,
        "total-failure-session-count": policy.failed,
    }
    details = [
        {"result-type": one.result, "receiving-mx-hostname": one.mx_host, "failed-session-count": one.count}
        for one in policy.failures
    ]
    return {"policy": about, "summary": summary, **({"failure-details": details} if details else {})}


def _moment(at: int) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
