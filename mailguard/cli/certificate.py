"""``mailguard certificate``: what clients are shown, and a new one from the CA without waiting."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.output import config_option, fail, json_option

if TYPE_CHECKING:
    from mailguard.app.certificates import Certificates
    from mailguard.config.schema import Config


@click.group()
def certificate() -> None:
    """TLS certificates: show them, get new ones."""


def _load(config: Path | None) -> Config:
    from mailguard.config.schema import find_config, load_config

    return load_config(find_config(config))


def _ours(config: Config) -> Certificates:
    from mailguard.app.certificates import Certificates
    from mailguard.net.resolver import DnsResolver

    if config.issued is None:
        raise fail(f"`[acme] enabled = true` in {config.path} makes mailguard get certificates; it is not set")
    return Certificates(config, DnsResolver(config.main.dns), _Say(), time.time)


class _Say:
    def warning(self, text: str, **more: object) -> None:
        click.echo(f"{text}: " + ", ".join(f"{key}={value}" for key, value in more.items()), err=True)


@certificate.command()
@config_option
@json_option
def show(config: Path | None, as_json: bool) -> None:
    """Show the certificates in use: names, end, key digest for TLSA; and what ACME is about to do."""
    from mailguard.net.tls import TlsContexts, TlsError, key_digest

    loaded = _load(config)
    try:
        contexts = TlsContexts(loaded.main.tls, loaded.base, issued=loaded.issued)
    except TlsError as error:
        raise fail(str(error)) from None
    rows = [
        {
            "file": str(found.path),
            "names": sorted(found.names),
            "ends": found.not_after.isoformat(),
            "self_signed": found.self_signed,
            "tlsa": f"3 1 1 {key_digest(found)}",
        }
        for found in contexts.certificates()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for found, row in zip(contexts.certificates(), rows, strict=True):
        kind = ", SELF-SIGNED: clients will warn" if found.self_signed else ""
        click.echo(f"{row['file']}: until {found.not_after:%Y-%m-%d}{kind}")
        click.echo(f"  names: {', '.join(sorted(found.names))}\n  TLSA:  {row['tlsa']}")
    if contexts.issued_problem:
        click.echo(f"not used: {contexts.issued_problem}", err=True)
    if loaded.issued is not None:
        _plans(_ours(loaded))


def _plans(ours: Certificates) -> None:
    click.echo(f"ACME: {ours.acme.settings.url}")
    click.echo(f"  due:   {ours.why_due() or 'no'}")
    if ours.memory.error:
        click.echo(f"  last attempt: {ours.memory.error}; the next one in {_span(ours.memory.next_attempt)}")
    for name, hold in ours.memory.holds.items():
        click.echo(f"  left out: {name} ({hold.reason}); tried again in {_span(hold.until)}")


def _span(until: float) -> str:
    return f"{max(0, round((until - time.time()) / 60))} min"


@certificate.command()
@config_option
@click.option("--force", is_flag=True, help="even if none is due")
@click.option("--change-key", is_flag=True, help="with the key that `next-key` has made; its TLSA record must be known")
def renew(config: Path | None, force: bool, change_key: bool) -> None:
    """Ask the CA now, without waiting for the time of the next attempt. A running server takes the new one in."""
    from mailguard.net.acme import AcmeError

    loaded = _load(config)
    ours = _ours(loaded)
    ours.memory.holds.clear()  # somebody has looked after the names, or would not ask
    why = ours.why_due() or _missing(ours) or ("you asked for it" if force or change_key else "")
    if not why:
        click.echo("none is due; --force gets one all the same")
        return
    click.echo(f"asking {ours.acme.settings.url}: {why}")
    try:
        names = ours.renew(change_key=change_key)
    except AcmeError as error:
        raise fail(f'{error} (is port 80 of these names ours, and `kind = "http"` listened on?)') from None
    finally:
        _give_back(loaded.data_dir)
    click.echo(f"{ours.path}: a certificate for {', '.join(names)}")


@certificate.command()
@config_option
def next_key(config: Path | None) -> None:
    """Make the key that is to follow, for those who publish TLSA: its record has to stand before it is used."""
    from mailguard.net.tls import private_key_digest

    loaded = _load(config)
    digest = private_key_digest(_ours(loaded).prepare_key())
    _give_back(loaded.data_dir)
    click.echo(f"_25._tcp.{loaded.main.hostname}. IN TLSA 3 1 1 {digest}")
    click.echo("Publish this beside the present one, wait two days, then: mailguard certificate renew --change-key")


def _missing(ours: Certificates) -> str:
    found = ours.current()
    missing = [name for name in ours.wanted() if found is None or name not in found.names]
    return f"{', '.join(missing)} is not in it" if missing else ""


def _give_back(data_dir: Path) -> None:
    """What root wrote must be readable by the server's own user."""
    if os.geteuid() != 0:
        return
    owner = data_dir.stat()
    for folder in (data_dir / "acme", data_dir / "challenges"):
        for path in (folder, *folder.iterdir()) if folder.is_dir() else ():
            os.chown(path, owner.st_uid, owner.st_gid)
