"""Forwarding: nothing leaves to strangers before they agree, and the mailbox's owner always hears of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from weboffice import Browser, Office

PAGE = "/account/forwarding"
ANN = "ann@office.test"


@pytest.fixture
def office(tmp_path: Path) -> Any:
    return Office(tmp_path)


@pytest.fixture
def browser(office: Any) -> Any:
    made = Browser(office)
    made.sign_in()
    made.get(PAGE)
    return made


def targets(office: Any) -> list[str]:
    office.clock.tick(5)  # until other workers see it
    forward = office.pages.forwards.active(ANN)
    return [] if forward is None else [str(target) for target in forward.targets]


def link(text: str) -> str:
    found = re.search(r"https://mail\.office\.test(/setup/forward/\S+)", text)
    assert found
    return found[1]


def test_what_is_typed_is_checked(office: Any, browser: Any) -> None:
    for wrong in ("nobody", ANN, "\n".join(f"{n}@x.test" for n in range(6)), "a@[192.0.2.1]"):
        assert browser.post(PAGE, targets=wrong, keep="1").status_code == 422
    assert office.letters.take() == []


def test_a_colleague_gets_it_at_once_and_the_owner_is_told(office: Any, browser: Any) -> None:
    browser.post(PAGE, targets="bob@office.test", keep="1")
    assert browser.sees("Your forwarding is set") and browser.sees("Your mail is sent on.")
    assert targets(office) == ["bob@office.test"]
    ((to, text),) = office.letters.take()
    assert text.startswith(f"Delivered-To: {ANN}\r\n")  # which keeps it from being sent on
    assert to == ANN and "bob@office.test" in text and "from 192.0.2.1" in text and "change your password" in text
    browser.post(PAGE, targets="bob@office.test", keep="1")
    assert office.letters.take() == []  # nothing has changed
    browser.post(PAGE, action="off")
    assert browser.sees("Nothing is forwarded") and targets(office) == []
    assert "not forwarded any more" in office.letters.take()[0][1]


def test_a_stranger_agrees_by_the_link_and_may_stop_it_later(office: Any, browser: Any) -> None:
    browser.post(PAGE, targets="home@elsewhere.test\r\n\r\nbob@office.test")
    assert browser.sees("home@elsewhere.test has not agreed yet") and browser.sees("but not to everybody yet")
    assert targets(office) == ["bob@office.test"]
    (to, asked), (owner, told) = office.letters.take()
    assert (to, owner) == ("home@elsewhere.test", ANN)
    assert "Auto-Submitted: auto-generated" in asked and "as soon as its owner agrees" in told
    stranger = Browser(office)
    stranger.get(link(asked))
    assert stranger.sees("wants its mail sent on") and targets(office) == ["bob@office.test"]  # looking is not agreeing
    assert stranger.post(link(asked), action="yes", token="forged").status_code == 403
    stranger.get(link(asked))
    stranger.post(link(asked), action="yes")
    assert stranger.sees("is sent on to home@elsewhere.test".partition(" home")[0])
    assert targets(office) == ["home@elsewhere.test", "bob@office.test"]
    browser.get(PAGE)
    assert browser.sees("Your mail is sent on.") and not browser.sees("has not agreed")
    stranger.post(link(asked), action="no")
    assert stranger.sees("Nothing of") and targets(office) == ["bob@office.test"]


def test_the_owner_may_type_the_code(office: Any, browser: Any) -> None:
    browser.post(PAGE, targets="home@elsewhere.test")
    code = link(office.letters.take()[0][1]).rpartition("/")[2]
    assert browser.post(PAGE, action="agree", code="ABCD").status_code == 422
    assert browser.sees("No letter of yours has this code") and targets(office) == []
    browser.post(PAGE, action="agree", code=f" {code.lower().replace('-', ' ')}")
    assert browser.sees("has agreed") and targets(office) == ["home@elsewhere.test"]


def test_anothers_code_is_none(office: Any, browser: Any) -> None:
    browser.post(PAGE, targets="home@elsewhere.test")
    code = link(office.letters.take()[0][1]).rpartition("/")[2]
    other = Browser(office)
    other.sign_in("bob@office.test")
    other.get(PAGE)
    other.post(PAGE, targets="home@elsewhere.test")
    assert other.post(PAGE, action="agree", code=code).status_code == 422
    assert targets(office) == []


def test_letters_are_few(office: Any, browser: Any) -> None:
    browser.post(PAGE, targets="a@x.test")
    browser.post(PAGE, action="off")
    browser.post(PAGE, targets="a@x.test")  # asked today already
    assert [to for to, _ in office.letters.take()] == ["a@x.test", ANN, ANN, ANN]
    for n in range(9):
        browser.post(PAGE, targets=f"{n}@x.test")
    assert browser.post(PAGE, targets="last@x.test").status_code == 422 and browser.sees("try again tomorrow")
    office.clock.tick(90_000)
    browser.sign_in()
    browser.get(PAGE)
    assert browser.post(PAGE, targets="last@x.test").status_code == 200


def test_who_was_taken_out_must_agree_anew(office: Any, browser: Any) -> None:
    browser.post(PAGE, targets="home@elsewhere.test")
    code = link(office.letters.take()[0][1]).rpartition("/")[2]
    browser.post(PAGE, action="agree", code=code)
    assert targets(office) == ["home@elsewhere.test"]
    browser.post(PAGE, action="off")
    browser.post(PAGE, targets="home@elsewhere.test")
    assert targets(office) == []


def test_a_full_disk_sets_nothing_and_asks_again(office: Any, browser: Any) -> None:
    office.letters.full = True
    assert browser.post(PAGE, targets="home@elsewhere.test").status_code == 503
    assert office.pages.forwards.get(ANN) is None
    office.letters.full = False
    browser.get(PAGE)
    browser.post(PAGE, targets="home@elsewhere.test")
    assert [to for to, _ in office.letters.take()] == ["home@elsewhere.test", ANN]


def test_an_unknown_link(office: Any) -> None:
    stranger = Browser(office)
    assert stranger.get("/setup/forward/ABCD-EFGH").status_code == 404 and stranger.sees("This link is not known")


@pytest.mark.parametrize(
    ("allowed", "good", "bad"), [("here", "bob@office.test", "x@y.test"), ("nowhere", "", "x@y.test")]
)
def test_forwarding_is_bounded_by_the_owner(tmp_path: Path, allowed: str, good: str, bad: str) -> None:
    office = Office(tmp_path, forward=allowed)
    browser = Browser(office)
    browser.sign_in()
    browser.get("/account/devices")
    assert browser.post("/account/forwarding", targets=bad).status_code == 422
    assert browser.post("/account/forwarding", targets=good).status_code == 200
