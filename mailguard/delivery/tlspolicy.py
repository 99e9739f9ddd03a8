"""How well a next hop must be secured, out of all that has a say in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mailguard.delivery.dane import Tlsa, try_tlsa
from mailguard.delivery.mtasts import StsPolicy
from mailguard.delivery.nexthop import Hop
from mailguard.model.reply import PermanentError, Reply, TransientError
from mailguard.net.resolver import DnsTemporaryError, Resolver


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What one connection must reach.

    ``level`` is ``none``, ``may``, ``encrypt``, ``verify`` or ``dane``; ``source`` says who asked for it;
    ``tlsa`` are the records to match for ``dane``; with ``tried``, mail goes even where the level is not reached,
    which is only reported (MTA-STS in testing).
    """

    level: str
    source: str = "default"
    tlsa: tuple[Tlsa, ...] = ()
    tried: bool = False

    @property
    def must(self) -> bool:
        """Whether mail may not go in the clear."""
        return not self.tried and self.level in ("encrypt", "verify", "dane")

    def __str__(self) -> str:
        return f"{self.level} ({self.source})"


class Policies(Protocol):
    """Where MTA-STS policies come from."""

    def policy(self, domain: str) -> StsPolicy | None:
        """The policy of a domain in force now."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the message itself asks for: ``require`` is REQUIRETLS, ``optional`` is ``TLS-Required: No`` (RFC 8689)."""

    require: bool = False
    optional: bool = False


class TlsDecider:
    """Weighs the message's wish, the configuration, DANE and MTA-STS, in this order (RFC 8461 §2, RFC 8689 §4)."""

    def __init__(self, resolver: Resolver, sts: Policies | None, *, dane: bool) -> None:
        self._resolver = resolver
        self._sts = sts
        self._dane = dane

    def domain_policy(self, hop: Hop, wish: Wish) -> StsPolicy | None:
        """The MTA-STS policy to obey on the way to a domain's MX hosts."""
        if not hop.by_mx or hop.tls_configured or wish.optional or self._sts is None:
            return None
        policy = self._sts.policy(hop.host)
        return policy if policy and policy.mode != "none" else None

    def for_host(self, hop: Hop, host: str, wish: Wish, sts: StsPolicy | None, *, authentic: bool) -> TlsPolicy:
        """The policy for one host; ``authentic`` says that DNSSEC vouches for the way from the domain to its name.

        Raises TransientError where the host must not be used now.
        """
        if wish.optional and not wish.require and not hop.user:
            return TlsPolicy("may", "TLS-Required: No")
        policy = self._strongest(hop, host, sts, authentic)
        if not wish.require:
            return policy
        sure = policy.level == "verify" and not policy.tried
        if policy.level == "dane" or (policy.source in ("MTA-STS", "configuration") and sure):
            return policy
        if authentic or not hop.by_mx:
            return TlsPolicy("verify", "REQUIRETLS")
        raise PermanentError(
            Reply.of(550, "5.7.30", f"REQUIRETLS was asked for, but nothing vouches for the MX of {hop.host}")
        )

    def _strongest(self, hop: Hop, host: str, sts: StsPolicy | None, authentic: bool) -> TlsPolicy:
        if hop.tls_configured:
            return TlsPolicy(hop.tls, "configuration")
        if self._dane and authentic and hop.tls != "none" and (dane := self._by_dane(host, hop.port)):
            return dane
        if sts is not None:
            if sts.mode == "testing":
                return TlsPolicy("verify", "MTA-STS", tried=True)
            if not sts.allows(host):
                raise TransientError(
                    Reply.of(451, "4.7.5", f"{host} is not among the mail servers in the MTA-STS policy of {hop.host}")
                )
            return TlsPolicy("verify", "MTA-STS")
        return TlsPolicy(hop.tls)

    def _by_dane(self, host: str, port: int) -> TlsPolicy | None:
        try:
            found = try_tlsa(self._resolver, host, port)
        except DnsTemporaryError as error:
            raise TransientError(
                Reply.of(451, "4.7.5", f"DNS gave no valid answer for the TLSA records of {host}"), str(error)
            ) from None
        if not found.exists:
            return None
        return TlsPolicy("dane", "DANE", found.records) if found.records else TlsPolicy("encrypt", "DANE")
