"""TLS on the way out: the contexts, the handshake, and whether what the other side showed is good enough."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from functools import cached_property

from mailguard.delivery.dane import verify
from mailguard.delivery.tlspolicy import TlsPolicy
from mailguard.model.reply import Reply, TransientError
from mailguard.net.stream import Stream
from mailguard.net.tls import client_context


class TlsFailedError(TransientError):
    """TLS did not come to be as the policy wants it; ``kind`` is its word in TLSRPT (RFC 8460 §4.3)."""

    def __init__(self, text: str, kind: str, detail: str = "") -> None:
        super().__init__(Reply.of(451, "4.7.5", text), detail)
        self.kind = kind


class ClientContexts:
    """TLS contexts for outgoing connections, TLS 1.2 or better, made when they are first needed.

    ``ca_file`` replaces the system's authorities. Raises OSError, ssl.SSLError where it cannot be read.
    """

    def __init__(self, ca_file: str = "") -> None:
        self._ca_file = ca_file
        if ca_file:
            self.checked  # noqa: B018 (to fail now)

    @cached_property
    def checked(self) -> ssl.SSLContext:
        """Verifies chain and name. The system's authorities take 4 MB, which only the relaying worker needs."""
        return client_context(ca_file=self._ca_file)

    @cached_property
    def unchecked(self) -> ssl.SSLContext:
        """Verifies nothing."""
        return client_context(verify=False)


def shake_hands(stream: Stream, peer: str, names: Sequence[str], policy: TlsPolicy, contexts: ClientContexts) -> str:
    """Encrypts the stream as the policy asks; returns in words what came of it. Raises TlsFailedError.

    ``names[0]`` is the host's own name, which is sent (SNI) and checked; DANE-TA takes any of ``names``: the
    host's, and the domain's whose MX it is (RFC 7672 §3.2.2).
    """
    checked = policy.level == "verify"
    context = contexts.checked if checked else contexts.unchecked
    try:
        info = stream.start_tls(context, server_side=False, server_hostname=names[0])
    except ssl.SSLCertVerificationError as error:
        raise TlsFailedError(
            f"the certificate of {peer} does not hold ({error.verify_message}); {policy} asks for it",
            _certificate_failure(error),
        ) from None
    except (OSError, ValueError) as error:
        raise TlsFailedError(f"no TLS with {peer}: {error}", "validation-failure") from None
    if policy.level == "dane" and (why := verify(_chain(stream), policy.tlsa, names, _utc_now())):
        raise TlsFailedError(f"DANE: {peer}: {why}", "validation-failure")
    how = {"verify": "verified", "dane": "verified by DANE"}.get(policy.level, "certificate not checked")
    return f"{info.version} {info.cipher}, {how}"


def _chain(stream: Stream) -> list[bytes]:
    sock = stream.sock
    if not isinstance(sock, ssl.SSLSocket):
        return []
    # Public only from Python 3.13 on; before that the same call sits on the wrapped object.
    getter = getattr(sock, "get_unverified_chain", None) or sock._sslobj.get_unverified_chain  # type: ignore[attr-defined]
    return [c if isinstance(c, bytes) else c.public_bytes(2) for c in getter() or ()]  # 2: ssl's ENCODING_DER


def _certificate_failure(error: ssl.SSLCertVerificationError) -> str:
    text = error.verify_message.lower()
    if "expired" in text:
        return "certificate-expired"
    return "certificate-host-mismatch" if "hostname" in text else "certificate-not-trusted"


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
