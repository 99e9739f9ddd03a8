"""The reports that others sent us, found where they were delivered: in the Maildirs of whoever gets them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailguard.delivery.dmarcreport import DmarcReport
from mailguard.delivery.report import ReportError
from mailguard.delivery.reportmail import MAX_UNPACKED, find_reports, may_hold_report, read_file
from mailguard.delivery.tlsreport import TlsReport

_START = 16_384  # octets


@dataclass(frozen=True, slots=True)
class Found:
    """A report and the file it was in, or why none could be read there."""

    path: Path
    report: DmarcReport | TlsReport | None = None
    error: str = ""


def in_maildirs(maildirs: Iterable[Path], *, since: float) -> Iterator[Found]:
    """The reports in these Maildirs and their folders, in files written since this Unix time."""
    for maildir in maildirs:
        folders = [maildir, *sorted(path for path in maildir.glob(".*") if path.is_dir())]
        for folder in folders:
            for name in ("new", "cur"):
                yield from _in_folder(folder / name, since)


def _in_folder(folder: Path, since: float) -> Iterator[Found]:
    for path in sorted(folder.glob("*")):
        try:
            if path.stat().st_mtime < since or not path.is_file():
                continue
            with path.open("rb") as file:
                start = file.read(_START)
                if not may_hold_report(start):
                    continue
                raw = start + file.read(MAX_UNPACKED)
        except OSError:  # moved or removed by its reader meanwhile
            continue
        yield from _found(path, find_reports(raw))


def in_files(paths: Iterable[Path]) -> Iterator[Found]:
    """The reports in these files: messages, or reports by themselves. Raises OSError."""
    for path in paths:
        yield from _found(path, read_file(path.read_bytes()))


def _found(path: Path, reports: Iterator[DmarcReport | TlsReport]) -> Iterator[Found]:
    try:
        for report in reports:
            yield Found(path, report)
    except ReportError as error:
        yield Found(path, error=str(error))


def once(found: Iterable[Found]) -> Iterator[Found]:
    """Each report once, however many copies of it there are."""
    seen: set[tuple[str, str, str, int]] = set()
    for one in found:
        if one.report is not None:
            about = one.report.domain if isinstance(one.report, DmarcReport) else ""
            key = (one.report.organisation, one.report.report_id, about, one.report.begin)
            if key in seen:
                continue
            seen.add(key)
        yield one
