"""The account page: what a browser sends, and what it must not be able to."""

from __future__ import annotations

import plistlib
import re
import subprocess
from pathlib import Path

import pytest
from weboffice import BASE, PASSWORD, Browser, Office
from werkzeug.test import Client


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def browser(office: Office) -> Browser:
    made = Browser(office)
    made.sign_in()
    assert made.sees("Hello, Ann")
    return made


def test_without_a_session_there_is_only_the_sign_in(office: Office) -> None:
    browser = Browser(office)
    for path in ("/account", "/account/devices", "/account/apps", "/account/none"):
        got = browser.get(path)
        assert got.request.path == "/account/sign-in" and browser.sees("Sign in")
    assert got.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in got.headers["Content-Security-Policy"]
    assert "script" not in got.headers["Content-Security-Policy"] and "<script" not in got.text


@pytest.mark.parametrize("user", ["ann@office.test", "nobody@office.test", "gone@office.test", "nonsense"])
def test_a_wrong_password_tells_nothing_of_the_user(office: Office, user: str) -> None:
    browser = Browser(office)
    got = browser.sign_in(user, "wrong-password")
    assert got.status_code == 422 and browser.sees("Not signed in: wrong name or password.")
    assert office.slept == [1.0]


def test_signing_in_by_an_alias_and_out(office: Office) -> None:
    browser = Browser(office)
    browser.sign_in("A@Office.test")
    assert browser.sees("ann@office.test")
    cookies = [c for c in browser.client._cookies.values() if c.key == "__Host-mailguard"]  # type: ignore[union-attr]
    assert [(c.secure, c.http_only, c.same_site) for c in cookies] == [(True, True, "Lax")]
    kept = cookies[0].value
    browser.post("/account/sign-out")
    assert browser.sees("You are signed out")
    browser.client.set_cookie("__Host-mailguard", kept, domain="mail.office.test", secure=True)
    assert browser.get("/account").request.path == "/account/sign-in"


