"""The answers to mail clients' set-up requests, against what their readers insist on."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import plistlib
import shutil
import subprocess
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.autoconfig import apple, mozilla, outlook, pacc
from mailguard.protocol.autoconfig.request import (
    Provider,
    RequestError,
    Security,
    Service,
    host_domain,
    parse_address,
    parse_pox,
)

PROVIDER = Provider(
    "office.test",
    "mail.office.test",
    'Office & "Friends" <Mail>',
    (
        Service("smtp", 587, Security.STARTTLS),
        Service("smtp", 465, Security.IMPLICIT),
        Service("pop3", 995, Security.IMPLICIT),
        Service("imap", 143, Security.STARTTLS),
        Service("imap", 993, Security.IMPLICIT),
    ),
    "https://mail.office.test",
)
INSTALL = uuid.UUID("12345678-1234-5678-1234-567812345678")
POX = """<?xml version="1.0"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
<Request><EMailAddress>{}</EMailAddress><AcceptableResponseSchema>{}</AcceptableResponseSchema></Request></Autodiscover>"""
OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"


def test_mozilla_puts_imap_first_and_offers_one_way_each() -> None:
    root = ET.fromstring(mozilla.config(PROVIDER))
    assert [(s.get("type"), s.findtext("port")) for s in root.iter("incomingServer")] == [
        ("imap", "993"), ("pop3", "995")]  # fmt: skip
    assert [s.findtext("port") for s in root.iter("outgoingServer")] == ["465"]
    assert {s.text for s in root.iter("socketType")} == {"SSL"}
    assert {s.text for s in root.iter("username")} == {"%EMAILADDRESS%"}
    assert root.findtext("emailProvider/displayName") == PROVIDER.name
    assert len(mozilla.config(PROVIDER)) < 4096


def test_mozilla_document_follows_the_rules(shared: Path, tmp_path: Path) -> None:
    lint = shutil.which("xmllint")
    if not lint:
        pytest.skip("xmllint (libxml2-utils) is not installed")
    document = tmp_path / "config.xml"
    document.write_bytes(mozilla.config(PROVIDER))
    schema = shared / "testdata" / "autoconfig" / "config-v1.1.inferred.rng"
    done = subprocess.run([lint, "--noout", "--relaxng", schema, document], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_outlook_order_namespaces_and_values() -> None:
    body = outlook.settings(PROVIDER, "a<b&c@office.test")
    root = ET.fromstring(body)
    assert root.tag == "{http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006}Autodiscover"
    n = "{" + OUTLOOK + "}"
    account = root.find(f"{n}Response/{n}Account")
    assert account is not None
    assert [child.tag.removeprefix(n) for child in account] == ["AccountType", "Action"] + ["Protocol"] * 3
    kinds = {}
    for protocol in account.findall(f"{n}Protocol"):
        kinds[protocol.findtext(f"{n}Type")] = protocol
        assert protocol.findtext(f"{n}SPA") == "off"
        assert protocol.findtext(f"{n}LoginName") == "a<b&c@office.test"
        assert protocol.findtext(f"{n}Encryption") == "SSL"
    assert list(kinds) == ["IMAP", "POP3", "SMTP"]
    assert kinds["SMTP"].findtext(f"{n}UsePOPAuth") == "on"


def test_outlook_error_is_well_formed_and_unqualified() -> None:
    root = ET.fromstring(outlook.error(outlook.MALFORMED, "Invalid Request", time="12:34:56.789", number=7))
    assert root.findtext("Response/Error/ErrorCode") == "600"


@pytest.mark.parametrize(("protocol", "status"), [("AutodiscoverV1", 200), ("autodiscoverv1", 200), ("EWS", 400)])
def test_json_answer(protocol: str, status: int) -> None:
    code, body = outlook.json_answer(protocol, "https://mail.office.test")
    assert code == status
    assert ("Url" in json.loads(body)) == (status == 200)


def test_json_answer_reflects_nothing_but_letters() -> None:
    _, body = outlook.json_answer('<script>"', "https://mail.office.test")
    assert "'script'" in json.loads(body)["ErrorMessage"]


def test_pox_in_any_case_and_namespace() -> None:
    asked = parse_pox(POX.format(" Ann@Office.TEST ", OUTLOOK).encode())
    assert (asked.address.text, asked.address.domain) == ("Ann@Office.TEST", "office.test")
    assert asked.wants_outlook
    lower = b"<autodiscover><request><emailaddress>a@b.test</emailaddress></request></autodiscover>"
    assert parse_pox(lower).wants_outlook
    mobile = POX.format("a@b.test", "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006")
    assert not parse_pox(mobile.encode()).wants_outlook


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a>",
        b"<a/>",
        b'<!DOCTYPE a [<!ENTITY e "x">]><a><EMailAddress>&e;@b.test</EMailAddress></a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a><EMailAddress>a@b.test</EMailAddress></a>',
        "<a><EMailAddress>ä@b.test</EMailAddress></a>".encode("latin-1"),
        b"<a>" * 12 + b"<EMailAddress>a@b.test</EMailAddress>" + b"</a>" * 12,
        b"<a><EMailAddress>nobody</EMailAddress></a>",
        '<?xml version="1.0" encoding="utf-16"?><a><EMailAddress>a@b.test</EMailAddress></a>'.encode("utf-16"),
    ],
)
def test_pox_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_pox(body)


@given(st.binary(max_size=300))
def test_pox_raises_nothing_else(body: bytes) -> None:
    with contextlib.suppress(RequestError):
        parse_pox(body)


@pytest.mark.parametrize(
    ("text", "domain"),
    [("a@b.test", "b.test"), ("a b@b.test", "b.test"), ("x@BÜRO.test", "xn--bro-hoa.test"), ("ä@b.test", "b.test")],
)
def test_address(text: str, domain: str) -> None:
    assert parse_address(text).domain == domain


@pytest.mark.parametrize("text", ["", "a", "@b.test", "a@b@c.test", "a@" + "b" * 300, "a\r\n@b.test", "a@b..test"])
def test_address_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("office.test", "office.test"),
        ("AutoConfig.Office.Test:8080", "office.test"),
        ("autodiscover.office.test.", "office.test"),
        ("[::1]:80", "[::1]"),
        ("ev il", ""),
        ("", ""),
    ],
)
def test_host_domain(host: str, domain: str) -> None:
    assert host_domain(host) in (domain, "")
    if not host.startswith("["):
        assert host_domain(host) == domain


def test_profile_is_stable_and_holds_no_password() -> None:
    first = apple.profile(PROVIDER, "ann@office.test", INSTALL)
    assert first == apple.profile(PROVIDER, "ann@office.test", INSTALL)
    outer = plistlib.loads(first)
    (mail,) = outer["PayloadContent"]
    assert mail["IncomingMailServerPortNumber"] == 993 and mail["IncomingMailServerUseSSL"] is True
    assert mail["OutgoingMailServerPortNumber"] == 465 and mail["OutgoingMailServerUseSSL"] is True
    assert not any(key in mail for key in ("IncomingPassword", "OutgoingPassword"))
    other = plistlib.loads(apple.profile(PROVIDER, "bob@office.test", INSTALL))
    assert other["PayloadIdentifier"] != outer["PayloadIdentifier"]
    assert other["PayloadUUID"] != outer["PayloadUUID"]


def test_pacc_digest_covers_the_octets() -> None:
    body = pacc.configuration(PROVIDER)
    assert json.loads(body)["protocols"]["smtp"] == {"host": "mail.office.test"}
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert pacc.digest_record(body) == f"v=UAAC1; a=sha256; d={digest}"
