"""``mailguard reports``: what other servers report about our domains' mail (DMARC) and about TLS on its way to us."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailguard.cli.output import config_option, json_option, print_rows

if TYPE_CHECKING:
    from mailguard.config.schema import Config
    from mailguard.delivery.dmarcreport import DmarcReport
    from mailguard.delivery.reportbox import Found
    from mailguard.delivery.tlsreport import TlsReport

_BOXES = ("dmarc", "tlsrpt", "postmaster")
_EMPTY = "no reports; others send them to the `rua` addresses in your DNS (`mailguard dns show`), once a day"


@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--days", type=click.IntRange(1), default=30, show_default=True, help="how far back to look")
@click.option("--domain", default="", help="only what is about this domain")
@click.option("--failures", is_flag=True, help="every source of mail that failed, every kind of TLS failure")
@json_option
@config_option
def reports(
    files: tuple[Path, ...], days: int, domain: str, failures: bool, as_json: bool, config: Path | None
) -> None:
    """Show DMARC and TLS reports that were received.

    They are looked for in the mail of whoever gets dmarc@, tlsrpt@ and postmaster@ of our domains, or in FILEs:
    messages, or reports by themselves, compressed or not.
    """
    from mailguard.delivery.reportbox import in_files, in_maildirs, once

    since = time.time() - days * 86_400
    found = list(once(in_files(files) if files else in_maildirs(_maildirs(config), since=since)))
    for one in found:
        if one.error:
            click.echo(f"{one.path}: {one.error}", err=True)
    good = [one for one in found if one.report is not None]
    if as_json:
        told = [{"file": str(one.path), **asdict(one.report)} for one in good if one.report and _about(one, domain)]
        click.echo(json.dumps(told, indent=2))
    elif failures:
        rows = [row for one in good for row in _failures(one, domain)]
        print_rows(("about", "from", "count", "source", "what", "detail"), rows, as_json=False, empty="no failures")
    else:
        rows = [row for one in good for row in _summary(one, domain)]
        rows.sort(key=lambda row: (row["kind"], row["about"], row["day"], row["from"]))
        print_rows(("kind", "about", "day", "from", "passed", "failed"), rows, as_json=False, empty=_EMPTY)


def _maildirs(path: Path | None) -> list[Path]:
    from mailguard.config.schema import find_config, load_config

    return list(dict.fromkeys(_readers(load_config(find_config(path)))))


def _readers(config: Config) -> Iterator[Path]:
    from mailguard.model.address import Address

    for domain in config.directory.domains:
        for local in _BOXES:
            for account in config.directory.resolve(Address(local, domain)).accounts:
                yield account.maildir


def _about(found: Found, domain: str) -> bool:
    from mailguard.delivery.dmarcreport import DmarcReport

    if not domain or found.report is None:
        return True
    if isinstance(found.report, DmarcReport):
        return found.report.domain == domain
    return any(policy.domain == domain for policy in found.report.policies)


def _summary(found: Found, domain: str) -> Iterator[dict[str, Any]]:
    from mailguard.delivery.dmarcreport import DmarcReport

    report = found.report
    assert report is not None
    if isinstance(report, DmarcReport):
        passed = sum(row.count for row in report.rows if row.passed)
        failed = sum(row.count for row in report.rows) - passed
        lines = [("DMARC", report.domain, passed, failed)]
    else:
        lines = [(f"TLS, {_KIND.get(p.kind, p.kind)}", p.domain, p.successes, p.failed) for p in report.policies]
    for kind, about, passed, failed in lines:
        if domain in ("", about):
            yield {
                "kind": kind,
                "about": about,
                "day": time.strftime("%Y-%m-%d", time.gmtime(report.begin)),
                "from": report.organisation,
                "passed": passed,
                "failed": failed,
            }


_KIND = {"sts": "MTA-STS", "tlsa": "DANE", "no-policy-found": "no policy"}


def _failures(found: Found, domain: str) -> Iterator[dict[str, Any]]:
    from mailguard.delivery.dmarcreport import DmarcReport

    report = found.report
    assert report is not None
    rows = _dmarc_failures(report) if isinstance(report, DmarcReport) else _tls_failures(report)
    for row in rows:
        if domain in ("", row["about"]):
            yield {**row, "from": report.organisation}


def _dmarc_failures(report: DmarcReport) -> Iterator[dict[str, Any]]:
    for row in report.rows:
        if not row.passed:
            results = ", ".join(f"{a.method} {a.result} for {a.domain}" for a in row.auth) or "nothing checked"
            what = {"none": "delivered all the same"}.get(row.disposition, row.disposition)
            yield {
                "about": report.domain,
                "count": row.count,
                "source": row.source_ip,
                "what": what,
                "detail": f"From: {row.header_from}; {results}",
            }


def _tls_failures(report: TlsReport) -> Iterator[dict[str, Any]]:
    for policy in report.policies:
        for one in policy.failures:
            detail = " ".join(filter(None, (one.mx_host, one.reason)))
            yield {
                "about": policy.domain,
                "count": one.count,
                "source": one.sending_ip,
                "what": one.result,
                "detail": detail,
            }
