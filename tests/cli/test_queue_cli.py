"""``mailguard queue`` as an operator types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mailguard.cli.queue import queue
from mailguard.delivery.queue import Queue
from mailguard.delivery.queue_entry import Settlement
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings


@pytest.fixture
def office(tmp_path: Path) -> Any:
    (tmp_path / "mailguard.toml").write_text('hostname = "mail.office.test"\ndata_dir = "data"\n')
    data = tmp_path / "data"
    data.mkdir()
    database = Database(StateSettings(), data)
    metadata.create_all(database.engine)
    store = Queue(database, data / "queue")
    for n, to in enumerate(("u@x.test", "v@y.test")):
        envelope = Envelope(f"m{n}", Address.parse("a@office.test"))
        store.put(envelope, Message(b"Subject: hi\r\n\r\nbody\r\n"), [Recipient(Address.parse(to))])
    (work,) = store.claim("x.test", limit=1, lease_seconds=900)
    later = Reply.of(421, "4.3.2", "too busy")
    store.settle([Settlement("m0", work.recipients[0].row, later, 1.0, 9e9, host="mx.x.test[192.0.2.1]:25")])
    yield tmp_path
    database.close()


def run(office: Path, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(queue, ["-c", str(office / "mailguard.toml"), *words], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.output


def ids(office: Path, *words: str) -> list[str]:
    return [json.loads(line)["id"] for line in run(office, "list", "--json", *words).splitlines()]


def test_list_and_filters(office: Path) -> None:
    assert "421 4.3.2 too busy" in run(office, "list")
    assert ids(office) == ["m0", "m1"]
    assert ids(office, "--to", "y.test") == ["m1"]
    assert ids(office, "--to", "u@x.test", "--from", "office.test") == ["m0"]
    assert ids(office, "--from", "<>") == []
    assert ids(office, "--older-than", "1h") == []


def test_a_long_list_comes_in_tables_of_a_hundred(office: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailguard.cli.queue_print._ROWS", 1)
    lines = run(office, "list").splitlines()
    assert [line.split()[0] for line in lines] == ["id", "m0", "id", "m1"]


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_the_list_ends_in_silence_when_nobody_reads_on(office: Path, more: tuple[str, ...]) -> None:
    database = Database(StateSettings(), office / "data")
    store = Queue(database, office / "data/queue")
    message, to = Message(b"Subject: hi\r\n\r\n"), [Recipient(Address("u", f"d{n}.test")) for n in range(3000)]
    with database.write() as connection:  # more than a pipe holds
        store.insert_rows(connection, [store.prepare(Envelope("m2", Address.parse("a@office.test")), message, to)])
    database.close()
    words = [sys.executable, "-m", "mailguard", "queue", "-c", str(office / "mailguard.toml"), "list", *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert "m0" in process.stdout.readline() + process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


def test_why_speaks_in_sentences(office: Path) -> None:
    told = run(office, "why", "m0")
    assert "tried once" in told and "421 4.3.2 too busy (from mx.x.test[192.0.2.1]:25)" in told
    assert "next attempt is due in" in told
    assert "nothing in the queue" in run(office, "why", "m9", code=1)


def test_hold_release_reroute_drop(office: Path) -> None:
    assert "1 recipient" in run(office, "hold", "m1", "--reason", "looks odd")
    assert ids(office, "--held") == ["m1"]
    assert "looks odd" in run(office, "why", "m1")
    assert "1 recipient" in run(office, "release", "--all")
    assert "1 recipient" in run(office, "reroute", "m1", "--via", "[192.0.2.9]:2525")
    assert ids(office, "--destination", "[192.0.2.9]:2525") == ["m1"]
    assert "neither a domain" in run(office, "reroute", "m1", "--via", "a b", code=2)
    assert "1 recipient" in run(office, "retry", "m0")
    assert "2 recipients" in run(office, "drop", "--all")
    assert ids(office) == [] and not list((office / "data/queue").glob("*.eml"))
    assert "empty" in run(office, "list")


def test_a_change_needs_to_know_which(office: Path) -> None:
    assert "an ID, a filter, or --all" in run(office, "drop", code=2)


def test_destinations_and_show(office: Path) -> None:
    told = run(office, "destinations")
    assert "x.test" in told and "421 4.3.2 too busy mx.x.test" in told
    assert json.loads(run(office, "destinations", "--json").splitlines()[0])["waiting"] == 1
    assert "Subject: hi" in run(office, "show", "m1", "--body")
    assert "body" in run(office, "show", "m1", "--body")


def test_no_queue_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mailguard.toml").write_text('hostname = "mail.office.test"\n')
    assert "has the server run yet" in run(tmp_path, "list", code=1)


def test_a_mistake_in_the_configuration_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mailguard.toml").write_text('hostname = "mail.office.test"\n[queue]\nfirst_retri = 5\n')
    told = run(tmp_path, "list", code=2)
    assert "mailguard.toml:3:1: queue.first_retri" in told and 'did you mean "first_retry"?' in told


def test_the_configuration_may_be_named_behind_the_command(office: Path) -> None:
    result = CliRunner().invoke(queue, ["list", "--json", "-c", str(office / "mailguard.toml")])
    assert result.exit_code == 0 and len(result.output.splitlines()) == 2


@pytest.mark.parametrize("name", sorted(queue.commands))
def test_help_needs_no_configuration(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ([name, "--help"], ["-c", "none.toml", name, "--help"]):
        result = CliRunner().invoke(queue, words)
        assert result.exit_code == 0 and "Usage:" in result.output
