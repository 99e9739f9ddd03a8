"""Who is there: passwords, app passwords and SCRAM, checked the same way for every protocol."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from mailguard.auth.accounts import Account, Directory
from mailguard.auth.apppassword import AppPasswords
from mailguard.auth.password import Passwords
from mailguard.auth.settings import AuthSettings
from mailguard.auth.throttle import Throttle
from mailguard.model.event import Event, SignedIn
from mailguard.protocol.sasl import ScramKeys
from mailguard.state.database import Database

_CACHED = 10_000  # verified sign-ins remembered
_SLEEPERS = 64  # refusals held back at the same time, in one worker
_T = TypeVar("_T")

WRONG = "wrong name or password"


class AuthError(Exception):
    """A sign-in failed. ``temporary``: not the client's fault, it may try again. ``reason`` is fit for the client.
    ``delay`` in seconds is how long to hold the answer back; the servers wait that long before they reply."""

    def __init__(self, reason: str, *, temporary: bool = False, delay: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.temporary = temporary
        self.delay = delay


class Authenticator:
    """Checks sign-ins for all protocols of one worker. ``directory`` is replaced at a reload. Safe for threads."""

    def __init__(
        self,
        directory: Directory,
        database: Database,
        settings: AuthSettings,
        *,
        emit: Callable[[Event], None] = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self.passwords = Passwords(database, now=now)
        self.app_passwords = AppPasswords(database, now=now)
        self.throttle = Throttle(database, settings, now=now)
        self._settings = settings
        self._emit = emit
        self._now = now
        self._cache = _Cache(settings.cache.total_seconds())
        self._sleeping: list[float] = []
        self._lock = threading.Lock()

    def password(self, user: str, password: str, *, protocol: str, peer_ip: str) -> Account:
        """The account that this name and password belong to. Raises AuthError."""
        account = self.directory.account(user)
        self._refuse_banned(user, account, protocol, peer_ip)
        usable = account is not None and not account.disabled
        good = self._database(lambda: self._check(account, password, protocol, peer_ip))
        if account is not None and usable and good is not None:
            return self._welcome(account, protocol, peer_ip, good)
        why = "disabled" if account is not None and account.disabled and good is not None else WRONG
        raise self._failure(user, account, password, protocol, peer_ip, why)

    def scram_credentials(self, user: str) -> ScramKeys:
        """The SCRAM keys for a name; stable false ones where there is no such account. Raises AuthError."""
        account = self.directory.account(user)
        key = account.key if account is not None and not account.disabled else None
        return self._database(lambda: self.passwords.scram_keys(key, user))

    def scram_result(self, user: str, ok: bool, *, protocol: str, peer_ip: str) -> Account:
        """To be called at the end of a SCRAM exchange: the account if the proof was right. Raises AuthError."""
        account = self.directory.account(user)
        self._refuse_banned(user, account, protocol, peer_ip)
        if ok and account is not None and not account.disabled:
            return self._welcome(account, protocol, peer_ip)
        # A SCRAM proof does not tell which password was tried: every failure is a distinct one.
        raise self._failure(user, account, secrets.token_hex(8), protocol, peer_ip, WRONG)

    def forget(self, account: str) -> None:
        """Drops what is remembered of an account key's sign-ins, after its password was changed here."""
        self._cache.forget(account)

    def _check(self, account: Account | None, password: str, protocol: str, peer_ip: str) -> str | None:
        """None if the password is wrong, else the name of the app password that it is, ``""`` for the account's own."""
        key = account.key if account is not None else None
        if key is None:
            self.passwords.verify(None, password)
            return None
        stamp = self.passwords.stamp(key)
        if self._cache.knows(key, password, stamp):
            return ""
        app = self.app_passwords.verify(key, password, protocol=protocol, peer_ip=peer_ip)
        if app is not None:
            return app  # never cached: so that a revoked one ends at once
        if self.passwords.verify(key, password):
            self._cache.add(key, password, stamp)
            return ""
        return None

    def _refuse_banned(self, user: str, account: Account | None, protocol: str, peer_ip: str) -> None:
        key = account.key if account else user.casefold()
        banned = self._database(lambda: self.throttle.banned(peer_ip, key))
        if banned is not None:
            minutes = max(1, round((banned.until - self._now()) / 60))
            reason = f"too many wrong passwords from {banned.network}; try again in {minutes} min"
            self._emit(SignedIn(self._now(), "", key, protocol, peer_ip, False, f"banned: {banned.reason}"))
            raise AuthError(reason, temporary=True, delay=self._delay())

    def _failure(
        self, user: str, account: Account | None, password: str, protocol: str, peer_ip: str, why: str
    ) -> AuthError:
        key = account.key if account else user.casefold()
        reason = why if account is not None or why != WRONG else "no such account"
        self._emit(SignedIn(self._now(), "", key, protocol, peer_ip, False, reason))
        self._database(lambda: self.throttle.failed(peer_ip, key, password))
        return AuthError(WRONG, delay=self._delay())

    def _welcome(self, account: Account, protocol: str, peer_ip: str, app_password: str = "") -> Account:
        self._database(lambda: self.throttle.succeeded(peer_ip, account.key))
        self._emit(SignedIn(self._now(), "", account.key, protocol, peer_ip, True, app_password=app_password))
        return account

    def _delay(self) -> float:
        """The seconds to hold a refusal back; 0 while too many threads sleep already."""
        with self._lock:
            now = time.monotonic()
            self._sleeping = [until for until in self._sleeping if until > now]
            if len(self._sleeping) >= _SLEEPERS:
                return 0.0
            self._sleeping.append(now + self._settings.delay)
        return self._settings.delay

    @staticmethod
    def _database(call: Callable[[], _T]) -> _T:
        try:
            return call()
        except sa.exc.SQLAlchemyError as error:
            raise AuthError("sign-in is not possible just now; try again later", temporary=True) from error


class _Cache:
    """Sign-ins verified a short while ago, under a keyed hash: a stolen memory image holds no password."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[tuple[str, bytes], tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def knows(self, account: str, password: str, stamp: float) -> bool:
        entry = self._known.get((account, self._digest(password)))
        return entry is not None and entry[0] > time.monotonic() and entry[1] == stamp

    def add(self, account: str, password: str, stamp: float) -> None:
        if self._seconds:
            with self._lock:
                self._known[account, self._digest(password)] = (time.monotonic() + self._seconds, stamp)
                if len(self._known) > _CACHED:
                    self._known.popitem(last=False)

    def forget(self, account: str) -> None:
        with self._lock:
            for key in [key for key in self._known if key[0] == account]:
                del self._known[key]

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode("utf-8", "replace"), hashlib.sha256)
