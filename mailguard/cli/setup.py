"""``mailguard setup``: the first run of a real office, asked step by step or told by options."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import click

from mailguard.cli.output import set_option
from mailguard.cli.setup_write import Answers, Done, write

_SYSTEM = Path("/etc/mailguard")
_KINDS = ("acme", "self-signed", "files")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=_SYSTEM)
@click.option("--domain", help="the mail domain, such as office.example")
@click.option("--hostname", help="this server's name; default: mail.DOMAIN")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="folder of mail, queue and state")
@click.option("--address", "addresses", multiple=True, help="public IP address of this server; may be repeated")
@click.option("--account", "accounts", multiple=True, help="an address to make; the first one is postmaster, too")
@click.option("--password-stdin", is_flag=True, help="one password a line for the accounts; default: made and printed")
@click.option("--certificate", type=click.Choice(_KINDS), help="where it comes from; acme: Let's Encrypt, by itself")
@click.option("--certificate-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="for `files`")
@click.option("--key-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="for `files`")
@click.option("--email", default="", help="where the CA may write to")
@click.option("--staging", is_flag=True, help="Let's Encrypt's trial system, while you try things out")
@click.option("--user", default="mailguard", show_default=True, help="the user that the service runs as")
@click.option("--unit", type=click.Path(path_type=Path, dir_okay=False), help="where to write the systemd unit")
@click.option("--port-offset", default=0, type=click.IntRange(0, 64_000), help="listen on N+25, N+587, N+993 and so on")
@click.option("-y", "--yes", is_flag=True, help="ask nothing: take the defaults for what no option tells")
@set_option
def setup(
    folder: Path,
    domain: str | None,
    hostname: str | None,
    data: Path | None,
    addresses: tuple[str, ...],
    accounts: tuple[str, ...],
    password_stdin: bool,
    certificate: str | None,
    certificate_file: Path | None,
    key_file: Path | None,
    email: str,
    staging: bool,
    user: str,
    unit: Path | None,
    port_offset: int,
    yes: bool,
    overrides: tuple[str, ...],
) -> None:
    """Set up a mail server in FOLDER (default: /etc/mailguard) and print what is left to do by hand.

    Writes the configuration, accounts, DKIM keys, a certificate to begin with, a systemd unit and the DNS records.
    """
    from mailguard.cli.setup_left import tell

    ask = not yes
    folder = folder.absolute()
    name, host = _names(domain, hostname, ask)
    answers = Answers(
        folder=folder,
        domain=name,
        hostname=host,
        data=(data or _data(folder, ask)).absolute(),
        addresses=_public(addresses, ask),
        accounts=_people(name, accounts, ask),
        passwords_given=password_stdin,
        certificate=_kind(certificate, certificate_file, ask),
        files=_files(certificate_file, key_file),
        email=email,
        staging=staging,
        user=user,
        unit=unit or folder / "mailguard.service",
        port_offset=port_offset,
        overrides=overrides,
    )
    done: Done = write(answers)
    tell(answers, done)


def _names(domain: str | None, hostname: str | None, ask: bool) -> tuple[str, str]:
    """The mail domain and the server's name."""
    from mailguard.cli.init import parsed_names

    if domain is None:
        if not ask:
            raise click.UsageError("--domain is needed with --yes")
        domain = click.prompt("Your mail domain (what stands behind the @)", default=_own_domain() or None)
    name, host = parsed_names(str(domain), hostname or "")
    if hostname is None and ask:
        _, host = parsed_names(name, click.prompt("Name of this server (in MX, and for clients)", default=host))
    return name, host


def _own_domain() -> str:
    host, _, domain = socket.getfqdn().partition(".")
    return domain if "." in domain and host and not domain.endswith((".localdomain", ".arpa")) else ""


def _data(folder: Path, ask: bool) -> Path:
    usual = Path("/var/lib/mailguard") if folder == _SYSTEM else folder / "data"
    return Path(click.prompt("Folder for mail, queue and state", default=str(usual))) if ask else usual


def _public(given: tuple[str, ...], ask: bool) -> tuple[str, ...]:
    found = given or tuple(_guessed())
    if not given and ask:
        text = click.prompt("Public addresses of this server (for DNS)", default=" ".join(found), show_default=True)
        found = tuple(text.replace(",", " ").split())
    for text in found:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise click.UsageError(f"{text} is not an IP address") from None
    return found


def _guessed() -> list[str]:
    """Our own addresses that the Internet can reach; nothing is sent to find out."""
    found = []
    for family, outside in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((outside, 9))
                address = sock.getsockname()[0]
        except OSError:
            continue
        if ipaddress.ip_address(address).is_global:
            found.append(address)
    return found


def _people(domain: str, given: tuple[str, ...], ask: bool) -> tuple[str, ...]:
    from mailguard.model.address import Address, AddressError

    found = list(given)
    if not given and ask:
        click.echo("Accounts: the first one also gets mail for postmaster. An empty line ends the list.")
        while text := click.prompt(f"Address (somebody@{domain})", default="", show_default=False).strip():
            found.append(text if "@" in text else f"{text}@{domain}")
    for text in found:
        try:
            if Address.parse(text).domain != domain:
                raise click.UsageError(f"{text} is not in {domain}; further domains go into accounts.toml later")
        except AddressError as error:
            raise click.UsageError(f"{text}: {error}") from None
    return tuple(found)


def _kind(given: str | None, file: Path | None, ask: bool) -> str:
    if given or file:
        return given or "files"
    if not ask:
        return "self-signed"
    click.echo("Certificate: `acme` gets one from Let's Encrypt by itself (and agrees to its terms of service).")
    return str(click.prompt("Certificate", type=click.Choice(_KINDS), default="acme"))


def _files(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate-file and --key-file belong together")
    return (certificate.absolute(), key.absolute()) if certificate and key else None
