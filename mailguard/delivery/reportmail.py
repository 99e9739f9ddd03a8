"""Reports as they travel: compressed and attached to a message; found in one, or put into one."""

from __future__ import annotations

import base64
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate

from mailguard.delivery import dmarcreport, tlsreport
from mailguard.delivery.dmarcreport import DmarcReport
from mailguard.delivery.report import ReportError
from mailguard.delivery.tlsreport import TlsReport
from mailguard.model.message import Message
from mailguard.model.mime import Part
from mailguard.model.mime import parse as parse_mime

MAX_UNPACKED = 20 << 20  # octets: a report that claims to be larger is a bomb
_LIKELY = re.compile(rb"report[ _]domain:|tlsrpt|tls-report-|dmarc|!\d{9,10}!\d{9,10}", re.IGNORECASE)
_NAME = re.compile(r"!\d{9,10}!\d{9,10}")
_KINDS = ("application/gzip", "application/x-gzip", "application/zip", "application/x-zip-compressed")
_OTHERS = ("text/xml", "application/xml", "application/tlsrpt+json", "application/tlsrpt+gzip")
_LINE = 76


def may_hold_report(start: bytes) -> bool:
    """Whether the first kilobytes of a message look like those of a report; a quick look only."""
    return bool(_LIKELY.search(start))


def find_reports(raw: bytes) -> Iterator[DmarcReport | TlsReport]:
    """Every report attached to a message. Raises ReportError for one that cannot be read."""
    for part in parse_mime(raw).walk():
        name = part.filename.lower()
        if part.kind in (*_KINDS, *_OTHERS) or name.endswith((".xml", ".gz", ".zip", ".json")):
            certain = part.kind.startswith("application/tlsrpt") or _NAME.search(name)
            try:
                data = unpack(part.content(MAX_UNPACKED))
            except ReportError:
                if certain:
                    raise
                continue  # somebody's archive
            if (report := _read(data, part)) is not None:
                yield report


def read_file(data: bytes) -> Iterator[DmarcReport | TlsReport]:
    """The reports in a file: a message, or a report by itself, compressed or not. Raises ReportError."""
    plain = unpack(data)
    if plain.lstrip().startswith((b"<", b"{")):
        yield tlsreport.parse(plain) if plain.lstrip().startswith(b"{") else dmarcreport.parse(plain)
    else:
        yield from find_reports(data)


def _read(data: bytes, part: Part) -> DmarcReport | TlsReport | None:
    start = data.lstrip()[:1]
    if start == b"<" and b"<feedback" in data[:4096]:
        return dmarcreport.parse(data)
    if start == b"{" and b'"policies"' in data:
        return tlsreport.parse(data)
    if part.kind.startswith("application/tlsrpt"):
        raise ReportError("what is attached is no TLS report")
    return None


def unpack(data: bytes) -> bytes:
    """The data without gzip or zip around it. Raises ReportError where it is broken or too large."""
    try:
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as file:
                found = file.read(MAX_UNPACKED + 1)
        elif data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = archive.namelist()
                if not names:
                    raise ReportError("the archive is empty")
                with archive.open(names[0]) as inner:
                    found = inner.read(MAX_UNPACKED + 1)
        else:
            found = data
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ReportError(f"it cannot be unpacked: {error}") from None
    if len(found) > MAX_UNPACKED:
        raise ReportError(f"it is larger than {MAX_UNPACKED} octets")
    return found


@dataclass(frozen=True, slots=True)
class Parcel:
    """A report to be sent: ``kind`` is ``dmarc`` or ``tls``, ``domain`` whom it is about, ``data`` the XML or JSON."""

    kind: str
    domain: str
    report_id: str
    begin: int
    end: int
    data: bytes


def compose(parcel: Parcel, *, submitter: str, sender: str, to: str, ident: str, now: float) -> Message:
    """The message that carries it (RFC 7489 §7.2.1.1, RFC 8460 §5.3)."""
    tls = parcel.kind == "tls"
    suffix = "json.gz" if tls else "xml.gz"
    name = f"{submitter}!{parcel.domain}!{parcel.begin}!{parcel.end}!{parcel.report_id}.{suffix}"
    boundary = f"=_report_{ident}"
    lines = [
        f"From: {sender}",
        f"To: {to}",
        f"Subject: Report Domain: {parcel.domain} Submitter: {submitter} Report-ID: <{parcel.report_id}>",
        f"Date: {formatdate(now)}",
        f"Message-ID: <{ident}@{submitter}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
    ]
    if tls:
        # It tells of broken TLS, so it must not be held up by it (RFC 8460 §5.3, RFC 8689 §3).
        lines += [f"TLS-Report-Domain: {parcel.domain}", f"TLS-Report-Submitter: {submitter}", "TLS-Required: No"]
        lines.append(f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"')
    else:
        lines.append(f'Content-Type: multipart/mixed;\r\n boundary="{boundary}"')
    media = "application/tlsrpt+gzip" if tls else "application/gzip"
    packed = base64.b64encode(gzip.compress(parcel.data, mtime=0)).decode()
    what = "SMTP TLS sessions with" if tls else "mail in the name of"
    parts = [
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"This is an aggregate report by {submitter} on {what} {parcel.domain},",
        f"for the day that began at {formatdate(parcel.begin)}.",
        f"--{boundary}",
        f"Content-Type: {media}",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment;\r\n filename="{name}"',
        "",
        *(packed[at : at + _LINE] for at in range(0, len(packed), _LINE)),
    ]
    text = "\r\n".join([*lines, "", f"--{boundary}", *parts, f"--{boundary}--", ""])
    return Message(text.encode())
