"""The life of the server: ready, workers that die, reloads good and bad, the end; and starts that must fail clearly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    server = installed.Installed(tmp_path / "office", settings=["workers=2"])
    yield server
    server.close()


def test_ready_replaces_the_dead_reloads_and_drains(server: Any) -> None:
    server.start()
    told = [line for line in server.log if "runs the queue and the housekeeping" in line]
    elected = told[0] if told else server.wait_for("runs the queue and the housekeeping")
    first = int(elected.rpartition("pid=")[2])
    second = next(pid for pid in server.workers() if pid != first)
    os.kill(first, signal.SIGKILL)
    server.wait_for_each(
        f"a worker died and is replaced pid={first} cause=SIGKILL",
        "runs the queue and the housekeeping",  # another one took the lock over
    )
    until = time.monotonic() + 10
    while len(server.workers()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    server.signal(signal.SIGHUP)
    server.wait_for("reloaded pid=")
    server.wait_for("reloaded pid=")
    policy = server.folder / "policy.toml"
    good = policy.read_text()
    row = good[: good.index('plugin = "dkim"')].count("\n") + 1
    policy.write_text(good.replace('plugin = "dkim"', 'plugin = "dkin"'))
    server.signal(signal.SIGHUP)
    line = server.wait_for("reload refused, the old configuration stays")
    told = 'check.1.plugin: there is no plugin \\"dkin\\" (did you mean \\"dkim\\"?)'
    assert f"policy.toml:{row}:11: {told}" in line
    assert second in server.workers() and len(server.workers()) == 2
    assert server.stop() == 0
    server.wait_for("stopped")


def test_a_worker_is_replaced_by_the_configuration_in_force_while_the_files_are_broken(server: Any) -> None:
    server.start()
    (server.folder / "policy.toml").write_text("[policy\n")
    server.config.write_text("hostname = ")
    first = server.workers()[0]
    os.kill(first, signal.SIGKILL)
    server.wait_for(f"a worker died and is replaced pid={first}")
    until = time.monotonic() + 10
    while len(server.workers()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert first not in server.workers() and len(server.workers()) == 2
    with socket.create_connection(("127.0.0.1", server.port(25)), 5) as sock:
        assert sock.recv(100).startswith(b"220 mail.office.test")
    assert server.stop() == 0


def cpus_of(pid: int) -> set[int]:
    """The one CPU of each of a worker's threads that keeps to one."""
    found: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            kept = os.sched_getaffinity(int(thread.name))
            found |= kept if len(kept) == 1 else set()
    return found


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU only")
def test_each_worker_keeps_to_a_cpu_and_its_successor_to_the_same(tmp_path: Path) -> None:
    cpus = os.sched_getaffinity(0)
    server = installed.Installed(tmp_path / "office", settings=[f"workers={len(cpus)}"])
    server.start()
    first = server.workers()[0]
    kept = cpus_of(first)
    assert len(kept) == 1
    os.kill(first, signal.SIGKILL)
    server.wait_for(f"a worker died and is replaced pid={first}")
    until = time.monotonic() + 20
    places: list[set[int]] = []
    while not (len(places) == len(cpus) and all(places)) and time.monotonic() < until:
        places = [cpus_of(pid) for pid in server.workers()]
        time.sleep(0.05)
    assert len(places) == len(cpus) and set().union(*places) == cpus
    # The configuration is read anew by a thread that still sees all CPUs.
    assert all(os.sched_getaffinity(pid) == cpus for pid in server.workers())
    server.close()


def test_workers_do_not_outlive_their_supervisor(server: Any) -> None:
    server.start()
    workers = server.workers()
    server.signal(signal.SIGKILL)
    server.process.wait(10)
    until = time.monotonic() + 15
    while any(Path(f"/proc/{pid}/exe").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in workers)


def test_accounts_added_to_a_running_server_are_taken_in(server: Any) -> None:
    server.start()
    done = server.run("user", "add", "new@office.test", "--generate")
    assert "password: " in done.stdout and "no server" not in done.stdout
    server.wait_for("reloaded pid=")
    assert "new@office.test" in server.run("user", "list", "--json").stdout


def fails(server: Any, code: int) -> list[str]:
    command = [sys.executable, "-m", "mailguard", "serve", "-c", str(server.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "ready" not in done.stdout
    return [line for line in done.stderr.splitlines() if line.startswith("mailguard: ")]


def test_a_typo_in_the_policy(server: Any) -> None:
    policy = server.folder / "policy.toml"
    policy.write_text(policy.read_text().replace("[score]", "[skore]"))
    (line,) = fails(server, 2)
    assert "policy.toml:" in line and '(did you mean "score"?)' in line


def test_a_port_in_use(server: Any) -> None:
    with socket.create_server(("0.0.0.0", server.port(587))):
        (line,) = fails(server, 1)
    assert f"cannot listen on 0.0.0.0:{server.port(587)} (submission): Address already in use" in line


def test_a_certificate_missing(server: Any) -> None:
    (server.folder / "tls/certificate.pem").unlink()
    (line,) = fails(server, 2)
    assert "tls/certificate.pem: No such file or directory; `mailguard init` makes a self-signed one" in line


def test_a_data_folder_that_is_a_file(server: Any) -> None:
    (server.folder / "data").write_text("")
    (line,) = fails(server, 1)
    assert "data: the data folder cannot be made" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_data_folder_not_writable(server: Any) -> None:
    (server.folder / "data").mkdir(mode=0o755)
    config = server.config
    config.write_text(config.read_text().replace('# user = "mailguard"', 'user = "nobody"'))
    server.folder.chmod(0o755)
    (line,) = fails(server, 1)
    assert "the data folder is not writable: Permission denied; `chown` it to user nobody" in line


def test_a_second_server_on_the_same_data(server: Any) -> None:
    server.start()
    config = server.config
    config.write_text(config.read_text().replace("port = ", "port = 1 #"))
    command = [sys.executable, "-m", "mailguard", "serve", "-c", str(config), "--set", "listener=[]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"another server (process {server.process.pid}) has this data folder" in done.stderr


def test_the_service_manager_hears_that_it_is_ready_and_that_it_stops(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(15)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        server.start()
        assert manager.recv(500) == b"READY=1\nMAINPID=%d" % server.process.pid
        server.signal(signal.SIGHUP)
        assert manager.recv(500).startswith(b"RELOADING=1\n") and manager.recv(500) == b"READY=1"
        assert server.stop() == 0
        assert manager.recv(500) == b"STOPPING=1"


def test_dead_dns_is_one_clear_line(tmp_path: Path) -> None:
    server = installed.Installed(tmp_path / "office", settings=['dns.nameservers=["127.0.0.1:1"]', "dns.timeout=0.5"])
    try:
        server.start()
        line = server.wait_for("the DNS does not answer")
        assert "nameservers=127.0.0.1:1" in line and f"`[dns] nameservers` in {server.config}" in line
    finally:
        server.close()


def test_settings_of_the_command_line_hold_for_one_run(server: Any) -> None:
    command = [sys.executable, "-m", "mailguard", "serve", "-c", str(server.config), "--set"]
    done = subprocess.run([*command, "workers=65"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mailguard: ")]
    assert line.startswith("mailguard: --set: workers: ") and "64" in line
    done = subprocess.run([*command, "listner=1"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and '(did you mean "listener"?)' in done.stderr
    assert "workers = 2" in server.config.read_text()  # what `init --set` wrote
