"""``mailguard.toml`` as a whole: the settings of every part, composed; and the files it refers to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailguard.auth.settings import AuthSettings
from mailguard.config.decode import ConfigError, decode, read_source
from mailguard.delivery.dnscheck_settings import DnsCheckSettings
from mailguard.delivery.relay_settings import QueueSettings, RelaySettings
from mailguard.delivery.report_settings import ReportSettings
from mailguard.delivery.submission_settings import SubmissionSettings
from mailguard.model.address import parse_domain
from mailguard.net.listening import ListenerSettings
from mailguard.net.settings import AcmeSettings, DnsSettings, LimitSettings, TlsSettings
from mailguard.observe.settings import LogSettings
from mailguard.pipeline.settings import PolicySettings
from mailguard.pipeline.source import Problem, Source
from mailguard.pipeline.texts import Texts
from mailguard.server.imap_settings import ImapSettings
from mailguard.server.pop3_settings import Pop3Settings
from mailguard.server.smtp_settings import SmtpSettings
from mailguard.server.web_settings import WebSettings
from mailguard.state.settings import StateSettings
from mailguard.store.settings import StoreSettings

if TYPE_CHECKING:
    from mailguard.auth.accounts import Directory

ENVIRONMENT = "MAILGUARD_CONFIG"
SYSTEM = Path("/etc/mailguard/mailguard.toml")


class MainFile(BaseModel):
    """The whole of ``mailguard.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hostname: str = Field(description="this server's name: in greetings, in the MX record, what clients connect to")
    data_dir: Path = Field(
        default=Path("data"), description="folder of mail, queue and state database, relative to this file"
    )
    accounts: Path = Field(default=Path("accounts.toml"), description="the accounts file, relative to this file")
    workers: int = Field(default=0, ge=0, le=64, description="worker processes; 0: one for each CPU")
    user: str = Field(default="", description="user to become once the ports are open; empty: stay who we are")
    subaddress_separator: str = Field(
        default="+", max_length=1, description="divides user and tag in user+tag@domain; empty: no subaddresses"
    )
    listener: tuple[ListenerSettings, ...] = Field(default=(), description="where to listen")
    limits: LimitSettings = Field(default=LimitSettings(), description="connections")
    tls: TlsSettings = Field(default=TlsSettings(), description="certificates")
    imap: ImapSettings = Field(default=ImapSettings(), description="IMAP")
    acme: AcmeSettings = Field(default=AcmeSettings(), description="certificates by themselves")
    pop3: Pop3Settings = Field(default=Pop3Settings(), description="POP3")
    web: WebSettings = Field(default=WebSettings(), description="set-up pages")
    dns: DnsSettings = Field(default=DnsSettings(), description="the resolver")
    dns_check: DnsCheckSettings = Field(default=DnsCheckSettings(), description="what we publish, looked after")
    state: StateSettings = Field(default=StateSettings(), description="the state database")
    store: StoreSettings = Field(default=StoreSettings(), description="mail on disk")
    auth: AuthSettings = Field(default=AuthSettings(), description="sign-in")
    policy: PolicySettings = Field(default=PolicySettings(), description="where policy and loose plugins are")
    smtp: SmtpSettings = Field(default=SmtpSettings(), description="receiving mail")
    submission: SubmissionSettings = Field(default=SubmissionSettings(), description="mail from our own users")
    relay: RelaySettings = Field(default=RelaySettings(), description="mail to other servers")
    queue: QueueSettings = Field(default=QueueSettings(), description="retries and limits of outgoing mail")
    reports: ReportSettings = Field(default=ReportSettings(), description="reports to other domains")
    log: LogSettings = Field(default=LogSettings(), description="what is logged, and how")

    @field_validator("hostname")
    @classmethod
    def _hostname(cls, value: str) -> str:
        name = parse_domain(value)
        if not re.search(r"[a-z]", name) or name.startswith("["):
            raise ValueError("a host name is needed, such as mail.office.example")
        return name


@dataclass(frozen=True, slots=True)
class Config:
    """One consistent configuration: ``main`` (mailguard.toml) and the directory made of accounts.toml.

    ``path`` is mailguard.toml itself; what it names is relative to its folder.
    """

    path: Path
    main: MainFile
    directory: Directory

    @property
    def base(self) -> Path:
        """The folder of the configuration."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.base / self.main.data_dir

    @property
    def issued(self) -> Path | None:
        """Certificate and key from the CA of ``[acme]``: where they are or will be; None where none is asked."""
        return self.data_dir / "acme" / "certificate.pem" if self.main.acme.enabled else None

    @property
    def accounts_path(self) -> Path:
        """The accounts file."""
        return self.base / self.main.accounts

    @property
    def workers(self) -> int:
        """How many worker processes."""
        return self.main.workers or len(os.sched_getaffinity(0))


def find_config(given: Path | None) -> Path:
    """The configuration file of ``-c``, of the environment, of this folder or of the system."""
    named = given or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)
    return (named or (Path("mailguard.toml") if Path("mailguard.toml").exists() else SYSTEM)).absolute()


_NO_MAIN = "`mailguard init DIR --domain D` makes one; -c names another"


def load_main(path: Path) -> MainFile:
    """mailguard.toml alone, for commands that need no accounts. Raises ConfigError with every mistake."""
    return decode(read_source(path, _NO_MAIN), MainFile)


def load_config(path: Path, overrides: Sequence[str] = (), texts: Texts | None = None) -> Config:
    """Reads mailguard.toml and accounts.toml. Raises ConfigError with every mistake in both.

    ``overrides`` are ``dotted.key=VALUE`` for mailguard.toml. The policy is compiled elsewhere, see ``check``.
    """
    source = read_source(path, _NO_MAIN, texts)
    problems: list[Problem] = []
    main = None
    try:
        main = decode(source, MainFile, overrides)
    except ConfigError as error:
        problems += error.problems
    data_dir = path.parent / (main.data_dir if main else "data")
    accounts_path = path.parent / (main.accounts if main else str(source.data.get("accounts", "accounts.toml")))
    separator = main.subaddress_separator if main else "+"
    try:
        directory = load_accounts(accounts_path, data_dir, separator=separator, texts=texts)
    except ConfigError as error:
        problems += error.problems
    if main is not None:
        problems += _listener_doubles(main, source)
    if problems or main is None:
        raise ConfigError(problems)
    return Config(path, main, directory)


def load_accounts(path: Path, data_dir: Path, *, separator: str = "+", texts: Texts | None = None) -> Directory:
    """The directory of an accounts.toml. Raises ConfigError with every mistake."""
    from mailguard.auth.accountcheck import mistakes  # most commands need mailguard.toml only
    from mailguard.auth.accounts import Directory
    from mailguard.auth.accountsfile import AccountsFile

    source = read_source(path, "`accounts` in mailguard.toml names it", texts)
    file = decode(source, AccountsFile)
    problems = [source.problem(where, text, cure) for where, text, cure in mistakes(file, separator)]
    if problems:
        raise ConfigError(problems)
    return Directory.build(file, data_dir, separator=separator)


def _listener_doubles(main: MainFile, source: Source) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for number, listener in enumerate(main.listener):
        if listener.where in seen:
            text = f"{listener.where} is already that of listener {seen[listener.where]}"
            yield source.problem(("listener", number), text, "give it another port or address")
        seen.setdefault(listener.where, number)
