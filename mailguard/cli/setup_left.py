"""What ``mailguard setup`` cannot do itself: printed as commands to copy, in their order, and nothing that is done."""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from mailguard.cli.setup_write import Answers, Done

_UNITS = Path("/etc/systemd/system")


def tell(answers: Answers, done: Done) -> None:
    """Prints what was made, the passwords, and what is left."""
    click.echo(f"\nA mail server for {answers.domain}, called {answers.hostname}, is set up in {answers.folder}.")
    for address, password in done.passwords.items():
        click.echo(f"  {address}  password: {password}")
    click.echo("\nLeft to do:")
    for number, (what, commands) in enumerate(left(answers, done), 1):
        click.echo(f"{number}. {what}")
        for command in commands:
            click.echo(f"     {command}")


def left(answers: Answers, done: Done) -> Iterator[tuple[str, list[str]]]:
    """Each step: what it is for, and its commands."""
    config = shlex.quote(str(answers.config))
    yield from _user(answers, done)
    ports = sorted(
        {listener.tcp_port for listener in done.config.main.listener if not listener.address.startswith("/")}
    )
    listed = ",".join(map(str, ports))
    yield (
        f"Open these ports in every firewall between here and the Internet: {listed.replace(',', ', ')}.",
        [f"ufw allow {listed}/tcp", f"nft add rule inet filter input tcp dport {{ {listed} }} accept    # or this"],
    )
    if 25 in ports:
        yield (
            "Have port 25 opened outwards, too: many providers block it until asked. Or set a smarthost in [relay].",
            [],
        )
    yield f"Publish the DNS records in {answers.zone}.", [f"mailguard dns show --format table -c {config}"]
    for address in answers.addresses:
        yield f"Have whoever gave you {address} name it {answers.hostname} (reverse DNS, PTR).", []
    if not answers.addresses:
        yield "Tell mailguard its public address once you know it: `addresses` in `[dns_check]`.", []
    if answers.certificate == "self-signed":
        yield "Get a real certificate: clients warn of a self-signed one. `enabled = true` in `[acme]` does it.", []
    if not answers.accounts:
        yield "Add accounts.", [f"mailguard user add you@{answers.domain} -c {config}"]
    target = _UNITS / "mailguard.service"
    copy = [] if answers.unit == target else [f"cp {shlex.quote(str(answers.unit))} {target}"]
    yield "Start the service.", [*copy, "systemctl daemon-reload", "systemctl enable --now mailguard"]
    yield "Look whether all is well, now and at any time.", [f"mailguard doctor -c {config}"]


def _user(answers: Answers, done: Done) -> Iterator[tuple[str, list[str]]]:
    if done.owned:
        return
    data, commands = shlex.quote(str(answers.data)), []
    try:
        pwd.getpwnam(answers.user)
    except KeyError:
        commands.append(f"useradd --system --home-dir {data} --shell /usr/sbin/nologin {answers.user}")
    key = done.config.base / done.config.main.tls.key
    mine = shlex.quote(str(key)) if answers.files is None else ""
    commands.append(f"chown -R {answers.user}: {data} {mine}".rstrip())
    if answers.files is not None:
        commands.append(f"setfacl -m u:{answers.user}:r {shlex.quote(str(key))}    # and of every renewed one")
    if os.geteuid() != 0:
        commands = [f"sudo {command}" for command in commands]
    yield f"Give the files to the user that the service runs as ({answers.user}).", commands
