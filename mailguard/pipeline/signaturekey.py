"""DKIM public keys: the record in DNS, and the check it allows (RFC 6376 §3.6, RFC 8301, RFC 8463)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import lru_cache

import dkim
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from dkim.util import InvalidTagValueList, parse_tag_value

MIN_RSA_BITS = 1024  # RFC 8301 §3.2: verifiers must not accept less
MAX_RSA_BITS = 8192  # beyond, one verification costs too much
_PADDING, _DIGEST = padding.PKCS1v15(), Prehashed(SHA256())


class SignatureRefusedError(dkim.DKIMException):  # type: ignore[misc]
    """The signature does not count; ``result`` is its word."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


def load_key(record: str, sig: dict[bytes, bytes], name: str) -> Callable[[bytes, bytes], bool]:
    """The check that a key record allows (RFC 6376 §3.6.1), as ``(signature, digest) -> fits``."""
    try:
        tags = _tags(record)
    except InvalidTagValueList:
        raise SignatureRefusedError("permerror", f"the key at {name} cannot be read") from None
    kind = tags.get(b"k", b"rsa")
    services = [s.strip() for s in tags.get(b"s", b"*").split(b":")]
    problem = ""
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        problem = "is of another version"
    elif not tags.get(b"p", b"").strip():
        problem = "is revoked"
    elif kind != sig[b"a"].partition(b"-")[0]:
        problem = "is of another kind than the signature"
    elif b"sha256" not in [h.strip() for h in tags.get(b"h", b"sha256").split(b":")]:
        problem = "does not allow sha256"
    elif b"*" not in services and b"email" not in services:
        problem = "is not for mail"
    elif b"s" in tags.get(b"t", b"").split(b":") and not _same_domain(sig):
        problem = "does not allow an identity in a subdomain"
    if problem:
        raise SignatureRefusedError("permerror", f"the key at {name} {problem}")
    return _rsa(tags[b"p"], name) if kind == b"rsa" else _ed25519(tags[b"p"], name)


# What a domain signs comes with the same key each time, and reading it costs more than using it.
@lru_cache(maxsize=256)
def _tags(record: str) -> Mapping[bytes, bytes]:
    tags: dict[bytes, bytes] = parse_tag_value(record.encode("utf-8", "surrogateescape"))
    return tags


def _same_domain(sig: dict[bytes, bytes]) -> bool:
    return b"i" not in sig or sig[b"i"].rpartition(b"@")[2].lower() == sig[b"d"].lower()


@lru_cache(maxsize=256)
def _rsa(encoded: bytes, name: str) -> Callable[[bytes, bytes], bool]:
    try:
        key = load_der_public_key(decode_base64(encoded, "p="))
    except ValueError:
        raise SignatureRefusedError("permerror", f"the key at {name} cannot be read") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise SignatureRefusedError("permerror", f"the key at {name} is no RSA key")
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise SignatureRefusedError("fail", f"a key of {key.key_size} bits is not accepted (RFC 8301)")
    public = key

    def fits(signature: bytes, digest: bytes) -> bool:
        try:
            public.verify(signature, digest, _PADDING, _DIGEST)
        except InvalidSignature:
            return False
        return True

    return fits


def _ed25519(encoded: bytes, name: str) -> Callable[[bytes, bytes], bool]:
    try:
        public = Ed25519PublicKey.from_public_bytes(decode_base64(encoded, "p="))
    except ValueError:
        raise SignatureRefusedError("permerror", f"the key at {name} cannot be read") from None

    def fits(signature: bytes, digest: bytes) -> bool:
        try:
            public.verify(signature, digest)
        except InvalidSignature:
            return False
        return True

    return fits


def decode_base64(value: bytes, tag: str) -> bytes:
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except binascii.Error:
        raise SignatureRefusedError("permerror", f"{tag} is not base64") from None
