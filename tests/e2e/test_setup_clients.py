"""Set-up requests as each client sends them, replayed with curl against a running server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import installed
import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed"),
]

OUTER = "{http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006}"
INNER = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
MOBILE = "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006"
ORDER = [
    "Type", "Server", "Port", "DomainRequired", "LoginName", "SPA", "SSL", "Encryption", "AuthRequired",
    "UsePOPAuth", "SMTPLast",
]  # fmt: skip
CONFIG, WELL_KNOWN = "/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml"
POX, JSON = "/autodiscover/autodiscover.xml", "/autodiscover/autodiscover.json"


@dataclass(frozen=True)
class Answer:
    status: int
    type: str
    location: str
    body: bytes


class Curl:
    """Asks; every name leads here."""

    def __init__(self, server: Any) -> None:
        self.server = server

    def __call__(self, url: str, *options: str, body: str = "") -> Answer:
        scheme, host, path = re.match(r"(https?)://([^/]+)(.*)", url).groups()  # type: ignore[union-attr]
        port = self.server.port(443 if scheme == "https" else 80)
        command = ["curl", "--silent", "--insecure", "--max-time", "20", "--connect-to", f"::127.0.0.1:{port}"]
        command += ["--write-out", "\n%{http_code} %{content_type}\n%{redirect_url}", *options]
        if body:
            command += ["--header", "Content-Type: text/xml; charset=utf-8", "--data-binary", body]
        done = subprocess.run([*command, f"{scheme}://{host}{path}"], capture_output=True, check=True)
        content, status, location = done.stdout.rsplit(b"\n", 2)
        code, _, kind = status.decode().partition(" ")
        return Answer(int(code), kind, location.decode(), content)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    settings = ['dns.nameservers=["127.0.0.1:9"]', "workers=1", "web.burst=1000", "web.pacc=true"]
    made = installed.Installed(tmp_path_factory.mktemp("setup") / "m", settings=settings)
    made.add_users()
    accounts = made.folder / "accounts.toml"
    accounts.write_text(accounts.read_text() + '\n[[domain]]\nname = "customer.test"\naliases = ["alias.test"]\n')
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def curl(server: Any) -> Curl:
    return Curl(server)


def outlook(address: str, schema: str = INNER) -> str:
    kind = "outlook" if schema == INNER else "mobilesync"
    return (
        f'<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/'
        f'{kind}/requestschema/2006"><Request><EMailAddress>{address}</EMailAddress>'
        f"<AcceptableResponseSchema>{schema}</AcceptableResponseSchema></Request></Autodiscover>"
    )


@pytest.mark.parametrize(
    ("agent", "url", "domain"),
    [
        ("Thunderbird", f"https://autoconfig.office.test{CONFIG}?emailaddress=user1%40office.test", "office.test"),
        ("Thunderbird", f"https://office.test{WELL_KNOWN}?emailaddress=user1%40office.test", "office.test"),
        ("Thunderbird", f"http://autoconfig.office.test{CONFIG}?emailaddress=user1%40office.test", "office.test"),
        ("Thunderbird", f"http://office.test{WELL_KNOWN}?emailaddress=user1%40office.test", "office.test"),
        (
            "Thunderbird by MX",
            f"https://autoconfig.office.test{CONFIG}?emailaddress=a%40customer.test",
            "customer.test",
        ),
        ("Thunderbird Android", f"https://autoconfig.office.test{CONFIG}", "office.test"),
        ("FairEmail", f"https://autoconfig.office.test{CONFIG}?emailaddress=user1+tag@office.test", "office.test"),
        (
            "Evolution",
            f"https://autoconfig.office.test{CONFIG}?emailmd5=0bc83cb571cd1c50ba6f3e8a78ef1346",
            "office.test",
        ),
        ("KMail", f"http://autoconfig.office.test{CONFIG}?emailaddress=USER1@OFFICE.TEST", "office.test"),
        ("Geary", f"https://autoconfig.customer.test{CONFIG}", "customer.test"),
        ("aerc", f"https://alias.test{WELL_KNOWN}?emailaddress=a@alias.test", "alias.test"),
    ],
)
def test_autoconfig(curl: Curl, shared: Path, tmp_path: Path, agent: str, url: str, domain: str) -> None:
    got = curl(url, "--user-agent", agent, "--globoff")
    assert (got.status, got.type) == (200, "text/xml; charset=utf-8")
    root = ET.fromstring(got.body)
    provider = root.find("emailProvider")
    assert provider is not None and provider.findtext("domain") == domain
    servers = [*provider.findall("incomingServer"), *provider.findall("outgoingServer")]
    assert [s.get("type") for s in servers] == ["imap", "pop3", "smtp"]
    for each in servers:
        assert [child.tag for child in each][:5] == ["hostname", "port", "socketType", "authentication", "username"]
        assert each.findtext("username") == "%EMAILADDRESS%" and each.findtext("authentication") == "password-cleartext"
        assert each.findtext("hostname") == "mail.office.test"
    assert [s.findtext("socketType") for s in servers] == ["SSL"] * 3
    ports = [curl.server.port(usual) for usual in (993, 995, 465)]
    assert [int(s.findtext("port") or 0) for s in servers] == ports
    if shutil.which("xmllint"):
        (tmp_path / "config.xml").write_bytes(got.body)
        schema = shared / "testdata/autoconfig/config-v1.1.inferred.rng"
        subprocess.run(
            ["xmllint", "--noout", "--relaxng", str(schema), str(tmp_path / "config.xml")],
            check=True, capture_output=True,
        )  # fmt: skip


@pytest.mark.parametrize("path", [POX, "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.xml"])
@pytest.mark.parametrize("host", ["autodiscover.office.test", "office.test", "mail.office.test"])
def test_outlook(curl: Curl, path: str, host: str) -> None:
    options = ["--user-agent", "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)"]
    got = curl(
        f"https://{host}{path}", *options, "--user", "user1@office.test:secret", body=outlook("user1@office.test")
    )
    assert (got.status, got.type) == (200, "text/xml; charset=utf-8")
    root = ET.fromstring(got.body)
    assert root.tag == f"{OUTER}Autodiscover"
    account = root.find(f"{{{INNER}}}Response/{{{INNER}}}Account")
    assert account is not None
    tags = [child.tag.rpartition("}")[2] for child in account]
    assert tags == ["AccountType", "Action", "Protocol", "Protocol", "Protocol"]
    protocols = [{c.tag.rpartition("}")[2]: c.text for c in p} for p in account.findall(f"{{{INNER}}}Protocol")]
    assert [p["Type"] for p in protocols] == ["IMAP", "POP3", "SMTP"]
    for protocol in protocols:
        assert list(protocol) == [tag for tag in ORDER if tag in protocol]
        assert (protocol["SPA"], protocol["SSL"], protocol["LoginName"]) == ("off", "on", "user1@office.test")
    assert not any("secret" in line for line in curl.server.log)


def test_outlook_by_way_of_port_80(curl: Curl) -> None:
    home = f"https://mail.office.test:{curl.server.port(443)}{POX}"
    for options in ((), ("--request", "POST", "--data", "x")):
        got = curl(f"http://autodiscover.customer.test{POX}", *options)
        assert (got.status, got.location) == (302, home)


def test_outlook_hears_what_is_wrong(curl: Curl) -> None:
    url = f"https://autodiscover.office.test{POX}"
    hostile = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>{outlook("&e;@office.test")}'
    for body, code in (("", 600), ("nonsense", 600), (hostile, 600), (outlook("a@office.test", MOBILE), 601)):
        got = curl(url, body=body)
        assert got.status == 200 and ET.fromstring(got.body).findtext(".//ErrorCode") == str(code)
    assert curl(url, body=outlook("a@elsewhere.test")) == Answer(404, "text/plain; charset=utf-8", "", b"")
    assert curl(url, body="x" * 9000).status == 413


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{JSON}?Email=user1@office.test&Protocol=AutodiscoverV1&RedirectCount=1", 200),
        (f"{JSON}/v1.0/user1%40office.test?Protocol=Autodiscoverv1", 200),
        (f"{JSON}/v1.0/user1%40office.test?Protocol=EWS", 400),  # Apple's Exchange set-up
        (f"{JSON}?Email=user1%40office.test&protocol=ActiveSync&RedirectCount=2", 400),  # Android
        ("/Autodiscover/Autodiscover.json/v1.0/user1@office.test?protocol=autodiscoverv1", 200),
        (f"{JSON}/v1.0/a%40elsewhere.test?Protocol=AutodiscoverV1", 404),
    ],
)
def test_autodiscover_v2(curl: Curl, path: str, status: int) -> None:
    got = curl(f"https://autodiscover.office.test{path}")
    assert got.status == status
    if status == 200:
        home = f"https://mail.office.test:{curl.server.port(443)}{POX}"
        assert json.loads(got.body) == {"Protocol": "AutodiscoverV1", "Url": home}
    elif status == 400:
        assert json.loads(got.body)["ErrorCode"] == "InvalidProtocol"


@pytest.mark.parametrize(
    "url",
    [
        f"https://autoconfig.elsewhere.test{CONFIG}",
        f"https://autoconfig.office.test{CONFIG}?emailaddress=a%40elsewhere.test",
        "https://mail.office.test/EWS/Exchange.asmx",
        "https://mail.office.test/autodiscover/autodiscover.svc",
        "https://mail.office.test/Microsoft-Server-ActiveSync",
        "https://mail.office.test/.well-known/carddav",
        "http://mta-sts.office.test/.well-known/mta-sts.txt",
        "https://elsewhere.test/",
    ],
)
def test_nothing_is_an_empty_404(curl: Curl, url: str) -> None:
    got = curl(url)
    assert (got.status, got.body) == (404, b"")


def test_the_other_documents(curl: Curl) -> None:
    policy = curl("https://mta-sts.office.test/.well-known/mta-sts.txt")
    assert policy.type.startswith("text/plain") and b"mx: mail.office.test\r\n" in policy.body
    document = curl("https://ua-auto-config.office.test/.well-known/user-agent-configuration.json")
    assert json.loads(document.body)["authentication"] == {"password": True}
    assert b"Contact: mailto:postmaster@office.test" in curl("https://office.test/.well-known/security.txt").body
    assert b"Mail for customer.test" in curl("https://mail.office.test/help/customer.test").body


def test_whether_a_user_exists_makes_no_difference(curl: Curl) -> None:
    there, absent = (
        curl(f"https://autodiscover.office.test{POX}", body=outlook(f"{n}@office.test")) for n in ("user1", "nouse")
    )
    assert there.body.replace(b"user1", b"nouse") == absent.body and there.status == absent.status
