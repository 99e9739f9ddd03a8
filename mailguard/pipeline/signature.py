"""DKIM signatures and ARC chains, verified by dkimpy's rules with fast hashing and keys underneath
(RFC 6376, RFC 8301, RFC 8463, RFC 8617). With signaturekey, the only file that touches dkimpy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dkim
from dkim.canonicalization import CanonicalizationPolicy, InvalidCanonicalizationPolicyError
from dkim.util import InvalidTagValueList, parse_tag_value

from mailguard.model.message import Message
from mailguard.net.resolver import DnsTemporaryError, Resolver, ask_all
from mailguard.pipeline.bodyhash import body_hash
from mailguard.pipeline.signaturekey import SignatureRefusedError, decode_base64, load_key

_COLON = re.compile(rb"\s*:\s*")
_WHERE = re.compile(r"(?:\A|;)\s*([ds])\s*=\s*([^\s;]+)")


@dataclass(frozen=True, slots=True)
class SignatureResult:
    """One DKIM signature: ``result`` is ``pass fail policy neutral temperror permerror`` (RFC 8601 §2.7.1),
    ``reason`` why, the rest its tags; ``b`` the first eight characters of its value (RFC 6008)."""

    result: str
    reason: str = ""
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    b: str = ""


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One instance of an ARC chain: who sealed, and the results it recorded (an ARC-Authentication-Results body)."""

    instance: int
    domain: str
    results: str


@dataclass(frozen=True, slots=True)
class ArcResult:
    """An ARC chain: ``result`` is ``none pass fail temperror``; ``sets`` newest first, empty unless it passed;
    ``oldest_pass`` the oldest instance whose message signature still fits, with all after it; 0 if all do."""

    result: str
    reason: str = ""
    sets: tuple[ArcSet, ...] = ()
    oldest_pass: int = 0


class _Verifying:
    """Replaces the part of dkimpy's signers and verifiers that hashes, finds the key and checks with it."""

    headers: list[list[bytes]]
    body: bytes

    def load(self, message: Message, resolver: Resolver, now: float, timeout: float) -> None:
        self.headers = [[f.name.encode("ascii"), f.raw[f.raw.index(b":") + 1 :]] for f in message.fields]
        self._names = [name.lower() for name, _ in self.headers]
        self._octets = message.body
        self._resolver = resolver
        self._now = now
        self._timeout = timeout
        self._hashes: dict[tuple[bytes, int], tuple[bytes, bool]] = {}
        self.temporary = ""

    def verify_sig(self, sig: dict[bytes, bytes], include_headers: list[bytes], sig_header: Any, dnsfunc: Any) -> bool:
        self._check_tags(sig)
        policy = _policy(sig)
        self._check_body(sig, policy)
        if b"from" in include_headers:
            include_headers = [*include_headers, b"from"]  # a From added later must break the signature
        digest = self._header_hash(policy, include_headers, sig_header)
        signature = decode_base64(sig[b"b"], "b=")
        return self._key(sig)(signature, digest)

    def _check_tags(self, sig: dict[bytes, bytes]) -> None:
        if sig[b"a"] == b"rsa-sha1":
            raise SignatureRefusedError("policy", "rsa-sha1 is no longer a signature (RFC 8301)")
        if b"x" in sig and int(sig[b"x"]) < self._now:
            raise SignatureRefusedError("fail", "the signature has expired")

    def _check_body(self, sig: dict[bytes, bytes], policy: Any) -> None:
        if b"bh" not in sig:
            return
        limit = int(sig[b"l"]) if sig.get(b"l") else -1
        key = (policy.body_algorithm.name, limit)
        if key not in self._hashes:
            self._hashes[key] = body_hash(self._octets, relaxed=key[0] == b"relaxed", limit=limit)
        digest, cut = self._hashes[key]
        if digest != decode_base64(sig[b"bh"], "bh="):
            raise SignatureRefusedError("fail", "the body was changed after signing")
        if cut:
            raise SignatureRefusedError("policy", "l= leaves a part of the body unsigned")

    def _header_hash(self, policy: Any, include_headers: list[bytes], sig_header: Any) -> bytes:
        name, value = sig_header
        last = name, _without_b(value)
        if policy.header_algorithm.name == b"relaxed":
            octets = [_relaxed(*field) for field in (*self._chosen(include_headers), last)]
        else:
            octets = [b"%b:%b" % (name, value) for name, value in (*self._chosen(include_headers), last)]
        octets[-1] = octets[-1].rstrip()
        return hashlib.sha256(b"".join(octets)).digest()

    def _chosen(self, include_headers: list[bytes]) -> list[list[bytes]]:
        """The fields that are signed, of each name from the last one up (RFC 6376 §5.4.2)."""
        chosen: list[list[bytes]] = []
        places: dict[bytes, int] = {}
        for wanted in include_headers:
            at = places.get(wanted, len(self._names)) - 1
            while at >= 0 and self._names[at] != wanted:
                at -= 1
            places[wanted] = max(at, 0)
            if at >= 0:
                chosen.append(self.headers[at])
        return chosen

    def _key(self, sig: dict[bytes, bytes]) -> Callable[[bytes, bytes], bool]:
        name = f"{_ascii(sig[b's'])}._domainkey.{_ascii(sig[b'd'])}"
        try:
            records = self._resolver.query(name, "TXT", timeout=self._timeout).records
        except DnsTemporaryError as error:
            self.temporary = str(error)
            raise SignatureRefusedError("temperror", f"the key at {name} cannot be fetched now") from error
        if not records:
            raise SignatureRefusedError("permerror", f"there is no key at {name}")
        refused: SignatureRefusedError | None = None
        for record in records:
            try:
                return load_key(record, sig, name)
            except SignatureRefusedError as error:
                refused = error
        assert refused is not None
        raise refused


