from __future__ import annotations

import pytest

from mailguard.pipeline.decide import decide
from mailguard.pipeline.facts import Stage, complete
from mailguard.pipeline.replay import run_tests
from mailguard.pipeline.verdict import Action

SPF = '[[check]]\nplugin = "spf"\n'


def settle(kit, text, facts, *, stage=Stage.MESSAGE, points=None):
    return decide(kit.policy(text), stage, complete(facts), points or {})


def test_the_first_rule_that_holds_decides_and_score_rules_go_on(kit):
    text = SPF + "".join(
        f'[[rule]]\nname = "{name}"\nwhen = \'{when}\'\nthen = "{then}"\n'
        for name, when, then in [
            ("adds", 'subject.contains("win")', "score 4"),
            ("seen", "score >= 5", "quarantine"),
            ("late", "true", "reject"),
        ]
    )
    found = {"spf": "softfail"}
    assert settle(kit, text, {"subject": "win", "found": found}).decision.source == "rule seen"
    assert settle(kit, text, {"subject": "x", "found": found}).decision.source == "rule late"


def test_a_rule_waits_for_the_stage_at_which_all_is_known(kit):
    text = SPF + '[[rule]]\nname = "no pass"\nwhen = \'found["spf"] != "pass"\'\nthen = "reject"\n'
    assert settle(kit, text, {}, stage=Stage.CLIENT).action is Action.ACCEPT
    assert settle(kit, text, {}, stage=Stage.SENDER).action is Action.REJECT


@pytest.mark.parametrize(
    ("when", "facts", "holds"),
    [
        ("score >= 6", {}, False),
        ("score < 6 && score <= 6.5 && 3 > score", {}, True),
        ('found["spf"] == "none"', {}, True),
        ('found["spf"] == "none"', {"found": {"spf": "pass"}}, False),
        ('facts["spf"].weight > 3', {}, False),
        ('facts["spf"].weight > 3', {"facts": {"spf": {"weight": 4}}}, True),
        ('header["List-Id"] == ""', {}, True),
        ('header["List-Id"].contains("news")', {"header": {"list-id": "<news>"}}, True),
        ("rcpt.exists(r, r.endsWith('@sales.example'))", {"rcpt": ["a@sales.example"]}, True),
        ("time.getHours() == 22 && tls == false && user == ''", {"time": 1_700_000_000}, True),
        ('from.domain == "x.example" && from.local == "a"', {"from": "A@X.example"}, True),
        ('client.ip.startsWith("192.0.2.") && !client.known', {"client.ip": "192.0.2.9"}, True),
    ],
)
def test_conditions(kit, when, facts, holds):
    text = SPF + f"[[rule]]\nname = \"r\"\nwhen = '''{when}'''\nthen = \"junk\"\n"
    assert (settle(kit, text, facts).action is Action.JUNK) is holds


def test_what_cannot_be_evaluated_is_noted(kit):
    text = SPF + '[[rule]]\nname = "r"\nwhen = \'facts["spf"].weight > 3\'\nthen = "junk"\n'
    assert settle(kit, text, {}).notes == ('rule r: NOT_FOUND: Key not found in map : "weight"',)


OVERRIDES = (
    SPF
    + """
[policy]
allow = ["everyone.example"]
deny = ["bad.example"]
[score]
junk = 6
reject = 15
[[override]]
recipients = ["ann@office.example"]
score = { junk = 2 }
allow = ["friend@bad.example"]
[[override]]
recipients = ["office.example"]
checks = { spf = { on = { fail = "reject" } } }
score = { junk = 4 }
deny = ["noisy.example"]
[[override]]
recipients = ["*"]
checks = { spf = { on = { softfail = "score 3" } } }
"""
)