def test_a_disabled_account_stays_out_and_plain_http_is_sent_to_https(office: Office) -> None:
    assert Browser(office).sign_in("gone@office.test").status_code == 422
    got = Client(office.app).get("/account/apps", base_url="http://mail.office.test")
    assert (got.status_code, got.headers["Location"]) == (301, f"{BASE}/account")
    assert Client(office.app).post("/account/sign-in", base_url="http://mail.office.test").status_code == 403


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("", {}),
        ("0" * 32, {}),
        (None, {"Origin": "https://evil.test"}),
        (None, {"Origin": "null"}),
        (None, {"Sec-Fetch-Site": "cross-site"}),
        (None, {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_forms_of_others_are_refused(
    office: Office, browser: Browser, token: str | None, headers: dict[str, str]
) -> None:
    browser.get("/account/forwarding")
    got = browser.post("/account/forwarding", token=token, headers=headers, targets="x@evil.test", keep="1")
    assert got.status_code == 403 and browser.sees("Nothing was changed")
    assert office.pages.forwards.get("ann@office.test") is None


def test_a_sign_in_form_of_others_is_refused(office: Office) -> None:
    got = Browser(office).post("/account/sign-in", token="x", user="ann@office.test", password=PASSWORD)
    assert got.status_code == 403


def test_too_many_attempts(office: Office) -> None:
    browser = Browser(office)
    for _ in range(15):
        browser.sign_in(password="wrong-password")
    browser.sign_in()
    assert browser.sees("too many attempts")
    office.clock.tick(60)


def test_a_session_ends_by_itself(office: Office, browser: Browser) -> None:
    office.clock.tick(3600)
    assert browser.get("/account").request.path == "/account"
    office.clock.tick(2 * 3600 + 61)
    assert browser.get("/account").request.path == "/account/sign-in"


def test_changing_the_password(office: Office, browser: Browser) -> None:
    other = Browser(office)
    other.sign_in()
    page = "/account/password"
    browser.get(page)
    for fields, text in (
        ({"current": "wrong-password", "new": "new-horse-2", "again": "new-horse-2"}, "not your present password"),
        ({"current": PASSWORD, "new": "short", "again": "short"}, "at least 8"),
        ({"current": PASSWORD, "new": "new-horse-2", "again": "new-horse-3"}, "not the same"),
    ):
        assert browser.post(page, **fields).status_code == 422 and browser.sees(text)
        assert 'aria-invalid="true"' in browser.page
    browser.post(page, current=PASSWORD, new="new-horse-2", again="new-horse-2")
    assert browser.sees("holds from now on")
    assert browser.get("/account/apps").request.path == "/account/apps"
    assert other.get("/account").request.path == "/account/sign-in"
    assert Browser(office).sign_in().status_code == 422
    assert Browser(office).sign_in(password="new-horse-2").status_code == 200


def test_a_password_changed_elsewhere_ends_every_session(office: Office, browser: Browser) -> None:
    office.clock.tick(1)
    office.authenticator.passwords.store("ann@office.test", "another-horse")
    assert browser.get("/account").request.path == "/account/sign-in"


def test_app_passwords(office: Office, browser: Browser) -> None:
    browser.get("/account/apps")
    assert browser.post("/account/apps", name="", protocol="imap").status_code == 422
    assert browser.post("/account/apps", name="phone").status_code == 422 and browser.sees("at least one")
    browser.post("/account/apps", name="<phone>", protocol=["imap", "smtp"])
    found = re.search(r'class="secret">([a-z2-9-]+)<', browser.page)
    assert found and browser.sees("<phone>") and "<phone>" not in browser.page
    password = found[1]
    account = office.authenticator.password("ann@office.test", password, protocol="imap", peer_ip="198.51.100.7")
    assert account.key == "ann@office.test"
    browser.get("/account/apps")
    assert browser.sees("from 198.51.100.7") and browser.sees("IMAP, SMTP") and password not in browser.page
    assert Browser(office).sign_in(password=password).status_code == 422  # not for this page
    browser.get("/account/activity")
    assert browser.sees("with app password “<phone>”")
    browser.get("/account/apps")
    one = re.search(r'name="id" value="([0-9a-f]+)"', browser.page)
    assert one
    stranger = Browser(office)
    stranger.sign_in("bob@office.test")
    stranger.get("/account/apps")
    stranger.post("/account/apps/revoke", id=one[1])
    assert len(office.authenticator.app_passwords.list("ann@office.test")) == 1
    browser.post("/account/apps/revoke", id=one[1])
    assert browser.sees("does not work any more") and browser.sees("There is none yet")


def test_activity_shows_failures_and_other_browsers(office: Office, browser: Browser) -> None:
    Browser(office).sign_in(password="wrong-password")
    other = Browser(office)
    other.sign_in()
    browser.get("/account/activity")
    assert browser.sees("Refused:") and browser.sees("wrong name or password") and browser.sees("this one")
    (mine, *_), theirs = [s.id for s in office.pages.guard.sessions.list("ann@office.test")], None
    theirs = re.findall(r'name="id" value="([0-9a-f]+)"', browser.page)
    assert len(theirs) == 1 and mine
    browser.post("/account/activity/end", id=theirs[0])
    assert browser.sees("That browser is signed out")
    assert other.get("/account").request.path == "/account/sign-in"


def test_the_apple_profile_behind_a_link_that_works_once(office: Office, browser: Browser, tmp_path: Path) -> None:
    browser.get("/account/devices")
    browser.post("/account/devices")
    found = re.search(r'href="(/setup/apple/[^"]+\.mobileconfig)"', browser.page)
    assert found and "data:image/svg+xml;base64," in browser.page
    phone = Client(office.app)
    assert phone.head(found[1], base_url=BASE).status_code == 200
    got = phone.get(found[1], base_url=BASE)
    assert got.headers["Content-Type"] == "application/x-apple-aspen-config"
    assert got.headers["Content-Disposition"] == 'attachment; filename="office-test.mobileconfig"'
    assert got.headers["Cache-Control"] == "no-store"
    (tmp_path / "p.cms").write_bytes(got.data)
    verify = ["openssl", "cms", "-verify", "-inform", "DER", "-in", "p.cms", "-CAfile", "c.pem", "-out", "p.plist"]
    subprocess.run([*verify, "-purpose", "any"], cwd=tmp_path, check=True, capture_output=True)
    (mail,) = plistlib.loads((tmp_path / "p.plist").read_bytes())["PayloadContent"]
    assert mail["EmailAddress"] == "ann@office.test" and mail["EmailAccountName"] == "Ann"
    assert phone.get(found[1], base_url=BASE).status_code == 404


def test_a_link_expires_and_needs_a_sign_in_to_be_made(office: Office, browser: Browser) -> None:
    token = office.pages.guard.sessions.make_link("ann@office.test")
    office.clock.tick(15 * 60 + 1)
    assert Client(office.app).get(f"/setup/apple/{token}.mobileconfig", base_url=BASE).status_code == 404
    assert Client(office.app).get("/setup/apple/ann.mobileconfig", base_url=BASE).status_code == 404
    assert Client(office.app).post("/account/devices", base_url=BASE).status_code == 403


def test_out_of_office(office: Office, browser: Browser) -> None:
    page = "/account/away"
    browser.get(page)
    assert browser.post(page, action="on", text="").status_code == 422
    wrong = {"action": "on", "text": "I am away", "from": "2026-08-31", "until": "2026-08-01"}
    assert browser.post(page, **wrong).status_code == 422 and browser.sees("lies before the first")
    assert browser.post(page, **{**wrong, "until": "soon"}).status_code == 422
    browser.post(page, **{**wrong, "from": "2026-05-04", "until": "2026-05-04"})
    assert browser.sees("Saved.") and browser.sees("Your reply is on") and browser.sees('value="2026-05-04"')
    set_ = office.pages.vacations.active("ann@office.test")
    assert set_ is not None and set_.ends_at - set_.starts_at == 86_400
    office.clock.tick(86_400)
    browser.sign_in()
    browser.get(page)
    assert browser.sees("has ended")
    browser.post(page, action="off", text="I am away")
    assert browser.sees("is off")
    assert office.pages.vacations.active("ann@office.test") is None


def test_a_page_that_is_not_there_and_a_form_that_is_too_long(office: Office, browser: Browser) -> None:
    assert browser.get("/account/none").status_code == 404 and browser.sees("There is no such page")
    browser.get("/account/away")
    assert browser.post("/account/away", text="x" * 70_000).status_code == 413


def test_a_fault_is_told_without_its_text(office: Office, browser: Browser) -> None:
    with office.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE vacation")
    got = browser.get("/account/away")
    assert got.status_code == 503 and "vacation" not in got.text.replace('href="/account/vacation"', "")
