"""DKIM signatures for what leaves: rsa-sha256 and ed25519-sha256, relaxed/relaxed, important fields oversigned
(RFC 6376, RFC 8301, RFC 8463)."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from mailguard.delivery.dkimkey import DkimKey, DkimKeyError, DkimKeys, KeyState
from mailguard.model.message import Field, Message, split_fields
from mailguard.pipeline.bodyhash import body_hash

# Listed once more than they occur, so that nobody can add another one (RFC 6376 §8.15).
ALWAYS = ("from", "to", "cc", "subject", "reply-to")
IF_PRESENT = (
    *("date", "message-id", "sender", "in-reply-to", "references"),
    *("mime-version", "content-type", "content-transfer-encoding", "content-disposition"),
    *("auto-submitted", "tls-required"),
)
# Mailing lists add and replace these.
AS_THEY_ARE = ("list-id", "list-unsubscribe", "list-unsubscribe-post", "list-post", "list-help")

_WSP = re.compile(rb"[ \t]+")
_PKCS1, _SHA256 = PKCS1v15(), Prehashed(hashes.SHA256())


class Signer:
    """Signs with the keys that were in the folder when it was made; a reload makes a new one. Safe for threads."""

    def __init__(self, folder: Path, *, log: Any = None, now: Callable[[], float] = time.time) -> None:
        self._keys: dict[str, list[DkimKey]] = {}
        self._now = now
        store = DkimKeys(folder)
        for domain in store.domains():
            try:
                self._keys[domain] = [key for key in store.keys(domain) if key.state is KeyState.SIGNING]
            except (DkimKeyError, OSError) as error:
                if log is not None:
                    log.error("mail is not signed with DKIM", domain=domain, error=str(error))

    def domain_for(self, domain: str) -> str:
        """Whose keys sign for a domain: its own, else those of a domain above it (aligned, RFC 7489 §3.1.1); ``""``
        where there are none."""
        while domain:
            if self._keys.get(domain):
                return domain
            domain = domain.partition(".")[2]
        return ""

    def sign(self, message: Message, domain: str) -> Message:
        """The message with one signature for each key of the domain on top; as it is where there is no key."""
        keys = self._keys.get(self.domain_for(domain))
        if not keys:
            return message
        digest, _ = body_hash(message.body, relaxed=True)
        names, canonical = _chosen(split_fields(message.header))
        return message.prepend(*(_signature(key, names, canonical, digest, int(self._now())) for key in keys))


def _chosen(fields: Sequence[Field]) -> tuple[bytes, bytes]:
    """The value of ``h=`` and the canonical octets of the fields it names."""
    by_name: defaultdict[str, list[Field]] = defaultdict(list)
    for field in fields:
        by_name[field.name.lower()].append(field)
    names: list[str] = []
    octets: list[bytes] = []
    for name in (*ALWAYS, *IF_PRESENT, *AS_THEY_ARE):
        found = by_name.get(name, [])
        more = name in ALWAYS or (name in IF_PRESENT and found)
        names += [name] * (len(found) + bool(more))
        octets += [relaxed(field.raw) for field in reversed(found)]  # from the bottom up: RFC 6376 §5.4.2
    return _folded(names), b"".join(octets)


def _folded(names: Sequence[str]) -> bytes:
    lines, line = [], ""
    for name in names:
        if len(line) + len(name) > 72:
            lines.append(line)
            line = ""
        line += f"{name}:"
    return "\r\n\t".join([*lines, line])[:-1].encode()


def relaxed(raw: bytes) -> bytes:
    """A header field in DKIM's relaxed form (RFC 6376 §3.4.2), with its line end."""
    name, _, value = raw.partition(b":")
    value = _WSP.sub(b" ", value.replace(b"\r\n", b"")).strip(b" \t")
    return name.strip(b" \t").lower() + b":" + value + b"\r\n"


def _signature(key: DkimKey, names: bytes, canonical: bytes, digest: bytes, now: int) -> bytes:
    field = (b"DKIM-Signature: v=1; a=%b; c=relaxed/relaxed; d=%b; s=%b;\r\n\tt=%d; h=%b;\r\n\tbh=%b;\r\n\tb=") % (
        key.algorithm.encode(),
        key.domain.encode(),
        key.selector.encode(),
        now,
        names,
        base64.b64encode(digest),
    )
    hashed = hashlib.sha256(canonical + relaxed(field).removesuffix(b"\r\n")).digest()
    if isinstance(key.private, RSAPrivateKey):
        octets = key.private.sign(hashed, _PKCS1, _SHA256)
    else:
        octets = key.private.sign(hashed)  # RFC 8463 §3: Ed25519 over the SHA-256
    text = base64.b64encode(octets)
    return field + b"\r\n\t".join(text[at : at + 72] for at in range(0, len(text), 72)) + b"\r\n"
