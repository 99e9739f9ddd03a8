"""Whether people elsewhere want the mail that an account's owner would send on to them."""

from __future__ import annotations

import hashlib
import secrets
import time
from base64 import b32encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.state.database import Database
from mailguard.state.personal import forward_consent

MOST_LETTERS = 10  # asking on behalf of one account, in a day
KEEP = 30 * 86_400.0  # seconds that a letter without an answer holds
_DAY = 86_400.0
_C = forward_consent.c


class TooManyLettersError(ValueError):
    """This account has had so many strangers asked today."""


@dataclass(frozen=True, slots=True)
class Consent:
    """``account`` (its key) wants to forward to ``target``, an address as text, who was asked and may have agreed."""

    account: str
    target: str
    asked_at: float
    agreed_at: float  # 0: not yet


class Consents:
    """The answers, in the state database; whoever has the code of a letter may answer it. Safe for threads."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def ask(self, account: str, targets: Iterable[str]) -> dict[str, str]:
        """A new code for each of these targets that has not been asked within a day. Raises TooManyLettersError."""
        now = self._now()
        with self._database.write(durable=True) as connection:
            connection.execute(sa.delete(forward_consent).where(_C.agreed_at == 0, _C.asked_at < now - KEEP))
            rows = connection.execute(sa.select(forward_consent).where(_C.account == account)).all()
            asked = {row.target for row in rows if row.agreed_at or row.asked_at > now - _DAY}
            codes = {target: new_code() for target in targets if target not in asked}
            if codes and len(codes) + sum(row.asked_at > now - _DAY for row in rows) > MOST_LETTERS:
                raise TooManyLettersError(f"at most {MOST_LETTERS} addresses can be asked in a day; try again tomorrow")
            for target, code in codes.items():
                mine = (_C.account == account, _C.target == target)
                connection.execute(sa.delete(forward_consent).where(*mine))
                row = {"account": account, "target": target, "digest": _digest(code), "asked_at": now, "agreed_at": 0.0}
                connection.execute(sa.insert(forward_consent).values(row))
        return codes

    def forget(self, account: str, target: str) -> None:
        """Undoes ``ask`` for one whose letter could not be written."""
        with self._database.write() as connection:
            connection.execute(sa.delete(forward_consent).where(_C.account == account, _C.target == target))

    def of(self, account: str) -> dict[str, Consent]:
        """Everybody that the account has had asked, by address."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(forward_consent).where(_C.account == account)).all()
        return {row.target: _consent(row) for row in rows}

    def find(self, code: str) -> Consent | None:
        """What a code is about."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(forward_consent).where(_C.digest == _digest(code))).first()
        return None if row is None else _consent(row)

    def answer(self, code: str, *, agreed: bool) -> None:
        """Notes what whoever has the code wants; they may think again later."""
        with self._database.write(durable=True) as connection:
            change = sa.update(forward_consent).where(_C.digest == _digest(code))
            connection.execute(change.values(agreed_at=self._now() if agreed else 0.0))


def new_code() -> str:
    """Eighty random bits that can be read aloud: ``ABCD-EFGH-IJKL-MNOP``."""
    text = b32encode(secrets.token_bytes(10)).decode()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _digest(code: str) -> bytes:
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return hashlib.sha256(plain.encode("utf-8", "replace")).digest()


def _consent(row: sa.Row[tuple[object, ...]]) -> Consent:
    return Consent(row.account, row.target, row.asked_at, row.agreed_at)
