"""What ``mailguard setup`` writes: configuration, accounts, keys, the systemd unit, the DNS records."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mailguard.config.schema import Config

_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything that was asked; ``certificate`` is ``acme``, ``self-signed`` or ``files`` (then ``files``)."""

    folder: Path
    domain: str
    hostname: str
    data: Path
    addresses: tuple[str, ...]
    accounts: tuple[str, ...]
    passwords_given: bool
    certificate: str
    files: tuple[Path, Path] | None
    email: str
    staging: bool
    user: str
    unit: Path
    port_offset: int
    overrides: tuple[str, ...]

    @property
    def config(self) -> Path:
        """The main configuration file."""
        return self.folder / "mailguard.toml"

    @property
    def zone(self) -> Path:
        """The DNS records, as a zone file has them."""
        return self.folder / "dns-records.txt"


@dataclass(slots=True)
class Done:
    """What came of it: accounts with the passwords that were made, and whether the service's user owns its files."""

    config: Config
    passwords: dict[str, str] = field(default_factory=dict)
    owned: bool = False


def write(answers: Answers) -> Done:
    """Writes everything; ends the command with one line if something is in the way."""
    from mailguard.cli.init import create
    from mailguard.config.schema import load_config

    if answers.certificate == "files" and answers.files is None:
        raise click.UsageError("--certificate files needs --certificate-file and --key-file")
    create(answers.folder, answers.domain, answers.hostname, answers.port_offset, _settings(answers))
    answers.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = Done(load_config(answers.config))
    _people(answers, done)
    _keys(answers)
    done.config = load_config(answers.config)
    answers.zone.write_text(_zone(done.config))
    answers.unit.parent.mkdir(parents=True, exist_ok=True)
    answers.unit.write_text(unit_text(answers.config, answers.data, answers.user))
    done.owned = _give(answers, done.config)
    return done


def _settings(answers: Answers) -> list[str]:
    inside = answers.data.parent == answers.folder
    found = [f'data_dir="{answers.data.name if inside else answers.data}"']
    if answers.addresses:
        found.append(f"dns_check.addresses={list(answers.addresses)}".replace("'", '"'))
    if answers.certificate == "acme":
        found += ["acme.enabled=true", *(["acme.staging=true"] if answers.staging else [])]
        found += [f'acme.email="{answers.email}"'] if answers.email else []
    if answers.files:
        found += [f'tls.certificate="{answers.files[0]}"', f'tls.key="{answers.files[1]}"']
    return [*found, *answers.overrides]


def _people(answers: Answers, done: Done) -> None:
    from mailguard.auth.password import Passwords, WeakPasswordError
    from mailguard.cli.installation import open_database
    from mailguard.config.edit import append_table, edit_file
    from mailguard.model.address import Address

    config = done.config
    passwords = Passwords(open_database(config.main.state, config.data_dir))
    for text in answers.accounts:
        address = Address.parse(text)
        password = sys.stdin.readline().rstrip("\r\n") if answers.passwords_given else _made()
        try:
            passwords.store(address.key, password)
        except WeakPasswordError as error:
            raise click.ClickException(f"{text}: {error}") from None
        values = {"address": str(address)}
        edit_file(config.accounts_path, lambda document, values=values: append_table(document, "account", values))  # type: ignore[misc]
        if not answers.passwords_given:
            done.passwords[text] = password


def _made() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(16))


def _keys(answers: Answers) -> None:
    """DKIM keys, so that the very first mail is signed."""
    from mailguard.delivery.dkimkey import DkimKeyError, DkimKeys

    with contextlib.suppress(DkimKeyError):  # there are some, from a former life
        DkimKeys(answers.data / "dkim").add(answers.domain)


def _zone(config: Config) -> str:
    from mailguard.app.publication import plans
    from mailguard.protocol.autoconfig.records import records, zone_line

    public = config.main.dns_check.addresses
    wanted = dict.fromkeys(record for plan in plans(config, public) for record in records(plan))
    lines = [f"; {record.why}\n{zone_line(record)}\n" for record in wanted]
    return "; Publish these. `mailguard dns show` prints them anew, `mailguard dns check` looks for them.\n" + "".join(
        lines
    )


def unit_text(config: Path, data: Path, user: str) -> str:
    """The systemd unit of ``conf/`` for this installation."""
    from mailguard.cli.init import sample_folder

    text = (sample_folder() / "mailguard.service").read_text("utf-8")
    for old, new in (
        ("/usr/local/bin/mailguard serve -c /etc/mailguard/mailguard.toml", f"{_program()} serve -c {_quoted(config)}"),
        ("WorkingDirectory=/var/lib/mailguard", f"WorkingDirectory={str(data).replace('%', '%%')}"),  # takes no quotes
        ("ReadWritePaths=/var/lib/mailguard", f"ReadWritePaths={_quoted(data)}"),
        ("User=mailguard", f"User={user}"),
        ("Group=mailguard", f"Group={user}"),
    ):
        text = text.replace(old, new)
    if any(path.is_relative_to(home) for path in (config, data, Path(sys.prefix)) for home in ("/home", "/root")):
        text = text.replace("ProtectHome=yes", "ProtectHome=no")  # the installation itself lies there
    return text


def _program() -> str:
    beside = Path(sys.executable).with_name("mailguard")
    return _quoted(beside) if beside.exists() else f"{_quoted(Path(sys.executable))} -m mailguard"


def _quoted(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return f'"{text}"' if " " in text else text


def _give(answers: Answers, config: Config) -> bool:
    """Lets the service's user own its data and read its key; False where that is left to do."""
    try:
        entry = pwd.getpwnam(answers.user)
    except KeyError:
        return False
    if os.geteuid() != 0:
        return entry.pw_uid == os.geteuid()
    key = config.base / config.main.tls.key
    files = [key] if answers.files is None else []
    for path in (answers.data, *answers.data.rglob("*"), *files):
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    return True
