"""Several processes on one folder, and processes that die: the files stay usable, no lesson is lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailguard_spamscore.arrival import digest
from mailguard_spamscore.index import Indexed
from mailguard_spamscore.journal import Arrival, Journal, Lesson
from mailguard_spamscore.judge import Judge
from mailguard_spamscore.model import GLOBAL, HEAD, SLOT, Model, ModelError
from mailguard_spamscore.rehearsal import Kept, pack, unpack
from mailguard_spamscore.rule import load_rules
from mailguard_spamscore.school import School

SPAM = b"From: x@y.example\r\nMessage-ID: <%d@s>\r\nSubject: prize %d\r\n\r\nclaim your prize now, click here %d\r\n"
HAM = b"From: a@b.example\r\nMessage-ID: <%d@h>\r\nSubject: minutes %d\r\n\r\nthe minutes of meeting %d, with roof\r\n"
ANN = "ann@example.org"

TEACHER = """
import sys
from pathlib import Path
from mailguard_spamscore.journal import Journal
from mailguard_spamscore.judge import Judge
from mailguard_spamscore.rule import load_rules
from mailguard_spamscore.school import School
sys.path.insert(0, {tests!r})
folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
SPAM, HAM = {spam!r}, {ham!r}
judge = Judge(folder, load_rules())
school = School(judge, Journal(folder / "journal.db"))
print("ready", flush=True)
for n in range(first, first + count):
    for text, label in ((SPAM, 1), (HAM, 0)):
        school.teach(text % (n, n, n), label, "ann@example.org", 1.0, origin="command")
    print(n, flush=True)
"""


def teacher(folder: Path, first: int, count: int) -> subprocess.Popen[bytes]:
    code = TEACHER.format(tests=str(Path(__file__).parent), spam=SPAM, ham=HAM)
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", code, str(folder), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths})


def score(judge: Judge, text: bytes, n: int = 9999) -> float:
    return judge.judge(judge.look(text % (n, n, n)), ANN).score.total


@pytest.mark.slow
def test_several_processes_learn_and_score_at_once(tmp_path):
    running = [teacher(tmp_path, first, 30) for first in (0, 100, 200)]
    judge = Judge(tmp_path, load_rules())
    while any(process.poll() is None for process in running):
        assert -40 < score(judge, SPAM) < 40
    assert [process.wait(60) for process in running] == [0, 0, 0]
    judge.close()
    judge = Judge(tmp_path, load_rules())  # an old one may believe for a second that there is no model of hers
    model = judge.personal(ANN)
    assert model is not None
    assert (model.ham, model.spam) == (90, 90)  # the lock let none of them count over another
    assert (judge.shared.ham, judge.shared.spam) == (90, 90)
    assert score(judge, SPAM) > 1 > -1 > score(judge, HAM)
    for process in running:
        assert process.stdout is not None
        process.stdout.close()
    judge.close()


@pytest.mark.slow
def test_a_killed_teacher_leaves_files_to_go_on_with(tmp_path):
    for round_ in range(4):
        process = teacher(tmp_path, 1000 * round_, 500)
        assert process.stdout is not None
        for _ in range(3 + 2 * round_):
            process.stdout.readline()
        time.sleep(0.003 * round_)  # somewhere inside a lesson
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
    judge = Judge(tmp_path, load_rules())
    school = School(judge, Journal(tmp_path / "journal.db"))
    assert judge.renewed == []
    left = school.journal.unfinished(2.0)
    assert len(left) <= 4
    school.finish(100.0)
    assert school.journal.unfinished(200.0) == []
    rows = school.journal.all(ANN)
    model = judge.personal(ANN)
    assert model is not None
    assert abs(model.ham + model.spam - len(rows)) <= 4  # a lesson cut short may have been counted already
    assert school.teach(SPAM % (0, 0, 0), 1, ANN, 300.0, origin="command").done == "known"
    assert score(judge, SPAM) > score(judge, HAM)
    school.journal.close()
    judge.close()


def test_a_lesson_cut_short_is_finished(tmp_path):
    judge = Judge(tmp_path, load_rules(), seed=1)
    journal = Journal(tmp_path / "journal.db")
    school = School(judge, journal)
    raw = HAM % (1, 1, 1)
    kept = judge.kept(judge.look(raw), 1)
    journal.begin(
        Lesson(ANN, digest(raw), 1, 10.0, 0.0, 4.0, "move", True, False, pack(kept))
    )  # and then the power went
    before = score(judge, HAM)
    assert school.finish(now=20.0) == 0  # another process may be at it
    assert school.finish(now=100.0) == 1
    assert score(judge, HAM) > before
    assert school.finish(now=200.0) == 0
    journal.close()
    judge.close()


@pytest.mark.parametrize("harm", ["cut short", "other magic", "other features", "empty"])
def test_a_damaged_or_older_model_is_set_aside(tmp_path, harm):
    Model(tmp_path / "global.spam", GLOBAL).close()
    path = tmp_path / "global.spam"
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut short": data[: len(data) // 2],
            "other magic": b"whatever" + data[8:],
            "other features": data[:8] + (99).to_bytes(4, "little") + data[12:],
            "empty": b"",
        }[harm]
    )
    with pytest.raises(ModelError):
        Model(path, GLOBAL)
    judge = Judge(tmp_path, load_rules())
    assert len(judge.renewed) == 1
    assert "global.spam" in judge.renewed[0]
    assert (tmp_path / "global.old").exists()
    assert -40 < score(judge, SPAM) < 40
    judge.close()


def test_garbage_in_the_weights_never_decides(tmp_path):
    judge = Judge(tmp_path, load_rules(), seed=1)
    with (tmp_path / "global.spam").open("r+b") as file:
        file.seek(HEAD)
        file.write(b"\xff" * (GLOBAL.size - HEAD))  # NaN everywhere
    seen = judge.look(HAM % (1, 1, 1))
    found = judge.judge(seen, ANN)
    assert found.score.shared == 0.0
    assert found.word == "ham"
    judge.close()


def test_a_torn_rehearsal_slot_is_passed_over():
    kept = Kept(Indexed([1, 2, 65535], [5], [8, 9], [6, 131071], [7, 65535]), 1, 0.3, 2.5)
    slot = bytearray(pack(kept).ljust(SLOT, b"\0"))
    again = unpack(memoryview(slot))
    assert again is not None
    assert (again.label, round(again.share, 3), again.prior) == (1, 0.3, 2.5)
    assert again.numbers == kept.numbers
    for at in (0, 4, 9, 30, 40):
        torn = bytearray(slot)
        torn[at] ^= 0x55
        assert unpack(memoryview(torn)) is None
    assert unpack(memoryview(bytes(SLOT))) is None


def test_what_does_not_fit_a_slot_is_thinned_out():
    many = list(range(4000))
    slot = pack(Kept(Indexed(many, many, many, many, many), 0))
    assert len(slot) <= SLOT
    again = unpack(memoryview(slot))
    assert again is not None
    assert again.numbers.words[1] == again.numbers.grams[1] > 1


def test_an_arrival_goes_to_one_process_only(tmp_path):
    first, second = Journal(tmp_path / "j.db"), Journal(tmp_path / "j.db")
    first.arrived(Arrival(ANN, f"d{n}", float(n), 0.0, False, b"x") for n in range(10))
    mine = first.claim_older(100.0, 6)
    theirs = second.claim_older(100.0, 6)
    assert sorted(a.digest for a in mine + theirs) == [f"d{n}" for n in range(10)]
    assert second.claim(ANN, "d1") is None
    first.close()
    second.close()
