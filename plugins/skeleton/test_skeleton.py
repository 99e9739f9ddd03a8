import mailguard_skeleton
from mailguard.testing import make_message, run_check


def test_capitals_are_shouting():
    finding = run_check(mailguard_skeleton, message=make_message(subject="BUY THIS NOW"))
    assert finding is not None
    assert finding.word == "shouting"
    assert "BUY THIS NOW" in finding.reason


def test_an_ordinary_subject_is_not():
    assert run_check(mailguard_skeleton, message=make_message(subject="Minutes of Monday")) is None


def test_short_subjects_are_left_alone_as_far_as_the_option_says():
    assert run_check(mailguard_skeleton, message=make_message(subject="FYI")) is None
    assert run_check(mailguard_skeleton, message=make_message(subject="FYI"), options={"letters": 3}) is not None
