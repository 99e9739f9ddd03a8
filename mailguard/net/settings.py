"""``[limits]``, ``[tls]``, ``[dns]`` and ``[acme]`` of mailguard.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"


class LimitSettings(BaseModel):
    """``[limits]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: int = Field(default=5000, ge=10, description="connections at a time, in each worker")
    per_network: int = Field(
        default=50, ge=1, description="of these, from one address (IPv6: one /64); the allow list of `[auth]` is exempt"
    )
    waiting_threads: int = Field(
        default=24, ge=1, le=500, description="threads of each listener and worker kept waiting for connections"
    )


class CertificateSettings(BaseModel):
    """``[[tls.domain]]``: a certificate of its own for some names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...] = Field(description="host names, as clients ask for them (SNI)", min_length=1)
    certificate: Path = Field(description="PEM file: certificate, then intermediates; relative to mailguard.toml")
    key: Path = Field(description="PEM file with the private key")


class TlsSettings(BaseModel):
    """``[tls]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: Path = Field(
        default=Path("tls/certificate.pem"),
        description="PEM file: certificate, then intermediates; relative to mailguard.toml",
    )
    key: Path = Field(default=Path("tls/key.pem"), description="PEM file with the private key")
    domain: tuple[CertificateSettings, ...] = Field(default=(), description="certificates for further names")
    minimum: Literal["1.2", "1.3"] = Field(default="1.2", description="lowest version of TLS for clients")


class DnsSettings(BaseModel):
    """``[dns]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nameservers: tuple[str, ...] = Field(
        default=(), description="resolvers to ask, as `address` or `address:port`; empty: those of the system"
    )
    timeout: float = Field(default=5.0, gt=0, le=60, description="seconds one question may take in all")
    cache_size: int = Field(default=10_000, ge=0, description="answers kept per worker")
    failure_ttl: float = Field(
        default=30.0, ge=0, le=300, description="seconds a question that failed is not asked again; 0: ask each time"
    )
    validating: bool = Field(
        default=False, description="the resolver is ours and validates DNSSEC: believe its AD bit (DANE)"
    )


class AcmeSettings(BaseModel):
    """``[acme]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=False, description="get certificates from a CA and renew them, and agree to the CA's terms of service"
    )
    directory: str = Field(default=LETS_ENCRYPT, description="the CA's ACME directory (URL)")
    staging: bool = Field(
        default=False, description="use Let's Encrypt's trial system: no limits, but nobody trusts its certificates"
    )
    email: str = Field(default="", description="where the CA may write to; empty: nowhere")
    names: tuple[str, ...] = Field(default=(), description="further host names for the certificate")
    ca_file: str = Field(default="", description="who vouches for the CA's web server; empty: the system's")
    caa: str = Field(default="letsencrypt.org", description="the CA's name in CAA records; empty: propose none")

    @property
    def url(self) -> str:
        """The directory in use."""
        return _STAGING if self.staging else self.directory
