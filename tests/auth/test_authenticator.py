"""Sign-in with passwords, app passwords and SCRAM; failures, bans, the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailguard.auth.accounts import Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.auth.authenticator import Authenticator, AuthError
from mailguard.auth.password import WeakPasswordError
from mailguard.auth.settings import AuthSettings
from mailguard.auth.throttle import network_of
from mailguard.model.event import Event, SignedIn
from mailguard.protocol.sasl import PasswordCheck, Proven, begin
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock

STRANGER = "192.0.2.9"


class Desk:
    def __init__(self, folder: Path) -> None:
        self.database = Database(StateSettings(), folder)
        metadata.create_all(self.database.engine)
        self.events: list[Event] = []
        self.clock = FakeClock()
        file = AccountsFile.model_validate(
            {"domain": [{"name": "office.test"}], "account": [{"address": "ann@office.test"}]}
        )
        self.auth = Authenticator(
            Directory.build(file, folder),
            self.database,
            AuthSettings(account_failures=3, network_failures=5, delay=0.5),
            emit=self.events.append,
            now=self.clock,
        )
        self.auth.passwords.store("ann@office.test", "correct horse")

    def login(self, password: str, user: str = "ann@office.test", peer_ip: str = STRANGER) -> str:
        return self.auth.password(user, password, protocol="imap", peer_ip=peer_ip).key


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.database.close()


def test_right_and_wrong(desk: Desk) -> None:
    assert desk.login("correct horse") == desk.login("correct horse", "ANN@office.test") == "ann@office.test"
    with pytest.raises(AuthError) as error:
        desk.login("wrong")
    assert (error.value.reason, error.value.temporary, error.value.delay) == ("wrong name or password", False, 0.5)
    with pytest.raises(AuthError, match="wrong name or password"):
        desk.login("correct horse", "nobody@office.test")
    told = [(e.ok, e.reason) for e in desk.events if isinstance(e, SignedIn)]
    assert told == [(True, ""), (True, ""), (False, "wrong name or password"), (False, "no such account")]


def test_one_stale_password_repeated_is_no_attack(desk: Desk) -> None:
    for _ in range(20):
        with pytest.raises(AuthError, match="wrong name"):
            desk.login("last year's")
    assert desk.login("correct horse")


def test_distinct_passwords_lead_to_a_ban_that_expires(desk: Desk) -> None:
    for n in range(3):
        with pytest.raises(AuthError, match="wrong name"):
            desk.login(f"guess {n}")
    with pytest.raises(AuthError, match="too many wrong passwords") as error:
        desk.login("correct horse")
    assert error.value.temporary
    assert desk.login("correct horse", peer_ip="192.0.2.10")  # others are not concerned
    assert [b.reason for b in desk.auth.throttle.bans()] == ["3 distinct wrong passwords for ann@office.test"]
    desk.clock.tick(3601)
    assert desk.login("correct horse")
    desk.auth.throttle.prune()
    assert desk.auth.throttle.bans() == []


def test_spraying_many_accounts_bans_the_network(desk: Desk) -> None:
    for n in range(5):
        with pytest.raises(AuthError):
            desk.login("Spring2026!", f"user{n}@office.test", "2001:db8::1")
    with pytest.raises(AuthError, match="2001:db8::/64"):
        desk.login("correct horse", peer_ip="2001:db8::ffff")
    assert desk.auth.throttle.lift("2001:db8::5") == 1
    assert desk.login("correct horse", peer_ip="2001:db8::ffff")


def test_the_allow_list_always_wins(desk: Desk) -> None:
    for n in range(10):
        with pytest.raises(AuthError, match="wrong name"):
            desk.login(f"guess {n}", peer_ip="127.0.0.1")
    assert desk.login("correct horse", peer_ip="127.0.0.1")


def test_a_changed_password_ends_the_cache(desk: Desk) -> None:
    assert desk.login("correct horse")
    desk.clock.tick(1)
    desk.auth.passwords.store("ann@office.test", "battery staple")
    with pytest.raises(AuthError):
        desk.login("correct horse")
    assert desk.login("battery staple")


def test_app_passwords(desk: Desk) -> None:
    id, password = desk.auth.app_passwords.create("ann@office.test", "phone", ["imap"])
    assert desk.login(password.upper())
    used = desk.auth.app_passwords.list("ann@office.test")[0]
    assert (used.name, used.used_from, used.used_at) == ("phone", STRANGER, desk.clock())
    with pytest.raises(AuthError):
        desk.auth.password("ann@office.test", password, protocol="smtp", peer_ip=STRANGER)
    assert desk.auth.app_passwords.revoke("ann@office.test", id)
    with pytest.raises(AuthError):
        desk.login(password)
    with pytest.raises(ValueError, match="there is no protocol"):
        desk.auth.app_passwords.create("ann@office.test", "x", ["pigeon"])


def test_scram(desk: Desk) -> None:
    from scramp import ScramClient

    client = ScramClient(["SCRAM-SHA-256"], "ann@office.test", "correct horse")
    exchange = begin("SCRAM-SHA-256", scram_keys=desk.auth.scram_credentials)
    assert exchange is not None
    step = exchange.step(client.get_client_first().encode())
    client.set_server_first(step.data.decode())  # type: ignore[union-attr]
    step = exchange.step(client.get_client_final().encode())
    client.set_server_final(step.data.decode())  # type: ignore[union-attr]
    step = exchange.step(b"")
    assert isinstance(step, Proven) and not isinstance(step, PasswordCheck)
    assert desk.auth.scram_result(step.user, True, protocol="imap", peer_ip=STRANGER).key == "ann@office.test"
    with pytest.raises(AuthError):
        desk.auth.scram_result("ann@office.test", False, protocol="imap", peer_ip=STRANGER)


def test_unknown_users_have_steady_scram_keys(desk: Desk) -> None:
    one, two = (desk.auth.scram_credentials("ghost@office.test") for _ in range(2))
    assert one == two and one.salt != desk.auth.scram_credentials("spirit@office.test").salt


def test_weak_passwords(desk: Desk) -> None:
    for weak in ("short", "x" * 300, "nul\0inside it"):
        with pytest.raises(WeakPasswordError):
            desk.auth.passwords.store("ann@office.test", weak)


def test_a_dead_database_is_nobodys_fault(desk: Desk) -> None:
    metadata.drop_all(desk.database.engine)
    with pytest.raises(AuthError) as error:
        desk.login("correct horse")
    assert error.value.temporary


@pytest.mark.parametrize(
    ("peer", "network"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64")],
)
def test_networks(peer: str, network: str) -> None:
    assert network_of(peer) == network
