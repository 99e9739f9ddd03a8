"""Lessons: exact, bounded in what they do to others, and the line they lead to."""

from __future__ import annotations

import pytest

from mailguard_spamscore.calibration import COLD_LINE, PROVEN_LINE, SEEN_LINE, TAUGHT_LINE, floor, line, note, tail
from mailguard_spamscore.journal import Journal
from mailguard_spamscore.judge import Judge
from mailguard_spamscore.learner import STRANGER_SHARE
from mailguard_spamscore.model import BINS, GLOBAL, PERSONAL, Model
from mailguard_spamscore.prior import begin_with, train_prior
from mailguard_spamscore.rule import RuleError, load_rules
from mailguard_spamscore.school import HEAD_START, MOST_SHARED_A_DAY, School

INVOICE = (
    b"From: Billing <billing@supplier%d.example>\r\nTo: ann@example.org\r\nSubject: Invoice 2024-%d\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <%d@supplier.example>\r\n\r\n"
    b"Please find attached invoice 2024-%d over 1,240.00 EUR, due in 30 days. Thank you for your order.\r\n"
)
SPAM = (
    b"From: Winner <x%d@lucky.example>\r\nTo: ann@example.org\r\nSubject: Your prize %d\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <%d@lucky.example>\r\n\r\n"
    b"You were drawn as number %d, reply with your bank details to receive the parcel.\r\n"
)
ANN, BOB, MALLORY = "ann@example.org", "bob@example.org", "mallory@example.org"


def invoice(n: int) -> bytes:
    return INVOICE % (n % 7, n, n, n)


def spam(n: int) -> bytes:
    return SPAM % (n, n, n, n)


@pytest.fixture
def school(tmp_path):
    judge = Judge(tmp_path, load_rules(), seed=1)
    journal = Journal(tmp_path / "journal.db")
    yield School(judge, journal)
    journal.close()
    judge.close()


def points(school: School, raw: bytes, account: str) -> float:
    return school.judge.judge(school.judge.look(raw), account).points


def test_one_accounts_poison_does_not_junk_the_others_mail(school):
    """The bound: lies without end about invoices reach the model of all only as far as others have taught it, and an
    account that has taught nothing is never junked by what others taught alone."""
    for n in range(60):
        school.teach(spam(n), 1, ANN, 0.0, origin="move")
        school.teach(invoice(n), 0, ANN, float(n) * 9000, origin="move")
    fresh = invoice(5000)
    assert points(school, fresh, ANN) < 0
    for n in range(1000, 1600):
        school.teach(invoice(n), 1, MALLORY, 1e6 + n * 9000.0, origin="move")
    assert points(school, fresh, ANN) < 6
    assert points(school, fresh, BOB) < 6  # who has taught nothing
    assert points(school, fresh, MALLORY) >= 6  # the liar gets what was asked for
    _, ever, others = school.journal.shared(MALLORY, 0.0)
    assert ever <= HEAD_START + others


def test_lessons_beyond_the_allowance_stay_with_the_account(school):
    for n in range(MOST_SHARED_A_DAY):
        school.teach(spam(n), 1, ANN, 999.0, origin="move")
    before = school.judge.shared.spam
    school.teach(spam(1000), 1, ANN, 1000.0, origin="move")
    assert school.judge.shared.spam == before == MOST_SHARED_A_DAY
    assert school.judge.personal(ANN).spam == before + 1
    school.teach(spam(1001), 1, ANN, 1000.0, origin="command")  # the administrator's word
    assert school.judge.shared.spam == before + 1


def test_a_correction_undoes_and_nothing_is_taught_twice(school):
    for n in range(20):
        school.teach(spam(n), 1, ANN, 0.0, origin="move")
        school.teach(invoice(n), 0, ANN, 0.0, origin="move")
    wrong = invoice(100)
    before = points(school, wrong, ANN)
    assert school.teach(wrong, 1, ANN, 1.0, origin="move").done == "learnt"
    assert school.teach(wrong, 1, ANN, 2.0, origin="flag").done == "known"
    outcome = school.teach(wrong, 0, ANN, 3.0, origin="move")
    assert outcome.done == "corrected"
    assert outcome.after < 1
    assert abs(points(school, wrong, ANN) - before) < 6
    model = school.judge.personal(ANN)
    assert model is not None
    assert (model.ham, model.spam) == (21, 20)


