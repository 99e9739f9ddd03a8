"""``mailguard init``: a folder with everything a server needs, from a domain name alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

import mailguard
from mailguard.cli.output import fail, set_option


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--domain", required=True, help="the mail domain, such as office.example")
@click.option("--hostname", default="", help="this server's name; default: mail.DOMAIN")
@click.option("--port-offset", default=0, type=click.IntRange(0, 64_000), help="listen on N+25, N+587, N+993 and so on")
@set_option
def init(folder: Path, domain: str, hostname: str, port_offset: int, overrides: tuple[str, ...]) -> None:
    """Write mailguard.toml, policy.toml, accounts.toml and a self-signed certificate into FOLDER."""
    name, host = parsed_names(domain, hostname)
    create(folder, name, host, port_offset, overrides)
    _tell(folder, host, name, port_offset)


def parsed_names(domain: str, hostname: str = "") -> tuple[str, str]:
    """Domain and host name in their canonical form; the host is ``mail.`` of the domain by default."""
    from mailguard.model.address import AddressError, parse_domain

    try:
        name = parse_domain(domain)
        return name, parse_domain(hostname or f"mail.{name}")
    except AddressError as error:
        raise click.UsageError(str(error)) from None


def create(folder: Path, domain: str, host: str, port_offset: int, overrides: Sequence[str]) -> None:
    """Writes a whole installation into a folder that holds none yet."""
    from mailguard.config.decode import decode
    from mailguard.config.edit import replace_file, with_settings
    from mailguard.config.schema import MainFile
    from mailguard.net.selfsigned import make_self_signed
    from mailguard.pipeline.source import Source

    if (folder / "mailguard.toml").exists():
        raise fail(f"{folder / 'mailguard.toml'} exists already; remove it, or choose another folder")
    main = with_settings(_fill("mailguard.toml", domain, host, port_offset), overrides)
    settings = decode(Source("--set", main), MainFile)  # before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "mailguard.toml", main)
    for file in ("policy.toml", "accounts.toml"):
        if not (folder / file).exists():
            replace_file(folder / file, _fill(file, domain, host, port_offset))
    certificate, key = folder / settings.tls.certificate, folder / settings.tls.key
    if not certificate.exists():
        make_self_signed(published_names(host, domain), certificate, key)


def published_names(host: str, domain: str) -> list[str]:
    """Every host name under which clients come to a server for this domain."""
    names = [host, f"mail.{domain}", f"autoconfig.{domain}", f"autodiscover.{domain}", f"mta-sts.{domain}", domain]
    return list(dict.fromkeys(names))


def _fill(file: str, domain: str, host: str, offset: int) -> str:
    """A sample file with the domain, the host name and the ports in it."""
    import re

    text = (sample_folder() / file).read_text("utf-8")
    text = text.replace("mail.office.test", host).replace("office.test", domain)
    if file == "mailguard.toml" and offset:
        text = re.sub(r"(?m)^port = (\d+)", lambda match: f"port = {int(match[1]) + offset}", text)
    return text


def sample_folder() -> Path:
    """The sample configuration: beside the package's own files, or in a checkout."""
    package = Path(mailguard.__file__).parent
    for folder in (package / "conf", package.parent / "conf"):
        if folder.is_dir():
            return folder
    raise fail("the sample configuration is missing from this installation")


def _tell(folder: Path, host: str, domain: str, offset: int) -> None:
    click.echo(f"{folder}: a mail server for {domain}, called {host}.")
    click.echo("Next:")
    click.echo(f"  mailguard user add you@{domain} -c {folder}/mailguard.toml")
    click.echo(f"  mailguard serve -c {folder}/mailguard.toml    # SMTP on {offset + 25}, IMAP on {offset + 993}")
