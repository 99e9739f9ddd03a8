"""What the doctor asks of the server: ports, certificates, the queue, plugins, accounts, the DNS."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailguard.cli.doctor_line import Line, fail, ok, warn
from mailguard.config.schema import Config
from mailguard.net.listening import ListenError, ListenerSettings, open_socket
from mailguard.net.tls import TlsContexts, TlsError
from mailguard.net.tls import client_context as tls_client

if TYPE_CHECKING:
    from mailguard.pipeline.policy import Policy
    from mailguard.state.database import Database

_WAIT = 3.0  # seconds for a greeting
_GREETINGS = {"smtp": b"220", "submission": b"220", "submissions": b"220", "lmtp": b"220", "imap": b"* ",
              "imaps": b"* ", "pop3": b"+OK", "pop3s": b"+OK", "http": b"HTTP/1.", "https": b"HTTP/1."}  # fmt: skip
_STALE = 86_400.0  # seconds that mail may wait before it is worth a word


def ports(config: Config, *, running: bool) -> Iterator[Line]:
    """Each listener: does it greet, or, while the server is down, could it be opened?"""
    if not running:
        cure = "`systemctl start mailguard`, or `mailguard serve`; `journalctl -u mailguard` tells why it ended"
        yield fail("server", "it is not running", cure)
    for listener in config.main.listener:
        what = f"{listener.kind} on {listener.where}"
        if running:
            yield _greeting(listener, what)
        else:
            try:
                open_socket(listener).close()
                yield ok("ports", f"{what} is free")
            except ListenError as error:
                yield fail("ports", str(error), "end the other server, or give this one another port")


def _greeting(listener: ListenerSettings, what: str) -> Line:
    try:
        with _connected(listener) as plain:
            sock = plain
            if listener.implicit_tls:
                sock = tls_client(verify=False).wrap_socket(plain)
            if listener.kind in ("http", "https"):
                sock.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            greeting = sock.recv(200)
            if listener.implicit_tls:
                sock.close()
    except (OSError, ssl.SSLError) as error:
        return fail("ports", f"{what}: {error}", "see the log; a listener changed in mailguard.toml needs a restart")
    first = greeting.split(b"\r\n")[0].decode(errors="replace")
    if not greeting.startswith(_GREETINGS[listener.kind]):
        return fail("ports", f"{what} greets with {first[:60]!r}", "another program, or a proxy, answers there")
    return ok("ports", f"{what}: {first[:60]}")


def _connected(listener: ListenerSettings) -> socket.socket:
    if listener.address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_WAIT)
        sock.connect(listener.address)
        return sock
    wild = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    return socket.create_connection((wild.get(listener.address, listener.address), listener.tcp_port), _WAIT)


def certificates(config: Config) -> Iterator[Line]:
    """What clients are shown, and how the CA treats us."""
    try:
        contexts = TlsContexts(config.main.tls, config.base, issued=config.issued)
    except TlsError as error:
        yield fail("tls", str(error), "`[tls]` in mailguard.toml names the files")
        return
    if contexts.issued_problem:
        yield fail("tls", contexts.issued_problem, "`mailguard certificate renew --force` gets another one")
    now = datetime.datetime.now(datetime.UTC)
    for found in contexts.certificates():
        days = (found.not_after - now).days
        if days < 0:
            yield fail("tls", f"{found.path} ended on {found.not_after:%Y-%m-%d}", "renew it; it is taken in by itself")
        elif found.self_signed:
            cure = "`[acme] enabled = true` gets a real one; or name its files in `[tls]`"
            yield warn("tls", f"{found.path} is self-signed: mail programs warn, other servers may refuse", cure)
        elif days < 14:
            yield warn("tls", f"{found.path} ends in {days} days", "renew it; it is taken in by itself")
        else:
            yield ok("tls", f"{found.path}: {', '.join(sorted(found.names))}; until {found.not_after:%Y-%m-%d}")
    yield from _authority(config)


def _authority(config: Config) -> Iterator[Line]:
    if config.issued is None:
        return
    from mailguard.app.certificates import remembered

    memory = remembered(config.issued)
    if memory.error:
        cure = "port 80 of every name must lead here; `mailguard certificate renew` tries at once"
        yield warn("tls", f"the CA gave no certificate: {memory.error}", cure)
    for name, hold in memory.holds.items():
        yield warn("tls", f"{name} is left out of the certificate: {hold.reason}", "let the name lead here, or drop it")
    if not any(listener.kind == "http" for listener in config.main.listener):
        cure = 'add `[[listener]] kind = "http"`: the CA comes to port 80'
        yield fail("tls", "[acme] is enabled, but nothing listens for http", cure)


def signing(config: Config) -> Iterator[Line]:
    """Whether what leaves is signed."""
    from mailguard.delivery.dkimkey import DkimKeyError, DkimKeys, KeyState

    keys = DkimKeys(config.data_dir / "dkim")
    own = sorted({domain.canonical for domain in config.directory.domains.values()})
    for domain in own:
        try:
            signs = [key.selector for key in keys.keys(domain) if key.state is KeyState.SIGNING]
        except DkimKeyError as error:
            yield fail("dkim", str(error), "mail of this domain leaves unsigned until then")
            continue
        if signs:
            yield ok("dkim", f"{domain} signs with {', '.join(signs)}")
        else:
            yield warn("dkim", f"mail from {domain} is not signed", f"`mailguard dkim add {domain}`, then publish it")


def queue(database: Database) -> Iterator[Line]:
    """What waits to leave, and for how long."""
    import sqlalchemy as sa

    from mailguard.state.queue import HELD, queue_message, queue_recipient

    with database.read() as connection:
        joined = queue_recipient.join(queue_message, queue_message.c.id == queue_recipient.c.message_id)
        asked = sa.select(queue_recipient.c.state, sa.func.count(), sa.func.min(queue_message.c.created))
        rows = connection.execute(asked.select_from(joined).group_by(queue_recipient.c.state)).all()
    waiting = [(count, oldest) for state, count, oldest in rows if state != HELD]
    held = sum(count for state, count, _ in rows if state == HELD)
    if held:
        yield warn(
            "queue", f"{held} recipients are on hold", "`mailguard queue list --held`, then release or drop them"
        )
    if not waiting:
        yield ok("queue", "nothing waits")
    for count, oldest in waiting:
        age = time.time() - oldest
        text = f"{count} recipients wait, the oldest for {age / 3600:.1f} h"
        if age > _STALE:
            yield warn("queue", text, "`mailguard queue destinations` tells who does not take it, and why")
        else:
            yield ok("queue", text)


def plugins(policy: Policy, database: Database) -> Iterator[Line]:
    """Whether the checks of the policy have worked lately."""
    import sqlalchemy as sa

    from mailguard.state.record import verdict

    asked = sa.select(verdict.c.data).where(verdict.c.at > time.time() - 86_400).order_by(verdict.c.seq.desc())
    with database.read() as connection:
        rows = connection.execute(asked.limit(500)).scalars().all()
    faults: Counter[str] = Counter()
    for row in rows:
        for name, finding in json.loads(row).get("findings", {}).items():
            faults[name] += finding["word"] == "error"
    for check in policy.checks:
        if check.model.mode == "off":
            continue
        count = faults[check.name]
        if count > len(rows) / 4 and count > 3:
            cure = f'`mailguard trace`, then `mailguard why ID` of one; or `mode = "off"` in {check.where}'
            yield warn("plugins", f"{check.name} failed in {count} of the last {len(rows)} mails", cure)
        else:
            yield ok("plugins", f"{check.name} loads; {count} faults in {len(rows)} mails of the last day")


def accounts(config: Config, database: Database) -> Iterator[Line]:
    """Whether somebody can sign in, and postmaster reads what others write (RFC 5321 §4.5.1)."""
    from mailguard.auth.password import Passwords
    from mailguard.model.address import Address

    known = Passwords(database).known()
    people = [a for a in config.directory.accounts.values() if not a.shared and not a.disabled]
    without = [str(a) for a in people if a.key not in known]
    if not people:
        yield fail("accounts", "there are none", "`mailguard user add you@DOMAIN`")
    for address in without:
        yield warn("accounts", f"{address} has no password", f"`mailguard user passwd {address}`")
    for domain in config.directory.domains:
        found = config.directory.resolve(Address("postmaster", domain))
        if not found.accounts and not found.remote:
            yield fail(
                "accounts", f"nobody reads postmaster@{domain}", "set `postmaster` of the domain in accounts.toml"
            )
    if people and not without:
        yield ok("accounts", f"{len(people)}, each with a password")


def dns(config: Config) -> Iterator[Line]:
    """All that ``mailguard dns check`` knows, in short."""
    from mailguard.app.publication import look

    found = look(config)
    for checked in found:
        if checked.failed:
            yield fail("dns", f"{checked.subject}: {checked.state.value}", checked.cure)
    good = sum(checked.state.value == "ok" for checked in found)
    hints = sum(not checked.failed and checked.state.value != "ok" for checked in found)
    if hints:
        yield warn("dns", f"{hints} things could be better", "`mailguard dns check` names them")
    yield ok("dns", f"{good} of {len(found)} are well")
