from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient, ScramMechanism

from mailguard.protocol.sasl import (
    Challenge,
    PasswordCheck,
    Proven,
    SaslError,
    ScramKeys,
    begin,
    channel_binding,
    mechanisms,
)

SALT, STORED, SERVER, ITERATIONS = ScramMechanism("SCRAM-SHA-256").make_auth_info("pencil", iteration_count=4096)
BINDING = ("tls-server-end-point", b"x" * 32)


def keys(user: str) -> ScramKeys:
    return ScramKeys(SALT, STORED, SERVER, ITERATIONS)


def exchange(name: str, binding=None):
    found = begin(name, scram_keys=keys, binding=binding)
    assert found is not None
    return found


def scram(mechanism: str, password: str, binding=None, server_binding=None, client_names=None):
    client = ScramClient(client_names or [mechanism], "anna@office.example", password, channel_binding=binding)
    server = exchange(mechanism, server_binding)
    first = server.step(client.get_client_first().encode())
    client.set_server_first(first.data.decode())
    final = server.step(client.get_client_final().encode())
    client.set_server_final(final.data.decode())
    return server.step(b"")


def test_plain_in_one_and_in_two_steps():
    assert exchange("plain").step(b"\0anna\0secret") == PasswordCheck("anna", "secret")
    two = exchange("PLAIN")
    assert two.step(None) == Challenge(b"")
    assert two.step(b"anna\0anna\0secret") == PasswordCheck("anna", "secret")


@pytest.mark.parametrize(
    "response",
    [b"", b"anna", b"\0anna", b"\0anna\0se\0cret", b"boss\0anna\0secret", b"\0\0secret", b"\0anna\0", b"\0\xff\0x",
     b"\0" + b"a" * 256 + b"\0x"],
)  # fmt: skip
def test_plain_refuses(response):
    with pytest.raises(SaslError):
        exchange("PLAIN").step(response)


def test_login_with_and_without_initial_response():
    login = exchange("LOGIN")
    assert login.step(None) == Challenge(b"Username:")
    assert login.step(b"anna") == Challenge(b"Password:")
    assert login.step(b"secret") == PasswordCheck("anna", "secret")
    assert exchange("LOGIN").step(b"anna") == Challenge(b"Password:")


def test_scram_proves_both_sides():
    assert scram("SCRAM-SHA-256", "pencil") == Proven("anna@office.example")


def test_scram_wrong_password_names_the_user():
    with pytest.raises(SaslError) as caught:
        scram("SCRAM-SHA-256", "eraser")
    assert caught.value.wrong_proof and caught.value.user == "anna@office.example"


def test_scram_plus_binds_the_channel():
    assert scram("SCRAM-SHA-256-PLUS", "pencil", BINDING, BINDING) == Proven("anna@office.example")
    with pytest.raises(SaslError):
        scram("SCRAM-SHA-256-PLUS", "pencil", BINDING, ("tls-server-end-point", b"y" * 32))


def test_scram_refuses_downgrade_and_binding_without_plus():
    with pytest.raises(SaslError, match="channel binding"):
        exchange("SCRAM-SHA-256", BINDING).step(b"y,,n=anna,r=abc")
    with pytest.raises(SaslError, match="PLUS"):
        exchange("SCRAM-SHA-256", BINDING).step(b"p=tls-server-end-point,,n=anna,r=abc")
    assert begin("SCRAM-SHA-256-PLUS", scram_keys=keys) is None


def test_scram_refuses_a_mandatory_extension_and_a_changed_nonce():
    with pytest.raises(SaslError):
        exchange("SCRAM-SHA-256").step(b"n,,m=x,n=anna,r=abc")
    server = exchange("SCRAM-SHA-256")
    server.step(b"n,,n=anna,r=abc")
    with pytest.raises(SaslError) as caught:
        server.step(b"c=biws,r=abcother,p=AAAA")
    assert not caught.value.wrong_proof


def test_lookup_failure_is_not_the_clients_fault():
    def broken(user: str) -> ScramKeys:
        raise RuntimeError("database locked")

    server = begin("SCRAM-SHA-256", scram_keys=broken)
    assert server is not None
    with pytest.raises(RuntimeError):
        server.step(b"n,,n=anna,r=abc")


def test_mechanisms_only_inside_tls():
    assert mechanisms(tls=False, binding=True) == ()
    assert mechanisms(tls=True, binding=False) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert mechanisms(tls=True, binding=True)[0] == "SCRAM-SHA-256-PLUS"
    assert begin("CRAM-MD5", scram_keys=keys) is None


def test_channel_binding_hashes_the_certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1)).sign(key, hashes.SHA384())
    )  # fmt: skip
    bound = channel_binding(certificate.public_bytes(serialization.Encoding.DER))
    assert bound == ("tls-server-end-point", certificate.fingerprint(hashes.SHA384()))


@given(st.sampled_from(["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]), st.lists(st.binary(max_size=300)))
def test_only_sasl_errors_leave(name, responses):
    server = exchange(name, BINDING)
    try:
        for response in responses:
            if not isinstance(server.step(response), Challenge):
                break
    except SaslError:
        pass


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
def test_scram_with_the_user_s_own_name_as_authorization_identity(name):
    # Cyrus SASL, and with it mbsync, sends one.
    binding = BINDING if name.endswith("PLUS") else None
    client = ScramClient([name], "anna@office.example", "pencil", channel_binding=binding)
    server = exchange(name, binding)
    plain = client.get_client_first()
    flag, _, rest = plain.split(",", 2)
    header = f"{flag},a=anna@office.example,"
    first = server.step((header + rest).encode())
    client.set_server_first(first.data.decode())

    class Header:
        def make_cbind_input(self, cb):
            return header.encode() + (BINDING[1] if binding else b"")

    client.gs2_header = Header()
    final = server.step(client.get_client_final().encode())
    client.set_server_final(final.data.decode())
    assert server.step(b"") == Proven("anna@office.example")
    with pytest.raises(SaslError, match="another user"):
        exchange(name, binding).step((f"{flag},a=boss@office.example," + rest).encode())
