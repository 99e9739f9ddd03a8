"""Whom an address means: aliases, subaddresses, catch-all, alias domains, defaults, loops."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailguard.auth.accountcheck import mistakes
from mailguard.auth.accounts import Directory, maildir_path
from mailguard.auth.accountsfile import AccountsFile
from mailguard.model.address import Address

FILE = {
    "domain": [
        {"name": "office.test", "aliases": ["büro.test"], "catch_all": "carl@office.test"},
        {"name": "second.test"},
    ],
    "account": [
        {"address": "Ann@office.test", "aliases": ["a.n@office.test"], "quota": "2G", "send_as": ["*@shop.test"]},
        {"address": "bob@office.test", "disabled": True},
        {"address": "carl@office.test"},
        {"address": "dora@second.test"},
    ],
    "alias": [
        {"address": "sales@office.test", "to": ["ann@office.test", "x@outside.test", "team@second.test"]},
        {"address": "team@second.test", "to": ["sales@office.test", "dora@second.test"]},
        {"address": "ann@office.test", "to": ["ann@office.test", "ann@private.test"]},
    ],
    "shared": [{"address": "info@office.test", "members": ["carl@office.test"]}],
}


@pytest.fixture
def directory() -> Directory:
    return Directory.build(AccountsFile.model_validate(FILE), Path("/data"))


def keys(directory: Directory, address: str) -> tuple[list[str], list[str]]:
    found = directory.resolve(Address.parse(address))
    return [a.key for a in found.accounts], [str(a) for a in found.remote]


@pytest.mark.parametrize(
    ("address", "accounts", "remote"),
    [
        ("carl@office.test", ["carl@office.test"], []),
        ("CARL@xn--bro-hoa.test", ["carl@office.test"], []),
        ("carl+news@office.test", ["carl@office.test"], []),
        ("nobody@office.test", ["carl@office.test"], []),  # catch-all
        ("ann@office.test", ["ann@office.test"], ["ann@private.test"]),  # delivers and forwards
        ("sales@office.test", ["ann@office.test", "dora@second.test"], ["ann@private.test", "x@outside.test"]),
        ("info@office.test", ["info@office.test"], []),
        ("postmaster@second.test", ["dora@second.test"], []),
        ("abuse@office.test", ["ann@office.test"], ["ann@private.test"]),
        ("someone@elsewhere.test", [], ["someone@elsewhere.test"]),
    ],
)
def test_resolve(directory: Directory, address: str, accounts: list[str], remote: list[str]) -> None:
    found = keys(directory, address)
    assert (sorted(found[0]), sorted(found[1])) == (sorted(accounts), sorted(remote))


def test_unknown_disabled_and_detail(directory: Directory) -> None:
    assert directory.resolve(Address.parse("nobody@second.test")).unknown
    bob = directory.resolve(Address.parse("bob@office.test"))
    assert bob.disabled and not bob.unknown
    assert directory.resolve(Address.parse("carl+a+b@office.test")).detail == "a+b"
    assert directory.resolve(Address("postmaster", "")).accounts  # RFC 5321 §4.5.1


def test_sign_in_names_and_senders(directory: Directory) -> None:
    ann = directory.account("a.n@büro.test")
    assert ann is not None and ann.quota == 2 << 30
    assert directory.account("info@office.test") is None  # nobody signs in to a shared mailbox
    carl = directory.account("carl@office.test")
    assert carl is not None
    for mine in ("carl@office.test", "carl+x@xn--bro-hoa.test", "info@office.test"):
        assert directory.may_send_as(carl, Address.parse(mine))
    assert not directory.may_send_as(carl, Address.parse("ann@office.test"))
    assert directory.may_send_as(ann, Address.parse("any@shop.test"))
    assert [a.key for a in directory.shared_with(carl)] == ["info@office.test"]


def test_maildir_path_stays_inside() -> None:
    for local in ("../../etc", "..", "a/b", ".hidden"):
        path = maildir_path(Path("/data"), Address(local, "office.test"))
        assert path.parent == Path("/data/mail/office.test") and not path.name.startswith(".")


def test_mistakes_are_all_found() -> None:
    wrong = AccountsFile.model_validate(
        {
            "domain": [{"name": "a.test"}, {"name": "a.test"}],
            "account": [{"address": "x@a.test"}, {"address": "X@a.test"}, {"address": "y@b.test"}],
            "shared": [{"address": "info@a.test", "members": ["z@a.test"]}],
            "alias": [{"address": "all@a.test", "to": ["x+tag@a.test", "typo@a.test", "abuse@a.test", "far@c.test"]}],
        }
    )
    assert [text for _, text, _ in mistakes(wrong)] == [
        "the domain a.test is named twice",
        "X@a.test is already taken by account.0.address",
        "y@b.test: b.test is none of our domains",
        "z@a.test is no account",
        "there is no typo@a.test here",
    ]


def test_a_catch_all_and_a_postmaster_must_exist_or_be_outside() -> None:
    def file(catch_all: str, postmaster: str) -> AccountsFile:
        domain = {"name": "a.test", "catch_all": catch_all, "postmaster": postmaster}
        return AccountsFile.model_validate({"domain": [domain], "account": [{"address": "x@a.test"}]})

    assert [".".join(map(str, path)) for path, _, _ in mistakes(file("typo@a.test", "x@a.test"))] == [
        "domain.0.catch_all"
    ]
    outside = file("far@c.test", "boss@c.test")
    assert list(mistakes(outside)) == []
    directory = Directory.build(outside, Path("/data"))
    assert keys(directory, "nobody@a.test") == ([], ["far@c.test"])
    assert keys(directory, "postmaster@a.test") == ([], ["boss@c.test"])


def test_a_postmaster_who_is_disabled_is_stood_in_for() -> None:
    file = {
        "domain": [{"name": "a.test", "postmaster": "x@a.test"}],
        "account": [{"address": "x@a.test", "disabled": True}, {"address": "y@a.test"}],
    }
    directory = Directory.build(AccountsFile.model_validate(file), Path("/data"))
    assert keys(directory, "postmaster@a.test") == (["y@a.test"], [])


def test_characters_may_come_in_pieces() -> None:
    file = {"domain": [{"name": "a.test"}], "account": [{"address": "jos\u00e9@a.test"}]}
    directory = Directory.build(AccountsFile.model_validate(file), Path("/data"))
    assert len(directory.resolve(Address.parse("JOSE\u0301@a.test")).accounts) == 1