class _Dkim(_Verifying, dkim.DKIM):  # type: ignore[misc]
    def prepared(self, index: int) -> tuple[dict[bytes, bytes], list[bytes], list[bytes]]:
        """The tags of a signature, the names it covers, and its field; what dkimpy's ``verify_headerprep`` does."""
        fields = [field for name, field in zip(self._names, self.headers, strict=True) if name == b"dkim-signature"]
        sig = self.signature_fields = parse_tag_value(fields[index][1])
        dkim.validate_signature_fields(sig)
        return sig, [name.lower() for name in _COLON.split(sig[b"h"])], fields[index]


class _Arc(_Verifying, dkim.ARC):  # type: ignore[misc]
    def _check_tags(self, sig: dict[bytes, bytes]) -> None:
        if not sig.get(b"a", b"").startswith((b"rsa-sha256", b"ed25519-sha256")):
            raise SignatureRefusedError("fail", "unknown algorithm in an ARC set")


def verify_dkim(
    message: Message, resolver: Resolver, *, now: float, limit: int = 10, timeout: float = 5.0
) -> list[SignatureResult]:
    """Checks the topmost ``limit`` DKIM signatures of a message, top first. ``now`` is a Unix time, ``timeout``
    the seconds one key may take to arrive."""
    count = min(len(message.get_all("DKIM-Signature")), limit)
    if not count:
        return []
    _fetch_keys(message, resolver, count, timeout)
    verifier = _Dkim()
    verifier.load(message, resolver, now, timeout)
    return [_verify_one(verifier, index) for index in range(count)]


def _fetch_keys(message: Message, resolver: Resolver, count: int, timeout: float) -> None:
    """Asks for all keys side by side, before anything is computed that must wait for them."""
    names = []
    for field in message.get_all("DKIM-Signature")[:count]:
        tags: dict[str, str] = dict(_WHERE.findall(field.value))
        if len(tags) == 2:
            names.append(f"{tags['s']}._domainkey.{tags['d']}")
    ask_all(resolver, [(name, "TXT") for name in dict.fromkeys(names)], timeout=timeout)


