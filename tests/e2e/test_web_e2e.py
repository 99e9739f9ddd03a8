"""Set-up requests to a running server, over HTTP and HTTPS, before and after a reload."""

from __future__ import annotations

import json
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from mailguard.net.selfsigned import make_self_signed

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

_spec = spec_from_file_location("installed_web", Path(__file__).with_name("installed.py"))
assert _spec is not None and _spec.loader is not None
installed = module_from_spec(_spec)
_spec.loader.exec_module(installed)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = installed.Installed(tmp_path_factory.mktemp("web") / "m", settings=['dns.nameservers=["127.0.0.1:9"]'])
    made.add_users()
    made.start()
    yield made
    assert made.stop() == 0


def get(server: Any, path: str, host: str, *, https: bool = True) -> tuple[int, bytes]:
    scheme, port = ("https", server.port(443)) if https else ("http", server.port(80))
    context = ssl.create_default_context(cafile=str(server.folder / "tls/certificate.pem"))
    context.check_hostname = False
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, context=context if https else None, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_set_up_names_the_ports_that_are_served(server: Any) -> None:
    for https in (True, False):
        status, body = get(server, "/mail/config-v1.1.xml", "autoconfig.office.test", https=https)
        assert status == 200
        assert f"<port>{server.port(993)}</port>".encode() in body
    assert get(server, "/healthz", "x") == (200, b"ok\n")
    assert get(server, "/mail/config-v1.1.xml", "autoconfig.elsewhere.test") == (404, b"")


def test_a_new_domain_is_known_after_a_reload(server: Any) -> None:
    assert get(server, "/mail/config-v1.1.xml", "new.test")[0] == 404
    accounts = server.folder / "accounts.toml"
    accounts.write_text(accounts.read_text() + '\n[[domain]]\nname = "new.test"\n')
    server.signal(signal.SIGHUP)
    for _ in server.workers():
        server.wait_for("reloaded")
    assert get(server, "/mail/config-v1.1.xml", "new.test")[0] == 200


def test_a_certificate_replaced_after_that_reload_is_shown(server: Any) -> None:
    folder = server.folder / "tls"
    make_self_signed(["autoconfig.new.test"], folder / "certificate.pem", folder / "key.pem")
    for _ in server.workers():
        server.wait_for("certificates reloaded")
    assert get(server, "/healthz", "new.test")[0] == 200  # trusts the new one alone


def test_dns_show(server: Any) -> None:
    done = server.run("dns", "show", "office.test", "--format", "json", "--address", "192.0.2.1")
    assert any(r["data"].endswith(f"{server.port(993)} mail.office.test") for r in json.loads(done.stdout))
