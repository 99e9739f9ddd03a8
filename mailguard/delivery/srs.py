"""The Sender Rewriting Scheme: forwarded mail leaves with a reverse path of our own, so that SPF holds.

The local parts are those of libsrs2 and postsrsd: ``SRS0=HHHH=TT=domain=local`` and, for what had been rewritten
elsewhere, ``SRS1=HHHH=domain==...``. The hash keeps others from using us to send bounces anywhere.
"""

from __future__ import annotations

import base64
import hmac
import re
import time
from collections.abc import Callable

from mailguard.model.address import MAX_LOCAL, Address, AddressError

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DAY = 86_400
_CYCLE = 1024  # days after which the time stamp repeats
_HASH = 4  # characters
_SRS = re.compile(r"SRS[01][-+=]", re.IGNORECASE)


class SrsError(ValueError):
    """Not an address that we rewrote, or one that has expired."""


class Srs:
    """Rewrites with ``secret`` into ``domain``, one of ours; what comes back is valid for ``days``."""

    def __init__(self, secret: bytes, domain: str, *, days: int = 21, now: Callable[[], float] = time.time) -> None:
        self.domain = domain
        self._secret = secret
        self._days = days
        self._now = now

    def forward(self, sender: Address | None) -> Address | None:
        """The reverse path for a message that we forward; the null one stays as it is."""
        if sender is None or sender.domain == self.domain:
            return sender
        if sender.local[:5].upper() in ("SRS0=", "SRS0+", "SRS0-"):
            rest = f"{sender.domain}={sender.local[4:]}"
            local = f"SRS1={self._sign(rest)}={rest}"
        elif sender.local[:5].upper() in ("SRS1=", "SRS1+", "SRS1-"):
            # The first forwarder stays in it, the one in the middle drops out.
            parts = sender.local[5:].split("=", 1)
            rest = parts[1] if len(parts) == 2 else ""
            local = f"SRS1={self._sign(rest)}={rest}"
        else:
            rest = f"{self._stamp()}={sender.domain}={sender.local}"
            local = f"SRS0={self._sign(rest)}={rest}"
        # Over 64 octets many servers refuse; then the sender's own address, without SPF, has the better chance.
        return Address(local, self.domain) if len(local.encode()) <= MAX_LOCAL else sender

    def is_ours(self, address: Address) -> bool:
        """Whether the address looks like one that ``forward`` made."""
        return address.domain == self.domain and bool(_SRS.match(address.local))

    def reverse(self, address: Address) -> Address:
        """Whom a bounce to a rewritten address is for. Raises SrsError."""
        if not self.is_ours(address):
            raise SrsError(f"{address} is not a rewritten address of ours")
        signature, _, rest = address.local[5:].partition("=")
        if not hmac.compare_digest(signature.lower().encode(), self._sign(rest).lower().encode()):
            raise SrsError(f"{address} was not made by us")
        try:
            if address.local[3] == "1":
                domain, _, inner = rest.partition("=")
                return Address.parse(f"SRS0{inner}@{domain}")
            stamp, _, rest = rest.partition("=")
            self._check(stamp, address)
            domain, _, local = rest.partition("=")
            return Address.parse(f"{local}@{domain}")
        except AddressError as error:
            raise SrsError(f"{address}: {error}") from None

    def _sign(self, text: str) -> str:
        # Case is folded: some servers on the way change it.
        digest = hmac.digest(self._secret, text.lower().encode(), "sha256")
        return base64.b32encode(digest).decode()[:_HASH]

    def _stamp(self) -> str:
        day = int(self._now() // _DAY) % _CYCLE
        return _BASE32[day >> 5] + _BASE32[day & 31]

    def _check(self, stamp: str, address: Address) -> None:
        if len(stamp) != 2 or any(c not in _BASE32 for c in stamp.upper()):
            raise SrsError(f"{address} has no time stamp")
        day = _BASE32.index(stamp[0].upper()) << 5 | _BASE32.index(stamp[1].upper())
        if (int(self._now() // _DAY) - day) % _CYCLE > self._days:
            raise SrsError(f"{address} has expired")
