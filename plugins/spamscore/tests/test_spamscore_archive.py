"""What an archive taught, before mail that arrived has proven it: the line by kind of mail, and strange mail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailguard_spamscore.calibration import (
    ARCHIVE_HAM,
    ARCHIVE_LINE,
    ARCHIVE_STEP,
    COLD_LINE,
    CONFIRMED_NEEDED,
    PROVEN_LINE,
    STRANGE,
    STRANGER,
    archive_line,
    doubt,
    line,
)
from mailguard_spamscore.judge import Judge
from mailguard_spamscore.kind import CONVERSATION, HTML, KINDS, PLAIN, kind_of
from mailguard_spamscore.learner import RARE_HAM, rarity, score, shared_groups
from mailguard_spamscore.rehearsal import pack, unpack
from mailguard_spamscore.rule import load_rules

ANN = "ann@example.org"
HEAD = b"From: A <a%d@b.example>\r\nTo: c@d.example\r\nSubject: Number %d\r\nMessage-ID: <%d@b.example>\r\n"
ANSWER = HEAD + b"In-Reply-To: <1@d.example>\r\n\r\nYes, number %d it is.\r\n"
LETTER = HEAD + b"\r\nDear reader, this is number %d.\r\n"
LEAFLET = HEAD + b"Content-Type: text/html\r\n\r\n<p>Dear <b>reader</b>, this is number %d.</p>\r\n"
OUTSIDE = (
    b"From: Z <z@y.test>\r\nReceived: from q.test (q.test [203.0.113.7]) by m.test\r\nX-Mailer: Other 9\r\n"
    b"Content-Type: text/html\r\n\r\n<p>Dear <b>reader</b>, this is number 5.</p>\r\n"
)


@pytest.fixture
def judge(tmp_path):
    judge = Judge(tmp_path, load_rules(), seed=1)
    yield judge
    judge.close()


def fill(form: bytes, number: int) -> bytes:
    return form % (number, number, number, number)


@pytest.mark.parametrize(("form", "kind"), [(ANSWER, CONVERSATION), (LETTER, PLAIN), (LEAFLET, HTML)])
def test_the_kind_is_known_of_a_remembered_message_too(judge, form, kind):
    seen = judge.look(fill(form, 1))
    assert kind_of(seen.numbers) == kind
    remembered = unpack(memoryview(pack(judge.kept(seen, 0))))
    assert remembered is not None
    assert kind_of(remembered.numbers) == kind


def test_wanted_mail_is_counted_by_kind_and_uncounted(judge):
    for number, form in enumerate((ANSWER, ANSWER, LETTER, LEAFLET)):
        judge.learn(judge.kept(judge.look(fill(form, number)), 0), ANN)
    judge.learn(judge.kept(judge.look(fill(LEAFLET, 9)), 1), ANN)
    for model in (judge.shared, judge.personal(ANN)):
        assert list(model.kinds) == [2, 1, 1, 0, 0, 1]
    judge.uncount(ANN, 0, judge.look(fill(LETTER, 2)).numbers)
    judge.uncount(ANN, 1, judge.look(fill(LEAFLET, 9)).numbers)
    assert list(judge.shared.kinds) == [2, 0, 1, 0, 0, 0]
    judge.clear(ANN)
    assert not any(judge.personal(ANN).kinds)


def test_the_fewer_ham_of_its_kind_the_higher_the_line():
    assert archive_line(ARCHIVE_HAM, 1000) == pytest.approx(ARCHIVE_LINE)
    assert archive_line(ARCHIVE_HAM / 2.71828, 1000) == pytest.approx(ARCHIVE_LINE + ARCHIVE_STEP, abs=1e-3)
    assert archive_line(0, 1000) == archive_line(1, 1000) > 5.0
    assert archive_line(ARCHIVE_HAM, 0) == COLD_LINE


def test_an_archive_of_letters_says_little_of_leaflets(judge):
    model = judge.shared
    model.counts[0], model.counts[1] = 2000, 2000
    model.kinds[PLAIN], model.kinds[HTML] = 1990, 10
    assert line(model, None, HTML).at > line(model, None, PLAIN).at + 1.5


def test_strangers_need_a_higher_line_until_arrivals_stand(judge):
    model = judge.shared
    model.counts[0], model.counts[1], model.kinds[PLAIN] = 1000, 1000, 1000
    known, strange = (line(model, stranger=who).at for who in (False, True))
    assert strange == pytest.approx(known + STRANGER)
    model.counts[3] = CONFIRMED_NEEDED
    assert line(model, stranger=True).at == line(model).at == PROVEN_LINE


def test_doubted_lessons_press_ham_harder_and_keep_more_of_the_rules(judge):
    letters = [judge.kept(judge.look(fill(LETTER, number)), 0) for number in range(20)]
    pressed, rules = [], []
    for arrived in (None, 0.0):
        judge.clear(ANN)
        personal = judge.personal(ANN)
        personal.counts[1] = 500
        if arrived is not None:
            personal.counts[5] = 500
        for letter in letters:
            judge.learn(replace(letter, share=0.0), ANN, arrived=arrived)
        rules.append((judge.prior_share(personal, taught=True), judge.prior_share(personal)))
        pressed.append(judge.judge(judge.look(fill(LETTER, 30)), ANN).score.personal)
    assert pressed[0] < pressed[1] < 0
    (taught, judged), (later_taught, later_judged) = rules
    assert taught > later_taught == later_judged > judged


def test_wanted_mail_of_a_kind_that_was_mostly_junk_weighs_more(judge):
    model = judge.shared
    assert rarity(model, HTML) == 1.0
    model.counts[0], model.counts[1] = 2000, 1000
    model.kinds[HTML], model.kinds[len(KINDS) + HTML] = 100, 800
    model.kinds[PLAIN], model.kinds[len(KINDS) + PLAIN] = 1900, 200
    assert rarity(model, PLAIN) == 1.0
    assert rarity(model, HTML) == RARE_HAM
    model.kinds[HTML] = 800
    assert 1.9 < rarity(model, HTML) < 2.0  # half of it wanted, where two thirds of all mail are


def test_much_markup_does_not_drown_the_header(judge):
    for number in range(60):
        judge.learn(judge.kept(judge.look(fill(LEAFLET, number)), 1), ANN)
        judge.learn(judge.kept(judge.look(fill(LETTER, 1000 + number)), 0), ANN)
    seen = judge.look(fill(LEAFLET, 5)).numbers
    words, tags, dress, grams = shared_groups(judge.shared, seen)
    assert dress.sum() > 0
    doubled = replace(seen, dress=seen.dress * 4)
    same, header, louder, text = shared_groups(judge.shared, doubled)
    assert louder.sum() == pytest.approx(2 * dress.sum())
    assert [same.sum(), header.sum(), text.sum()] == [words.sum(), tags.sum(), grams.sum()]


def test_doubt_goes_as_arrivals_stand(judge):
    model = judge.shared
    model.counts[0], model.counts[1], model.kinds[PLAIN] = 1000, 1000, 1000
    lines = []
    for confirmed in (0, 100, CONFIRMED_NEEDED):
        model.counts[3] = confirmed
        lines.append(line(model))
    assert [round(at.doubt, 2) for at in lines] == [1.0, 0.6, 0.0]
    assert [lines[0].at, lines[2].at] == pytest.approx([ARCHIVE_LINE, PROVEN_LINE])
    assert lines[0].at > lines[1].at > lines[2].at


def test_an_archive_of_spam_alone_is_doubted_and_arrivals_are_not(judge):
    model = judge.shared
    model.counts[1] = 500
    assert line(model).at > 5.0
    model.counts[5] = 500  # all of it came by itself and was called junk
    assert line(model).at < COLD_LINE
    assert doubt(0, 0) == doubt(-3, 0) == 0.0


def test_a_learner_far_from_its_mail_weighs_little(judge):
    for number in range(200):
        judge.learn(judge.kept(judge.look(fill(LEAFLET, number)), 1), ANN)
        judge.learn(judge.kept(judge.look(fill(LETTER, 1000 + number)), 0), ANN)
    personal = judge.personal(ANN)
    near = judge.look(fill(LEAFLET, 5)).numbers
    far = judge.look(OUTSIDE).numbers
    for numbers, loses in ((near, False), (far, True)):
        sure, doubtful = (score(numbers, judge.shared, personal, doubt=share).total for share in (0.0, 1.0))
        assert sure > 0
        assert (doubtful < 0.9 * sure) == loses
    known, strange = (judge.judge(judge.look(raw), ANN) for raw in (fill(LEAFLET, 5), OUTSIDE))
    assert known.score.strangeness == 0.0
    assert strange.line.at == pytest.approx(known.line.at + STRANGE * strange.score.strangeness)
    assert strange.line.at > known.line.at
