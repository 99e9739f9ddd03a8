"""DKIM keys at rest: ``data_dir/dkim/DOMAIN/SELECTOR.pem``, one file a key; made, published, rotated, retired.

The name says what a key is for: ``SELECTOR.pem`` signs, ``SELECTOR.next.pem`` waits until its record is published,
``SELECTOR.old.pem`` signs no longer, but its record must stay a while for mail under way (RFC 6376 §3.6.1).
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

PrivateKey = RSAPrivateKey | Ed25519PrivateKey
RSA_BITS = 2048  # RFC 8301 §3.2: at least 1024, 2048 recommended


class KeyState(Enum):
    """What a key is for; the value is what stands in its file's name."""

    SIGNING = ""
    NEXT = "next"
    OLD = "old"


class DkimKeyError(Exception):
    """A key file cannot be used, or a command makes no sense for the keys there are; the text names the cure."""


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One key of a domain; ``since`` is the Unix time at which its file got its present name or was made."""

    domain: str
    selector: str
    state: KeyState
    path: Path
    private: PrivateKey = field(repr=False)
    since: float = 0.0

    @property
    def algorithm(self) -> str:
        """``rsa-sha256`` or ``ed25519-sha256``."""
        return "rsa-sha256" if isinstance(self.private, RSAPrivateKey) else "ed25519-sha256"

    @property
    def record(self) -> str:
        """The text of its TXT record (RFC 6376 §3.6.1, RFC 8463 §4)."""
        public = self.private.public_key()
        if isinstance(self.private, RSAPrivateKey):
            kind, octets = "rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            kind, octets = "ed25519", public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k={kind}; p={base64.b64encode(octets).decode()}"

    @property
    def record_name(self) -> str:
        """Where the record belongs, without the last dot."""
        return f"{self.selector}._domainkey.{self.domain}"


class DkimKeys:
    """The keys in ``folder`` (``data_dir/dkim``). Reads the files each time it is asked."""

    def __init__(self, folder: Path, *, now: Callable[[], float] = lambda: datetime.now(UTC).timestamp()) -> None:
        self.folder = folder
        self._now = now

    def domains(self) -> list[str]:
        """Every domain with a key."""
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir() and any(entry.glob("*.pem")))

    def keys(self, domain: str) -> list[DkimKey]:
        """The keys of a domain by state, then by selector. Raises DkimKeyError for a file that holds none."""
        order = list(KeyState)
        found = [self._load(domain, path) for path in (self.folder / domain).glob("*.pem")]
        return sorted(found, key=lambda key: (order.index(key.state), key.selector))

    def _load(self, domain: str, path: Path) -> DkimKey:
        selector, _, word = path.name.removesuffix(".pem").partition(".")
        try:
            private = load_pem_private_key(path.read_bytes(), None)
            state = KeyState(word)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise DkimKeyError(f"{path}: no private key can be read from it ({error}); remove or replace it") from None
        if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
            raise DkimKeyError(f"{path}: DKIM knows RSA and Ed25519 keys only; replace it")
        return DkimKey(domain, selector, state, path, private, path.stat().st_mtime)

    def records(self, domain: str) -> list[tuple[str, str]]:
        """Selector and text of every TXT record that must be published now: of all keys, old ones included."""
        return [(key.selector, key.record) for key in self.keys(domain)]

    def add(self, domain: str) -> list[DkimKey]:
        """Makes the first two keys of a domain, RSA and Ed25519; they sign at once. Raises DkimKeyError, OSError."""
        if self.keys(domain):
            raise DkimKeyError(f"{domain} has keys already; `mailguard dkim rotate {domain}` makes new ones")
        return self._make(domain, KeyState.SIGNING)

    def prepare(self, domain: str) -> list[DkimKey]:
        """The keys that are to follow: those waiting to be published, or new ones. Raises DkimKeyError, OSError."""
        keys = self.keys(domain)
        if not keys:
            raise DkimKeyError(f"{domain} has no keys yet; `mailguard dkim add {domain}` makes them")
        return [key for key in keys if key.state is KeyState.NEXT] or self._make(domain, KeyState.NEXT)

    def switch(self, domain: str) -> list[DkimKey]:
        """Lets the waiting keys sign and retires those that signed; returns those that sign now. Raises OSError."""
        keys = self.keys(domain)
        waiting = [key for key in keys if key.state is KeyState.NEXT]
        # First in, then out: at no moment does the domain have no key.
        for key in waiting:
            self._rename(key, KeyState.SIGNING)
        for key in keys:
            if waiting and key.state is KeyState.SIGNING:
                self._rename(key, KeyState.OLD)
        return [key for key in self.keys(domain) if key.state is KeyState.SIGNING]

    def forget(self, domain: str, *, older_than: float) -> list[DkimKey]:
        """Deletes keys that were retired before this Unix time; returns them: their records may go, too."""
        gone = [key for key in self.keys(domain) if key.state is KeyState.OLD and key.since < older_than]
        for key in gone:
            key.path.unlink()
        return gone

    def _rename(self, key: DkimKey, state: KeyState) -> None:
        os.utime(key.path, (self._now(), self._now()))
        key.path.rename(key.path.with_name(_name(key.selector, state)))

    def _make(self, domain: str, state: KeyState) -> list[DkimKey]:
        folder = self.folder / domain
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        month = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m")
        taken = {path.name.partition(".")[0] for path in folder.glob("*.pem")}
        names = [month, *(f"{month}{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")]
        free = next(name for name in names if not {f"r{name}", f"e{name}"} & taken)
        pairs: tuple[tuple[str, PrivateKey], ...] = (
            (f"r{free}", generate_private_key(65537, RSA_BITS)),
            (f"e{free}", Ed25519PrivateKey.generate()),
        )
        for selector, private in pairs:
            self._write(folder / _name(selector, state), private)
        return [key for key in self.keys(domain) if key.selector in dict(pairs)]

    def _write(self, path: Path, private: PrivateKey) -> None:
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        # Made by root, read by the server's own user: whoever owns the data folder.
        owner = self.folder.parent.stat()
        with contextlib.suppress(PermissionError):
            for made in (self.folder, path.parent, path):
                os.chown(made, owner.st_uid, owner.st_gid)


def _name(selector: str, state: KeyState) -> str:
    return f"{selector}.{state.value}.pem" if state.value else f"{selector}.pem"