@pytest.mark.parametrize(
    ("rcpt", "facts", "expected", "source"),
    [
        ("x@other.example", {"found": {"spf": "fail"}}, "junk", "check spf"),
        ("x@office.example", {"found": {"spf": "fail"}}, "reject", "check spf"),
        ("x@other.example", {"found": {"spf": "softfail"}}, "accept", "default"),
        ("ann@office.example", {"found": {"spf": "softfail"}}, "junk", "score 3.0 >= 2"),
        ("x@office.example", {"found": {"spf": "softfail"}}, "accept", "default"),
        ("x@other.example", {"from": "a@bad.example"}, "reject", "deny list"),
        ("x@office.example", {"from": "a@sub.noisy.example"}, "junk", "deny list"),
        ("ann@office.example", {"from": "friend@bad.example"}, "reject", "deny list"),
    ],
)
def test_overrides_and_lists(kit, rcpt, facts, expected, source):
    outcome = settle(kit, OVERRIDES, {**facts, "rcpt": [rcpt]})
    assert (outcome.action.value, outcome.decision.source) == (expected, source)


def test_an_allow_needs_somebody_to_vouch(kit):
    facts = {"from": "friend@bad.example", "rcpt": ["ann@office.example"], "mail_from": "friend@bad.example"}
    passed = settle(kit, OVERRIDES, {**facts, "found": {"spf": "pass"}})
    assert (passed.action, passed.decision.source) == (Action.ACCEPT, "allow list")
    other = {**facts, "mail_from": "x@elsewhere.example", "found": {"spf": "pass"}}
    assert settle(kit, OVERRIDES, other).action is Action.REJECT
    dkim = {**facts, "found": {"dkim": "pass"}, "facts": {"dkim": {"passed": ["bad.example"]}}}
    assert settle(kit, OVERRIDES, dkim).action is Action.ACCEPT
    # one signature passed, but the one that names the author's domain is another, which did not
    forged = {**dkim, "facts": {"dkim": {"passed": ["evil.example"], "domains": ["evil.example", "bad.example"]}}}
    assert settle(kit, OVERRIDES, forged).action is Action.REJECT


def test_an_allow_lifts_the_score_but_no_refusal(kit):
    facts = {"from": "a@everyone.example", "found": {"dmarc": "pass"}, "rcpt": ["x@other.example"]}
    assert settle(kit, OVERRIDES, {**facts, "found": {"dmarc": "pass", "spf": "fail"}}).action is Action.ACCEPT
    assert settle(kit, OVERRIDES, facts, points={}).action is Action.ACCEPT


def test_recipients_with_different_fates(kit):
    both = ["ann@office.example", "x@other.example"]
    outcome = settle(kit, OVERRIDES, {"found": {"spf": "softfail"}, "rcpt": both})
    assert (outcome.action, outcome.per_recipient) == (Action.ACCEPT, {"ann@office.example": Action.JUNK})
    outcome = settle(kit, OVERRIDES, {"found": {"spf": "fail"}, "rcpt": both})
    assert outcome.action is Action.JUNK  # one answer for both: the one who would refuse has it in Junk
    outcome = settle(kit, OVERRIDES, {"found": {"spf": "fail"}, "rcpt": both[:1]})
    assert outcome.action is Action.REJECT


def test_the_policys_own_tests(kit):
    policy = kit.policy(
        SPF
        + """
on = { fail = "reject" }
[[test]]
name = "good"
facts = { found = { spf = "fail" } }
expect = "reject"
[[test]]
name = "bad"
facts = { score = 7 }
expect = "accept"
"""
    )
    good, bad = run_tests(policy)
    assert not good.wrong
    assert (bad.where, bad.wrong) == (
        "policy.toml:9",
        "expected accept, got junk by score 7.0 >= 6 (policy.toml, default)",
    )


def test_who_is_denied_hides_behind_no_other_author(kit):
    facts = {"from": "nice@partner.example", "mail_from": "x@bad.example", "rcpt": ["x@other.example"]}
    assert settle(kit, OVERRIDES, facts).decision.source == "deny list"
