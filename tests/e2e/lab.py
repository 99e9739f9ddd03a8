"""A machine of its own for a mail client: nothing but loopback, a scratch DNS on port 53, mailguard on its usual ports.

To be run as ``unshare --net --mount python lab.py CLIENT FOLDER``; it ends with 0 if all went well. The office hosts
mail for ``customer.test``, whose DNS has an MX and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "delivery")]

import evolution  # noqa: E402
import installed  # noqa: E402
import thunderbird  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding  # noqa: E402
from pki import Authority  # noqa: E402

from mailguard.testing import DnsServer  # noqa: E402

ZONE = """
    customer.test.           MX  10 mail.office.test.
    mail.office.test.        A   127.0.0.1
    autoconfig.office.test.  A   127.0.0.1
    office.test.             MX  10 mail.office.test.
"""
CUSTOMER = "ann@customer.test"
SCREEN = "1200x900x24"


def make(folder: Path) -> tuple[DnsServer, Any, Any]:
    """The name server, the mail server and the authority of its certificate."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    authority = Authority(folder, "Office CA")
    resolv, hosts = folder / "resolv.conf", folder / "hosts"
    resolv.write_text("nameserver 127.0.0.1\n")
    hosts.write_text("127.0.0.1 localhost\n")
    trusted = "/etc/ssl/certs/ca-certificates.crt"
    for ours, theirs in ((resolv, "/etc/resolv.conf"), (hosts, "/etc/hosts"), (authority.file, trusted)):
        if Path(theirs).exists():
            subprocess.run(["mount", "--bind", str(ours), os.path.realpath(theirs)], check=True)
    dns = DnsServer(ZONE, port=53)
    issued = authority.issue("mail.office.test", "autoconfig.office.test", days=90)
    server = installed.Installed(folder / "m", settings=['dns.nameservers=["127.0.0.1:53"]', "workers=1"], offset=0)
    text = issued.file.read_text()
    cut = text.index("-----BEGIN CERTIFICATE-----")
    (server.folder / "tls/certificate.pem").write_text(text[cut:])
    (server.folder / "tls/key.pem").write_text(text[:cut])
    accounts = server.folder / "accounts.toml"
    accounts.write_text(accounts.read_text() + '\n[[domain]]\nname = "customer.test"\n')
    for user in (CUSTOMER, "ann@office.test"):
        server.run("user", "add", user, "--password-stdin", stdin=installed.PASSWORD + "\n")
    server.start()
    return dns, server, authority


def by_thunderbird(folder: Path, dns: DnsServer, server: Any, authority: Any) -> None:
    """Thunderbird finds the office by the customer's MX."""
    client = thunderbird.Thunderbird(folder / "t", None)
    try:
        client.trust(authority.certificate.public_bytes(Encoding.DER))
        client.wait("return !!find('input#email')")
        client.run("type('input#realName', 'Ann'); type('input#email', arguments[0]);", CUSTOMER)
        client.wait("let go = find('#forward'); return !go.disabled && (go.click(), true)")
        client.wait("return find('email-config-found') && !find('#forward').disabled")
        if pictures := os.environ.get("MAILGUARD_PICTURES"):
            client.picture(Path(pictures) / "thunderbird-mx.png")
        client.run("find('#forward').click()")
        client.wait("return !!find('input#password')")
        client.run("type('input#password', arguments[0])", installed.PASSWORD)
        client.wait("let go = find('#forward'); return !go.disabled && (go.click(), true)")
        client.wait("return !!find('email-added-success')")
        server.wait_for(f"signed in account={CUSTOMER} protocol=imap")
    finally:
        client.close()
    asked = {(name.rstrip("."), kind) for name, kind, _ in dns.questions}
    assert ("customer.test", "MX") in asked and any(name == "autoconfig.office.test" for name, _ in asked), asked


def by_evolution(folder: Path, dns: DnsServer, server: Any, authority: Any) -> None:
    """Evolution's assistant finds the office by its domain, and signs in."""
    screen, display = evolution.screen(SCREEN)
    client = evolution.Evolution(folder / "e", display)
    try:
        client.set_up("Ann", "ann@office.test", installed.PASSWORD)
        server.wait_for("signed in account=ann@office.test protocol=imap", 60)
    finally:
        if pictures := os.environ.get("MAILGUARD_PICTURES"):
            client.picture(Path(pictures) / "evolution.png")
        client.close()
        screen.terminate()
    # The one way in that it was offered: TLS from the first octet.
    assert any(name.startswith("autoconfig.office.test") for name, _, _ in dns.questions)


CLIENTS: dict[str, Callable[[Path, DnsServer, Any, Any], None]] = {
    "thunderbird": by_thunderbird,
    "evolution": by_evolution,
}


def main() -> None:
    """Makes everything, tries the client, ends everything."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    dns, server, authority = make(folder)
    try:
        CLIENTS[name](folder, dns, server, authority)
    finally:
        server.close()
        dns.close()


if __name__ == "__main__":
    main()
