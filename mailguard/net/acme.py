"""Certificates from a certificate authority: one order, proved over HTTP on port 80 (RFC 8555, http-01)."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mailguard.net.selfsigned import write_private
from mailguard.net.settings import AcmeSettings

_PATIENCE = 120  # seconds for one order


class AcmeError(Exception):
    """No certificate now. ``names`` tells which host names the CA could not verify, and why; ``limited`` that it
    wants to be left alone for longer."""

    def __init__(self, text: str, names: Mapping[str, str] | None = None, *, limited: bool = False) -> None:
        super().__init__(text)
        self.names = dict(names or {})
        self.limited = limited


class _StaleError(Exception):
    """RFC 8555 §6.5; the library tries once more by itself, which is not always enough."""


@dataclass(frozen=True, slots=True)
class Acme:
    """One CA. ``folder`` holds the account's key, ``challenges`` is what the web part serves on port 80."""

    settings: AcmeSettings
    folder: Path
    challenges: Path

    @property
    def _account(self) -> Path:
        return self.folder / (urlsplit(self.settings.url).hostname or "ca")

    @property
    def account_url(self) -> str:
        """The account's name at the CA, ``""`` before the first order."""
        try:
            return self._account.with_suffix(".account").read_text().strip()
        except OSError:
            return ""

    def issue(self, names: Sequence[str], key: bytes) -> bytes:
        """A certificate for these host names and the private key (PEM): the chain in PEM. Raises AcmeError, OSError.

        Takes seconds, at the most two minutes.
        """
        for _ in range(4):
            try:
                return self._issue(names, key)
            except _StaleError:  # a number of ours was too old for the CA: from the start, with fresh ones
                continue
        raise AcmeError("the CA takes none of our requests for fresh ones (badNonce)")

    def _issue(self, names: Sequence[str], key: bytes) -> bytes:
        import requests
        from acme import errors, messages
        from josepy.errors import Error as JoseError

        try:
            return self._order(names, key)
        except errors.ValidationError as error:
            raise _unproved(error) from None
        except errors.TimeoutError:
            raise AcmeError("the CA did not finish in time") from None
        except messages.Error as error:
            if error.code == "badNonce":
                raise _StaleError from None
            raise _refused(error) from None
        except (errors.Error, JoseError, requests.RequestException, ValueError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise AcmeError(f"{self.settings.url}: {text[:300]}") from None

    def _order(self, names: Sequence[str], key: bytes) -> bytes:
        from acme import crypto_util

        client = self._client()
        order = client.new_order(crypto_util.make_csr(key, list(names)))
        deadline = datetime.datetime.now() + datetime.timedelta(seconds=_PATIENCE)  # noqa: DTZ005  # acme wants it so
        with self._answers(client, order):
            chain: str = client.poll_and_finalize(order, deadline).fullchain_pem
        return chain.encode()

    def _client(self) -> Any:
        from acme import client, errors, messages
        from josepy.jwa import ES256

        import mailguard

        key = self._account_key()
        agent = f"mailguard/{mailguard.__version__}"
        network = client.ClientNetwork(key, alg=ES256, user_agent=agent, timeout=30)
        network.verify_ssl = self.settings.ca_file or True  # type: ignore[assignment]
        made = client.ClientV2(client.ClientV2.get_directory(self.settings.url, network), network)
        wanted = messages.NewRegistration.from_data(
            email=self.settings.email or None, terms_of_service_agreed=True
        )  # fmt: skip
        try:
            account = made.new_account(wanted).uri
        except errors.ConflictError as error:  # it knows our key: this is the account
            account = error.location
            network.account = messages.RegistrationResource(uri=account, body=messages.Registration())
        self._account.with_suffix(".account").write_text(f"{account}\n")
        return made

    def _account_key(self) -> Any:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from josepy.jwk import JWKEC

        path = self._account.with_suffix(".key")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            write_private(path, new_key())
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return JWKEC(key=key)

    @contextmanager
    def _answers(self, client: Any, order: Any) -> Iterator[None]:
        """Puts the answers where the web part finds them, and tells the CA to look; takes them away at the end."""
        from acme import challenges, messages

        self.challenges.mkdir(parents=True, exist_ok=True)
        self.challenges.chmod(0o755)  # whoever asks here, root included, it is the server that answers
        written: list[Path] = []
        try:
            for authorization in order.authorizations:
                if authorization.body.status == messages.STATUS_VALID:
                    continue
                name = authorization.body.identifier.value
                found = [c for c in authorization.body.challenges if isinstance(c.chall, challenges.HTTP01)]
                if not found:
                    raise AcmeError("the CA does not offer http-01", {name: "no http-01"})
                response, validation = found[0].response_and_validation(client.net.key)
                path = self.challenges / found[0].chall.encode("token")
                path.write_text(validation)
                path.chmod(0o644)
                written.append(path)
                client.answer_challenge(found[0], response)
            yield
        finally:
            for path in written:
                path.unlink(missing_ok=True)


def new_key() -> bytes:
    """A new private key, EC P-256, in PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _unproved(error: Any) -> AcmeError:
    names: dict[str, str] = {}
    for authorization in error.failed_authzrs:
        problems = [c.error for c in authorization.body.challenges if c.error is not None]
        detail = " ".join(str(problems[0].detail).split()) if problems else "not verified"
        names[authorization.body.identifier.value] = detail[:200]
    text = "; ".join(f"{name}: {reason}" for name, reason in names.items())
    return AcmeError(f"the CA could not verify {text}", names)


def _refused(error: Any) -> AcmeError:
    detail = " ".join(str(error.detail or error.title or error.typ).split())
    names = {
        part.identifier.value: " ".join(str(part.detail).split())[:200]
        for part in error.subproblems or ()
        if part.identifier is not None
    }
    return AcmeError(f"the CA refuses: {detail[:300]}", names, limited=error.code == "rateLimited")


def write_pair(path: Path, chain: bytes, key: bytes) -> None:
    """Chain and key as one file, replaced in one step, durable; only the owner of the data folder may read it."""
    fresh = path.with_name(f".{path.name}.new")
    write_private(fresh, chain.rstrip(b"\n") + b"\n" + key)
    if os.geteuid() == 0:
        owner = path.parent.parent.stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