def test_undo_of_what_was_never_taught(school):
    assert school.undo(spam(1), 1, ANN).done == "unknown"
    school.teach(spam(1), 1, ANN, 0.0, origin="command")
    assert school.undo(spam(1), 0, ANN).done == "unknown"
    assert school.undo(spam(1), 1, ANN).done == "undone"
    assert school.teach(spam(1), 1, ANN, 1.0, origin="command").done == "learnt"


def test_what_others_taught_never_junks_a_newcomers_mail_alone(school):
    """However low the line of a proven office lies: without a rule that agrees, their word is not enough."""
    for n in range(60):
        school.teach(spam(n), 1, ANN, 0.0, origin="command")
        school.teach(invoice(n), 0, ANN, 0.0, origin="command")
    shared = school.judge.shared
    shared.counts[0] = shared.counts[3] = 10_000  # so many wanted messages came and stood
    seen = school.judge.look(spam(1000))
    judged = school.judge.judge(seen, BOB)
    assert judged.line.at == pytest.approx(PROVEN_LINE)
    assert judged.score.shared < PROVEN_LINE
    assert judged.score.shared == pytest.approx(STRANGER_SHARE * PROVEN_LINE, abs=0.1)  # and yet much was taught


def test_files_stay_within_their_size():
    assert GLOBAL.size <= 12_000_000
    assert PERSONAL.size <= 3_000_000


def test_the_floor_comes_down_in_steps():
    assert floor(0, 0, 0) == COLD_LINE
    assert floor(10_000, 0, 10_000) == COLD_LINE
    assert floor(0, 30, 0) == pytest.approx(SEEN_LINE)
    assert floor(10_000, 10_000, 0) == pytest.approx(TAUGHT_LINE)
    assert floor(10_000, 10_000, 10_000) == pytest.approx(PROVEN_LINE)
    assert floor(-1, -1, -1) == COLD_LINE


def test_the_line_rises_with_the_scores_of_local_ham(tmp_path):
    model = Model(tmp_path / "ann.spam", PERSONAL)
    model.counts[0], model.counts[1] = 1000, 1000
    with model.writing():
        for n in range(1000):
            note(model, -4.0 if n % 50 else 3.5, 0)
    at = line(model, model).at
    assert 3.5 < at < 9.0
    assert line(model, model).points(at) == pytest.approx(6.0)
    model.close()


def test_a_tail_of_a_handful_says_nothing():
    bins = [0.0] * BINS
    bins[40] = 100.0
    bins[90] = 1.0
    assert tail(bins) == -16.0
    assert tail([0.0] * BINS) == -16.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[signal.url_ip]\nweight = 'much'\n", "signal.url_ip needs a weight"),
        ("[signal.url_ip]\nweight = 1000\n", "signal.url_ip needs a weight between -100 and 100"),
        ("[text.mine]\n'buy this' = 'x'\n", "text.mine: 'buy this' needs a weight"),
        ("[signal\n", "own.toml"),
    ],
)
def test_a_wrong_table_names_its_entry(tmp_path, text, says):
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(RuleError, match=says):
        load_rules(file)


def test_an_offices_own_table_replaces_and_adds(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text("[signal.url_ip]\nweight = 0\n[text.ours]\n'secret project' = -3.0\n")
    own, shipped = load_rules(file), load_rules()
    assert shipped.signals["url_ip"][0] > 0 == own.signals["url_ip"][0]
    assert own.signals["url_ip"][1] == shipped.signals["url_ip"][1]
    assert [r.weight for r in own.said([b"the", b"secret", b"project"])] == [-3.0]


def test_a_prior_is_reproducible_and_begun_with_once(tmp_path):
    mail = [(spam(n), 1) for n in range(30)] + [(invoice(n), 0) for n in range(30)]
    assert train_prior(mail, tmp_path / "a.spam") == (30, 30)
    train_prior(mail, tmp_path / "b.spam")
    assert (tmp_path / "a.spam").read_bytes() == (tmp_path / "b.spam").read_bytes()
    office = tmp_path / "office"
    office.mkdir()
    assert begin_with(tmp_path / "a.spam", office)
    assert not begin_with(tmp_path / "b.spam", office)
    judge = Judge(office, load_rules())
    assert (judge.shared.ham, judge.shared.spam) == (0, 0)
    scores = [judge.judge(judge.look(raw)).score.shared for raw in (spam(99), invoice(99))]
    assert scores[0] > 0.5 > -0.5 > scores[1]
    judge.close()
