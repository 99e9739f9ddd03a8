"""Shows the main job: real mail through a real server, with each verdict, its reasons, and where the mail is now."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailguard.testing.dns import DnsServer

USER = "user1@office.test"
PASSWORD = "office-sample-1"
FRIEND, BANK, STRANGER = "192.0.2.25", "198.51.100.66", "203.0.113.9"  # the addresses that they send from
COLOURS = {"accept": "green", "junk": "yellow", "quarantine": "magenta", "defer": "cyan", "reject": "red"}


@dataclass(frozen=True, slots=True)
class Letter:
    """One message from outside: what it is, from which address and name it comes, the envelope sender."""

    what: str
    ip: str
    helo: str
    sender: str
    message: bytes


class Key:
    """The sample sender's DKIM key."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def record(self) -> str:
        """The key record's text, cut into strings of a TXT record."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        text = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
        return " ".join(f'"{text[i : i + 200]}"' for i in range(0, len(text), 200))

    def sign(self, message: bytes) -> bytes:
        """The message with a signature of partner.example on top."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        field: bytes = dkim.sign(
            message, b"demo", b"partner.example", pem, include_headers=[b"from", b"to", b"subject"]
        )
        return field + message


def zones(key: Key) -> str:
    """What the world's DNS says about the three senders."""
    return f"""
        partner.example.                 MX  10 mail.partner.example.
        partner.example.                 TXT "v=spf1 ip4:{FRIEND} -all"
        demo._domainkey.partner.example. TXT {key.record}
        _dmarc.partner.example.          TXT "v=DMARC1; p=reject"
        mail.partner.example.            A   {FRIEND}
        25.2.0.192.in-addr.arpa.         PTR mail.partner.example.
        bank.example.                    MX  10 mail.bank.example.
        bank.example.                    TXT "v=spf1 ip4:192.0.2.77 -all"
        _dmarc.bank.example.             TXT "v=DMARC1; p=reject"
        mail.bank.example.               A   192.0.2.77
        pills.example.                   MX  10 pills.example.
        pills.example.                   A   {STRANGER}
    """


def letters(key: Key) -> list[Letter]:
    """The messages: one good, one forged, one that looks like spam, one with a program in it."""
    good = _message(
        "Anna Berg <anna@partner.example>", "Minutes of Tuesday's meeting", "Dear all,\n\nas promised.\n\nAnna\n"
    )
    forged = _message(
        "Your Bank <service@bank.example>", "Please confirm your account", "Sign in: http://192.0.2.99/login\n"
    )
    spam = _message(
        "ONLINE PHARMACY <sales@pills.example>",
        "!!! CHEAP MEDS 90% OFF - ACT NOW !!!",
        "<html><body><font size=7 color=red>VIAGRA CIALIS!!! 100% FREE, click here NOW, no prescription!!!</font>"
        '<a href="http://203.0.113.9/buy?x=1">http://www.paypal.com/secure</a><img src="http://203.0.113.9/a.gif">'
        "</body></html>",
        html=True,
    )
    worm = _message("Anna Berg <anna@partner.example>", "Invoice", "See the invoice.\n", program="invoice.pdf.exe")
    return [
        Letter("a letter from a partner", FRIEND, "mail.partner.example", "anna@partner.example", key.sign(good)),
        Letter("a forged bank", BANK, "mail.bank.example", "service@bank.example", forged),
        Letter("spam", STRANGER, "localhost", "sales@pills.example", spam),
        Letter("a worm from the partner", FRIEND, "mail.partner.example", "anna@partner.example", key.sign(worm)),
    ]


def _message(author: str, subject: str, text: str, *, html: bool = False, program: str = "") -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = author, USER, subject
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="demo.example")
    message.set_content(text, subtype="html" if html else "plain")
    if program:
        message.add_attachment(b"MZ\x90\x00", maintype="application", subtype="octet-stream", filename=program)
    return message.as_bytes().replace(b"\n", b"\r\n")


def mailguard(*arguments: str, stdin: str = "") -> str:
    """Runs one command; its output."""
    command = [sys.executable, "-m", "mailguard", *arguments]
    return subprocess.run(command, input=stdin, text=True, capture_output=True, check=True).stdout


