"""Passwords as they are kept: an Argon2id hash, and SCRAM-SHA-256 keys beside it (RFC 9106, RFC 7677)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mailguard.protocol.sasl import ScramKeys
from mailguard.state.credential import credential, server_secret
from mailguard.state.database import Database

ITERATIONS = 15_000  # of SCRAM-SHA-256; RFC 7677 §4 asks for 4096 at least
MIN_LENGTH = 8
_AT_ONCE = 2  # Argon2 takes 19 MiB each time


class WeakPasswordError(ValueError):
    """The new password is not good enough; the text says why."""


class Passwords:
    """The passwords of all accounts, in the state database. Safe for threads."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        # OWASP's parameters: 18 ms here, where the library's own 64 MiB would cost 120 ms of both cores.
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._decoy = ""
        self._fake_key = b""

    def store(self, account: str, password: str) -> None:
        """Sets the password of an account key. Raises WeakPasswordError."""
        if len(password) < MIN_LENGTH:
            raise WeakPasswordError(f"a password needs at least {MIN_LENGTH} characters")
        if "\0" in password or len(password.encode()) > 255:
            raise WeakPasswordError("a password has at most 255 octets and no NUL")
        from scramp import ScramMechanism  # 3 MB that a worker does without until somebody needs them

        salt, stored, server, count = ScramMechanism("SCRAM-SHA-256").make_auth_info(
            password, iteration_count=ITERATIONS, salt=secrets.token_bytes(16)
        )
        row = {
            "password_hash": self._hasher.hash(password),
            "scram_salt": salt,
            "scram_iterations": count,
            "scram_stored_key": stored,
            "scram_server_key": server,
            "changed_at": self._now(),
        }
        with self._database.write(durable=True) as connection:
            changed = connection.execute(sa.update(credential).where(credential.c.account == account).values(row))
            if not changed.rowcount:
                connection.execute(sa.insert(credential).values(account=account, **row))

    def remove(self, account: str) -> bool:
        """Forgets the password; False if there was none."""
        with self._database.write(durable=True) as connection:
            return connection.execute(sa.delete(credential).where(credential.c.account == account)).rowcount > 0

    def known(self) -> frozenset[str]:
        """The account keys that have a password."""
        with self._database.read() as connection:
            return frozenset(connection.execute(sa.select(credential.c.account)).scalars())

    def stamp(self, account: str) -> float:
        """When the password was last changed; 0 if there is none. For caches."""
        with self._database.read() as connection:
            query = sa.select(credential.c.changed_at).where(credential.c.account == account)
            return connection.execute(query).scalar() or 0.0

    def verify(self, account: str | None, password: str) -> bool:
        """Whether this is the account's password; takes as long for an account that does not exist (None)."""
        with self._database.read() as connection:
            query = sa.select(credential.c.password_hash).where(credential.c.account == account)
            stored = connection.execute(query).scalar() if account else None
        with self._turns:
            if stored is None:
                self._decoy = self._decoy or self._hasher.hash(secrets.token_hex(16))
            try:
                return self._hasher.verify(stored or self._decoy, password) and stored is not None
            except (VerificationError, InvalidHashError):
                return False

    def scram_keys(self, account: str | None, name: str) -> ScramKeys:
        """The SCRAM keys of an account; for None, keys made of ``name`` that stay the same (RFC 5802 §5)."""
        if account is not None:
            with self._database.read() as connection:
                row = connection.execute(sa.select(credential).where(credential.c.account == account)).first()
            if row is not None:
                return ScramKeys(row.scram_salt, row.scram_stored_key, row.scram_server_key, row.scram_iterations)
        self._fake_key = self._fake_key or server_secret(self._database, "scram-fake")
        salt, stored, server = (
            hmac.digest(self._fake_key, f"{what}\0{name.casefold()}".encode(), hashlib.sha256)
            for what in ("salt", "stored", "server")
        )
        return ScramKeys(salt[:16], stored, server, ITERATIONS)
