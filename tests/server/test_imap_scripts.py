"""The scripted tests of imaptest, run against the server over loopback."""

from __future__ import annotations

import contextlib
from pathlib import Path

import imapoffice
import imapscript
import pytest

# append-binary is left out: how long its literal is depends on line ends that the file does not tell; with our reading
# of it Dovecot answers as we do.
WORDS = """
append atoms catenate catenate-multiappend close copy esearch esearch-condstore esort expunge expunge2
fetch fetch-binary-mime fetch-binary-mime-base64 fetch-binary-mime-qp fetch-body fetch-body-message-rfc822
fetch-body-message-rfc822-mime fetch-body-message-rfc822-x2 fetch-body-mime fetch-bodystructure fetch-envelope id list
listext logout move multiappend mutf7 nil notify pipeline pipeline-connections search-addresses search-body
search-context-update search-context-update2 search-context-update3 search-date search-flags search-header
search-partial search-sets search-size select sort-addresses sort-arrival sort-date sort-display-from sort-display-to
sort-partial sort-size sort-subject store subscribe thread thread-orderedsubject thread-orderedsubject2 thread2
thread3 thread4 thread5 thread6 thread7 thread8 uidplus uidvalidity uidvalidity-rename urlauth urlauth-binary urlauth2
"""
GROUPS = WORDS.split()


@pytest.mark.parametrize("group", GROUPS)
def test_scripted(group: str, shared: Path, tmp_path: Path) -> None:
    script = imapscript.load(shared / "testdata/imaptest/tests" / group)
    with contextlib.ExitStack() as stack:
        office = imapoffice.Office(tmp_path, stack)
        runner = imapscript.Runner(script, lambda sign_in: office.bare(sign_in=sign_in))
        stack.callback(runner.close)
        with office.bare() as probe:
            (line,) = probe.ok("CAPABILITY")
        missing = set(runner.capabilities()) - set(line.decode().upper().split())
        missing -= {"CONTEXT=SORT"}  # sort-partial wants no more of it than PARTIAL
        if missing:
            pytest.skip(f"not offered: {', '.join(sorted(missing))}")
        runner.run()