@contextlib.contextmanager
def serving(folder: Path, dns: DnsServer) -> Iterator[int]:
    """A server for office.test in ``folder``; gives its port offset."""
    offset = _free_offset()
    settings = {
        "listener.0.proxy_from": '["127.0.0.0/8"]',  # so that a sender can come from any address
        "dns.nameservers": json.dumps([dns.nameserver]),
        "workers": "2",
    }
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    mailguard("init", str(folder), "--domain", "office.test", "--port-offset", str(offset), *sets)
    config = str(folder / "mailguard.toml")
    mailguard("user", "add", USER, "--password-stdin", "-c", config, stdin=PASSWORD + "\n")
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "mailguard", "serve", "-c", config]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert server.stdout is not None
        try:
            if server.stdout.readline() != "ready\n":
                raise SystemExit((folder / "log").read_text())
            yield offset
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(15)
            server.stdout.close()


def _free_offset() -> int:
    while True:
        offset = random.randrange(11_000, 31_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in (25, 587, 465, 143, 993, 110, 995, 80, 443):
                    stack.enter_context(socket.create_server(("127.0.0.1", offset + port)))
            except OSError:
                continue
        return offset


def send(letter: Letter, port: int) -> str:
    """Sends it as its server would; the last reply."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock, sock.makefile("rwb") as stream:
        stream.write(f"PROXY TCP4 {letter.ip} 192.0.2.1 40000 25\r\n".encode())
        commands = [f"EHLO {letter.helo}", f"MAIL FROM:<{letter.sender}>", f"RCPT TO:<{USER}>", "DATA"]
        reply = _reply(stream)
        for command in commands:
            stream.write(command.encode() + b"\r\n")
            reply = _reply(stream)
            if reply[0] in "45":
                return reply
        stuffed = letter.message.replace(b"\r\n.", b"\r\n..").removesuffix(b"\r\n")
        stream.write(stuffed + b"\r\n.\r\n")
        reply = _reply(stream)
        stream.write(b"QUIT\r\n")
        _reply(stream)
        return reply


def _reply(stream: Any) -> str:
    stream.flush()
    while (line := stream.readline().decode().rstrip())[3:4] == "-":
        pass
    return str(line)


def story(letter: Letter, config: str) -> dict[str, Any]:
    """The server's own record of it, as ``mailguard trace --json`` tells."""
    found: list[dict[str, Any]] = json.loads(mailguard("trace", "--from", letter.sender, "--json", "-c", config))
    return found[0] if found else {}


def reasons(record: dict[str, Any]) -> Text:
    """What the checks found, and what it cost."""
    text = Text()
    found = record.get("data", {}).get("facts", {}).get("found", {})
    text.append(", ".join(f"{check} {word}" for check, word in found.items() if word != "none") or "nothing found")
    text.append(f"\n{record.get('score', 0):g} points; decided by {record.get('decision', '?')}", style="dim")
    return text


def where(letter: Letter, folder: Path) -> str:
    """Where the message is now, as a path below the Maildir."""
    maildir = folder / "data" / "mail" / "office.test" / "user1"
    for path in sorted(maildir.rglob("*")):
        if path.is_file() and path.parent.name in ("new", "cur") and _subject(letter.message) in path.read_bytes():
            return str(path.parent.relative_to(maildir.parent.parent))
    return "nowhere: its sender was told"


def _subject(message: bytes) -> bytes:
    return next(line for line in message.split(b"\r\n") if line.startswith(b"Subject: "))


def main() -> None:
    """Runs the show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the server's folder here, and leave it")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
    key = Key()
    with tempfile.TemporaryDirectory() as scratch, DnsServer(zones(key)) as dns:
        folder = options.keep or Path(scratch) / "office"
        with serving(folder, dns) as offset:
            console.print(f"mailguard serves office.test on port {offset + 25}; DNS is {dns.nameserver}\n")
            table = Table("what came", "answer", "why", "where it is now", show_lines=True)
            for letter in letters(key):
                reply = send(letter, offset + 25)
                record = story(letter, str(folder / "mailguard.toml"))
                verdict = Text(record.get("action", "?"), style=COLOURS.get(record.get("action", ""), "bold"))
                verdict.append(f"\n{reply}", style="dim")
                came = Text(letter.what, style="bold")
                came.append(f"\n{letter.sender}\nfrom {letter.ip}", style="dim")
                table.add_row(came, verdict, reasons(record), where(letter, folder))
                last = record.get("id", "")
            console.print(table)
            console.print("\nThe last one's story, as [bold]mailguard why[/bold] tells it:\n")
            console.print(mailguard("why", last, "-c", str(folder / "mailguard.toml")), markup=False, highlight=False)


if __name__ == "__main__":
    main()
