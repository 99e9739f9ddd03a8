"""Other mail servers as next hop and as smarthost, each on loopback with a scratch folder; they hand on to a peer.

They take mail for ``x.test`` (not for ``nobody@x.test``) from anybody, and for all the world from ``us`` with the
password ``secret`` inside TLS.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KNOWN = ("u@x.test", "v@x.test", "ü@x.test")
SERVICES = """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def program(name: str) -> str:
    """Where a program is, ``""`` if nowhere."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or ""


def missing(name: str) -> str:
    """Why a server cannot be tried here, ``""`` if it can."""
    needs = {"postfix": ("postfix",), "exim": ("Debian-exim",), "opensmtpd": ("opensmtpd", "opensmtpq")}
    binary = {"postfix": "postfix", "exim": "exim4", "opensmtpd": "smtpd"}[name]
    if os.geteuid() != 0:
        return "it needs root"
    if not program(binary):
        return f"{binary} is not installed"
    try:
        for user in needs[name]:
            pwd.getpwnam(user)
    except KeyError:
        return f"there is no user {user}"
    return ""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, log: Path) -> None:
    until = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.settimeout(10)
            if sock.recv(3) == b"220":
                return
        assert time.monotonic() < until, log.read_text() if log.exists() else "it does not answer"
        time.sleep(0.1)


@contextlib.contextmanager
def rival(name: str, folder: Path, pem: Path, onward: int) -> Iterator[int]:
    """Runs one; its port. ``pem`` holds its key and certificate, ``onward`` is where it hands mail on to."""
    start: Any = {"postfix": _postfix, "exim": _exim, "opensmtpd": _opensmtpd}[name]
    port = free_port()
    with start(folder, pem, port, onward):
        wait_for(port, folder / "log")
        yield port


@contextlib.contextmanager
def _postfix(folder: Path, pem: Path, port: int, onward: int) -> Iterator[None]:
    etc, queue, data = folder / "etc", folder / "queue", folder / "data"
    for path in (etc, queue, data):
        path.mkdir()
    shutil.chown(data, "postfix")
    (etc / "known").write_text("".join(f"{address} x\n" for address in KNOWN))
    settings = {
        "compatibility_level": "3.6", "queue_directory": queue, "data_directory": data, "maillog_file": folder / "log",
        "maillog_file_prefixes": "/tmp", "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
        "myhostname": "mx.postfix.test", "mydestination": "", "mynetworks": "", "alias_maps": "", "alias_database": "",
        "relay_domains": "x.test", "relay_recipient_maps": f"texthash:{etc}/known",
        "relayhost": f"[127.0.0.1]:{onward}", "disable_dns_lookups": "yes", "smtp_host_lookup": "native",
        "smtpd_tls_security_level": "may", "smtpd_tls_chain_files": pem, "smtpd_tls_auth_only": "yes",
        "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": folder / "auth",
        "smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination", "smtpd_delay_reject": "yes",
    }  # fmt: skip
    (etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    (etc / "master.cf").write_text(f"127.0.0.1:{port} inet n - n - - smtpd\n{SERVICES.lstrip()}")
    with _auth_service(folder / "auth"):
        subprocess.run([program("postfix"), "-c", str(etc), "start"], check=True, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            subprocess.run([program("postfix"), "-c", str(etc), "stop"], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def _auth_service(path: Path) -> Iterator[None]:
    """Just enough of Dovecot's authentication protocol for Postfix to know one user."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o666)
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=_authenticate, args=(client,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _authenticate(client: socket.socket) -> None:
    with contextlib.suppress(OSError), client, client.makefile("rw") as file:
        file.write("VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123\nDONE\n")
        file.flush()
        for line in file:
            words = line.rstrip("\n").split("\t")
            if words[0] == "AUTH":
                answer = next((word[5:] for word in words if word.startswith("resp=")), "")
                good = b64decode(answer) == b"\0us\0secret"
                file.write(f"OK\t{words[1]}\tuser=us\n" if good else f"FAIL\t{words[1]}\tuser=us\n")
                file.flush()


@contextlib.contextmanager
def _exim(folder: Path, pem: Path, port: int, onward: int) -> Iterator[None]:
    spool = folder / "spool"
    spool.mkdir()
    shutil.chown(spool, "Debian-exim")
    shutil.copy(pem, folder / "exim.pem")
    shutil.chown(folder / "exim.pem", "Debian-exim")
    known = " : ".join(address.partition("@")[0] for address in KNOWN)
    config = folder / "exim.conf"
    config.write_text(f"""
exim_path = {program("exim4")}
primary_hostname = mx.exim.test
spool_directory = {spool}
log_file_path = {spool}/%slog
pid_file_path = {spool}/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts = *
tls_certificate = {folder}/exim.pem
tls_privatekey = {folder}/exim.pem
rfc1413_query_timeout = 0s
smtp_accept_queue_per_connection = 0
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept authenticated = *
  deny message = relay not permitted
       !domains = x.test
  deny message = no such user
       !local_parts = {known}
  accept
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1::{onward}
  self = send
  transport = out
begin transports
out:
  driver = smtp
  hosts_avoid_tls = *
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{us}}}}{{eq{{$auth3}}{{secret}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
""")
    with _running(folder, program("exim4"), "-C", str(config), "-bdf", "-q1m"):
        yield


@contextlib.contextmanager
def _opensmtpd(folder: Path, pem: Path, port: int, onward: int) -> Iterator[None]:
    text = pem.read_text()
    cut = text.index("-----BEGIN CERTIFICATE-----")
    key, certificate = folder / "smtpd.key", folder / "smtpd.crt"
    key.write_text(text[:cut])
    certificate.write_text(text[cut:])
    key.chmod(0o600)
    done = subprocess.run(["openssl", "passwd", "-6", "secret"], capture_output=True, text=True, check=True)
    credentials = folder / "credentials"
    credentials.write_text(f"us {done.stdout}")
    credentials.chmod(0o640)
    shutil.chown(credentials, group="opensmtpd")
    known = ", ".join(f'"{address}"' for address in KNOWN)
    config = folder / "smtpd.conf"
    config.write_text(f"""
pki ours cert "{certificate}"
pki ours key "{key}"
table credentials file:{credentials}
table known {{ {known} }}
listen on 127.0.0.1 port {port} tls pki ours auth-optional <credentials> hostname mx.opensmtpd.test
action "on" relay host "smtp+notls://127.0.0.1:{onward}"
match from any for domain "x.test" rcpt-to <known> action "on"
match from auth for any action "on"
""")
    with _running(folder, program("smtpd"), "-d", "-f", str(config)):
        yield


@contextlib.contextmanager
def _running(folder: Path, *command: str) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
