"""The same Maildir and the same commands, Dovecot beside mailguard: equal answers, or a reason for each difference."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("dovecot", path="/usr/sbin:/usr/bin") is None, reason="dovecot is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot wants root to start"),
]


def _load(name: str) -> Any:
    spec = spec_from_file_location(name, Path(__file__).parents[1] / "server" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


imapoffice, imapscript = _load("imapoffice"), _load("imapscript")
Messages = list[tuple[str, bytes]]

EQUAL = (
    "FETCH 1:* RFC822.SIZE", "FETCH 1:* INTERNALDATE", "FETCH 1:* BODY.PEEK[]", "FETCH 1:* BODY.PEEK[HEADER]",
    "FETCH 1:* BODY.PEEK[TEXT]", "FETCH 1:* BODY.PEEK[TEXT]<10.100>", "SEARCH SUBJECT test", "SEARCH FROM example",
    "SEARCH TO example", "SEARCH CC a", "SEARCH TEXT example", "SEARCH HEADER Message-ID @",
    "SEARCH HEADER Received from", 'SEARCH HEADER X-Mailer ""', "SEARCH SENTON 24-Mar-2007", "SEARCH SINCE 20-Nov-2023",
    "SEARCH LARGER 2000", "SEARCH SMALLER 300", "SEARCH UNSEEN 1:50", "SEARCH NOT TEXT e", "SORT (SUBJECT) UTF-8 ALL",
    "SORT (SIZE REVERSE ARRIVAL) UTF-8 ALL",
)  # fmt: skip

CORPUS_EQUAL = (
    *(item for item in EQUAL if item.startswith("FETCH")),
    "FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT FROM RECEIVED X-MAILER)]", "SEARCH SUBJECT linux", "SEARCH FROM yahoo",
    "SEARCH TO list", "SEARCH CC com", "SEARCH HEADER X-Mailer outlook", 'SEARCH HEADER List-Id ""',
    "SEARCH HEADER Content-Type multipart", "SEARCH OR SUBJECT spam FROM spam", "SEARCH SENTON 22-Aug-2002",
    "SEARCH LARGER 5000", "SEARCH UNSEEN", "SORT (CC) UTF-8 ALL", "SORT (SIZE) UTF-8 ALL", "SORT (ARRIVAL) UTF-8 ALL",
)  # fmt: skip

SPACES = "white space at the ends and inside of a field is kept (RFC 5322 §2.2.3 unfolds only); Dovecot collapses it"
TWICE = "of a field that stands twice against RFC 5322 §3.6 we show the first, Dovecot the last"
SYNTAX = "an address list against RFC 5322 §3.4, read in different ways"
ENVELOPES = {
    "bad_date_header.eml": SPACES, "bad_subject.eml": SPACES, "example14.eml": SPACES, "sort-subject.mbox#4": SPACES,
    "thread-orderedsubject.mbox#4": SPACES, "nice.mbox#0": SPACES, "raw_email_with_binary_encoded.eml": TWICE,
    "raw_email_with_multipart_mixed_quoted_boundary.eml": TWICE, "noneko.eml": TWICE, "quarko.eml": TWICE,
    "rejectko.eml": TWICE, "missing_body.eml": SYNTAX, "weird_to_header.eml": SYNTAX,
    "mix_caps_content_type.eml": SYNTAX, "raw_email_multiple_from.eml": SYNTAX,
    "raw_email_with_at_display_name.eml": SYNTAX, "example11.eml": SYNTAX, "example13.eml": SYNTAX,
    "search-addresses.mbox#2": "the comment behind an address is its name (RFC 5322 §3.4, obsolete form)",
}  # fmt: skip


@pytest.fixture(scope="module")
def messages() -> Messages:
    shared = Path(os.environ.get("MAILGUARD_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "testdata"
    if not shared.is_dir():
        pytest.skip("no third-party test data (set MAILGUARD_SHARED)")
    found: Messages = []
    for path in sorted(shared.rglob("*.eml")):
        found.append((path.name, path.read_bytes().replace(b"\r\n", b"\n")))
    for path in sorted(shared.rglob("*.mbox")):
        mails = imapscript._messages(path.read_bytes())
        found += [(f"{path.name}#{n}", mail.replace(b"\r\n", b"\n")) for n, (mail, _) in enumerate(mails)]
    return found


def fill(root: Path, messages: Messages) -> None:
    for folder in ("cur", "new", "tmp"):
        (root / folder).mkdir(parents=True)
    for n, (_, data) in enumerate(messages):
        at = 1_700_000_000 + 3600 * n
        path = root / "cur" / f"{at}.M{n:06d}P1.host,S={len(data)}:2,{'S' if n % 3 else ''}"
        path.write_bytes(data)
        os.utime(path, (at, at))


CONFIG = """
protocols = imap
base_dir = {0}/run
state_dir = {0}/run
log_path = {0}/log
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{0}/mail
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={0} allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  inet_listener imap {{
    port = {1}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


@pytest.fixture(scope="module")
def both(messages: Messages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    with beside(messages, tmp_path_factory) as pair:
        yield pair


@pytest.fixture(scope="module")
def corpus() -> Messages:
    """Eleven thousand messages of lists, offices and spammers."""
    shared = Path(os.environ.get("MAILGUARD_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    path = shared / "corpus" / "mail-open.tar.xz"
    if not path.exists():
        pytest.skip("no corpus (set MAILGUARD_SHARED)")
    found: Messages = []
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and "/msg/" in member.name and (file := archive.extractfile(member)):
                found.append((member.name, file.read().replace(b"\r\n", b"\n")))
    return sorted(found)


@pytest.fixture(scope="module")
def both_corpus(corpus: Messages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    with beside(corpus, tmp_path_factory) as pair:
        yield pair


@contextlib.contextmanager
def beside(messages: Messages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Our client and Dovecot's, with the mailbox selected."""
    with contextlib.ExitStack() as stack:
        ours = tmp_path_factory.mktemp("ours")
        fill(ours / "mail", messages)
        office = imapoffice.Office(ours, stack)
        theirs = (
            Path("/tmp") / f"dovecot-{os.getpid()}-{len(messages)}"
        )  # Dovecot's sockets need a short path that all may enter
        theirs.mkdir(mode=0o755)
        stack.callback(shutil.rmtree, theirs, ignore_errors=True)
        fill(theirs / "mail", messages)
        for path in (theirs, theirs / "mail", *(theirs / "mail").rglob("*")):
            shutil.chown(path, "nobody", "nogroup")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (theirs / "conf").write_text(CONFIG.format(theirs, port))
        dovecot = ["/usr/sbin/dovecot", "-F", "-c", str(theirs / "conf")]
        process = subprocess.Popen(dovecot)
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        deadline = time.monotonic() + 20
        while True:
            try:
                client = stack.enter_context(imapoffice.Bare(port))
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None, (theirs / "log").read_text()
                time.sleep(0.1)
        client.ok("LOGIN u secret")
        mine = stack.enter_context(office.bare())
        for each in (mine, client):
            each.ok("SELECT INBOX")
        yield mine, client


def answers(client: Any, command: str) -> dict[bytes, Any]:
    """Untagged answers by their number or word, as trees."""
    found = {}
    for line in client.command(command)[0]:
        if match := re.match(rb"\* (\d+ FETCH|SEARCH|SORT|THREAD)", line):
            found[match[1].split()[0]] = lowered(imapscript.parse(line))
    return found


def lowered(tree: Any) -> Any:
    if isinstance(tree, list):
        return [lowered(each) for each in tree]
    return tree.lower() if len(tree) < 40 else tree


@pytest.mark.parametrize("command", EQUAL)
def test_equal(both: tuple[Any, Any], messages: Messages, command: str) -> None:
    mine, theirs = (answers(client, command) for client in both)
    different = [key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)]
    assert [(key, mine.get(key), theirs.get(key)) for key in different[:2]] == []


def test_envelopes_differ_with_reasons_only(both: tuple[Any, Any], messages: Messages) -> None:
    mine, theirs = (answers(client, "FETCH 1:* ENVELOPE") for client in both)
    different = {messages[int(key) - 1][0] for key in theirs if mine.get(key) != theirs[key]}
    assert different - ENVELOPES.keys() == set()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", CORPUS_EQUAL)
def test_equal_on_the_corpus(both_corpus: tuple[Any, Any], command: str) -> None:
    mine, theirs = (answers(client, command) for client in both_corpus)
    assert [key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)] == []
