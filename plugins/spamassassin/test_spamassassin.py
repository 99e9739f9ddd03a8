"""The spamassassin check, against a real spamd with two rules of our own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailguard_spamassassin
from mailguard.plugin import Finding, Moved
from mailguard.testing import Harness, Program, free_port, make_message, make_session, need, run_check

RULES = r"""
util_rb_tld com net example
required_score 5
report_safe 0
use_bayes 1
bayes_path {folder}/bayes
bayes_auto_learn 0
clear_report_template
report _SUMMARY_
body T_PILLS /cheap pills/
describe T_PILLS Sells pills
score T_PILLS 7.5
header T_CLIENT X-Spam-Relays-Untrusted =~ / ip=192\.0\.2\.1 /
describe T_CLIENT Came from the client we told it of
score T_CLIENT -0.5
"""


@pytest.fixture(scope="module")
def spamd() -> Iterator[Program]:
    program = need("spamd")
    with tempfile.TemporaryDirectory(prefix="mailguard-spamd-") as name:
        folder = Path(name)
        folder.chmod(0o777)  # spamd gives up root, and then must read its rules
        with started(program, folder) as running:
            yield running


def started(program: str, folder: Path) -> Program:
    for name in ("rules", "site"):
        (folder / name).mkdir()
    (folder / "rules" / "test.cf").write_text(RULES.format(folder=folder))
    (folder / "site" / "init.pre").write_text(
        "".join(f"loadplugin Mail::SpamAssassin::Plugin::{name}\n" for name in ("Check", "Bayes"))
    )
    port = free_port()
    command = [program, "-L", "-x", "--allow-tell", "--max-children=1", f"--listen=127.0.0.1:{port}",
               f"--configpath={folder / 'rules'}", f"--siteconfigpath={folder / 'site'}", "-r", str(folder / "pid"),
               "--syslog=stderr", "--helper-home-dir", "-H", str(folder)]  # fmt: skip
    return Program(command, f"127.0.0.1:{port}", folder=folder)


def check(place: str, body: str, **options: object) -> Finding:
    session = make_session("192.0.2.1", ptr="mail.example.net")
    finding = run_check(
        mailguard_spamassassin, session=session, message=make_message(body), options={"address": place, **options}
    )
    assert finding is not None
    return finding


@pytest.mark.e2e
def test_real_spamd(spamd: Program) -> None:
    ham = check(spamd.place, "Hello\n")
    assert (ham.word, ham.facts["limit"]) == ("ham", 5.0)
    spam = check(spamd.place, "Buy cheap pills\n", share=0.5)
    assert (spam.word, spam.points) == ("spam", 3.5)
    assert spam.facts["rules"] == {"T_PILLS": 7.5, "T_CLIENT": -0.5}
    assert spam.reasons[0] == (7.5, "T_PILLS BODY: Sells pills")


@pytest.mark.e2e
def test_real_spamd_learns(spamd: Program, tmp_path: Path) -> None:
    path = tmp_path / "mail"
    path.write_bytes(bytes(make_message("Some words to remember for long\n")))
    with Harness(mailguard_spamassassin, options={"address": spamd.place, "learn": True}) as harness:
        harness.observe(Moved(1.0, "M", "ann@example.org", "INBOX", "Junk", str(path)))
        harness.observe(Moved(1.0, "M", "ann@example.org", "INBOX", "Archive", "/nowhere"))


def test_nobody_is_there() -> None:
    with pytest.raises(OSError):
        check(f"127.0.0.1:{free_port()}", "Hello\n")


def test_large_messages_are_not_sent() -> None:
    assert run_check(mailguard_spamassassin, options={"max_size": 10}) is None


def test_a_wrong_address_is_told() -> None:
    with pytest.raises(ValueError, match="neither host:port nor"):
        run_check(mailguard_spamassassin, options={"address": "spamd"})