def _verify_one(verifier: _Dkim, index: int) -> SignatureResult:
    verifier.signature_fields = {}
    try:
        sig, include, field = verifier.prepared(index)
        if b"from" not in include:
            raise SignatureRefusedError("permerror", "From is not among the signed fields")
        passed = verifier.verify_sig(sig, include, field, None)
        result, reason = ("pass", "") if passed else ("fail", "the signature does not fit the message")
    except SignatureRefusedError as error:
        result, reason = error.result, str(error)
    except (dkim.DKIMException, InvalidTagValueList, ValueError, IndexError) as error:  # dkimpy trips over some
        expired = "x= value is past" in str(error)
        result, reason = ("fail", "the signature has expired") if expired else ("permerror", _readable(error))
    tags = verifier.signature_fields
    return SignatureResult(
        result,
        reason,
        domain=_ascii(tags.get(b"d", b"")).lower(),
        selector=_ascii(tags.get(b"s", b"")),
        identity=_ascii(tags.get(b"i", b"")),
        algorithm=_ascii(tags.get(b"a", b"")),
        b="".join(_ascii(tags.get(b"b", b"")).split())[:8],
    )


def verify_arc(message: Message, resolver: Resolver, *, now: float, timeout: float = 5.0) -> ArcResult:
    """Checks the ARC chain of a message (RFC 8617 §5.2)."""
    if not any(f.name.lower().startswith("arc-") for f in message.fields):
        return ArcResult("none")
    verifier = _Arc()
    verifier.load(message, resolver, now, timeout)
    try:
        problem = _chain_problem(verifier)
        if problem:
            return ArcResult("fail", problem)
        result, sets, reason = verifier.verify(dnsfunc=None)
    except (dkim.DKIMException, InvalidTagValueList, ValueError, IndexError) as error:
        return ArcResult("fail", _readable(error))
    if result == dkim.CV_Pass:
        broken = next((s["instance"] + 1 for s in sets if not s["ams-valid"]), 0)
        return ArcResult("pass", "", tuple(_arc_set(s) for s in sets), broken)
    if verifier.temporary:
        return ArcResult("temperror", verifier.temporary)
    if result == dkim.CV_None:
        return ArcResult("none")
    return ArcResult("fail", reason)


def _chain_problem(verifier: _Arc) -> str:
    newest, _ = verifier.sorted_arc_headers()
    return f"instance {newest} is over the limit of 50" if newest > 50 else ""


def _arc_set(output: dict[str, Any]) -> ArcSet:
    results = output["aar-value"].decode("utf-8", "replace").strip()
    return ArcSet(output["instance"], _ascii(output["as-domain"]).lower(), results)


def _without_b(value: bytes) -> bytes:
    parts = value.split(b";")
    for n, part in enumerate(parts):
        name, equals, _ = part.partition(b"=")
        if equals and name.strip() == b"b":
            parts[n] = name + equals
    return b";".join(parts)


def _relaxed(name: bytes, value: bytes) -> bytes:
    """A field in its relaxed form (RFC 6376 §3.4.2)."""
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    value = value.replace(b"\t", b" ")
    while b"  " in value:
        value = value.replace(b"  ", b" ")
    return b"%b:%b\r\n" % (name.lower().rstrip(), value.strip())


def _policy(sig: dict[bytes, bytes]) -> Any:
    try:
        return CanonicalizationPolicy.from_c_value(sig.get(b"c", b"simple/simple"))
    except InvalidCanonicalizationPolicyError:
        raise SignatureRefusedError("permerror", "c= names no known canonicalization") from None


def _ascii(value: bytes) -> str:
    return value.decode("utf-8", "replace").strip()


def _readable(error: Exception) -> str:
    return re.sub(r"b'([^']*)'", r"\1", str(error)) or type(error).__name__
