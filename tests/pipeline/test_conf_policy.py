"""The annotated policy of ``conf/`` is loaded with the real plugins, tested, and takes real mail through."""

from __future__ import annotations

import re
from pathlib import Path

from mailguard.pipeline.compiler import load_policy, parse_policy
from mailguard.pipeline.explain import explain
from mailguard.pipeline.replay import run_tests
from mailguard.state.record import from_row
from mailguard.testing import make_envelope, make_message, make_session

CONF = Path(__file__).parents[2] / "conf" / "policy.toml"
ZONE = {
    "example.net TXT": "v=spf1 ip4:192.0.2.1 -all",
    "_dmarc.example.net TXT": "v=DMARC1; p=reject",
    "example.net MX": "10 mail.example.net",
}


def through(trial, policy, session, message, envelope=None):
    engine, collector = trial(policy, ZONE)
    envelope = envelope or make_envelope()
    mail = engine.connect(session).mail(session, envelope)
    mail.recipient(envelope, envelope.recipients[0].address)
    verdict = mail.message(envelope, message)
    return verdict, mail.stamp(envelope, message, verdict), from_row(collector.rows[-1])


def test_it_loads_and_its_tests_pass(registry):
    policy = load_policy(CONF, registry.load, registry.names)
    assert [result.wrong for result in run_tests(policy)] == [""] * 3
    assert policy.check("greylist").model.mode == "off"


def test_every_commented_example_loads_too(registry, tmp_path):
    text = re.sub(r"(?m)^# (?=\[\[|\w+ = |plugin|deadline)", "", CONF.read_text("utf-8")).replace(
        'mode = "off"', 'mode = "enforce"'
    )
    if "spamscore" not in registry.names():
        text = text.replace('[[check]]\nplugin = "spamscore"', "")
    (tmp_path / "policy.toml").write_text(text)
    policy = load_policy(tmp_path / "policy.toml", registry.load, registry.names)
    assert policy.rules[-1].model.name == "invoices from the bank always arrive"
    assert policy.overrides
    assert policy.general.deny


def test_good_mail_is_vouched_for(registry, trial):
    policy = load_policy(CONF, registry.load, registry.names)
    verdict, stamped, record = through(trial, policy, make_session(), make_message())
    assert verdict.action.value == "accept"
    words = {name: f.word for name, f in verdict.findings.items()}
    assert words == {"spf": "pass", "dkim": "none", "dmarc": "pass", "spamscore": "ham"}
    field = stamped.prefix.decode()
    assert "spf=pass smtp.mailfrom=example.net" in field or "spf=pass smtp.mailfrom=alice@example.net" in field
    assert "dmarc=pass header.from=example.net" in field
    assert "It was accepted because nothing spoke against it." in explain(record)


def test_a_sender_without_mail_is_refused_with_its_own_code(registry, trial):
    policy = parse_policy("policy.toml", '[[check]]\nplugin = "answerable"\n', registry.load, registry.names)
    engine, _ = trial(policy, {"example.net MX": "0 ."})
    session, envelope = make_session(), make_envelope(mail_from="alice@example.net")
    verdict = engine.connect(session).mail(session, envelope).verdict
    assert str(verdict.reply).startswith("550 5.7.27 example.net takes no mail")


def test_a_spoofed_author_is_refused_as_its_domain_asks(registry, trial):
    policy = load_policy(CONF, registry.load, registry.names)
    verdict, _, record = through(trial, policy, make_session("198.51.100.9"), make_message())
    assert verdict.action.value == "reject"
    assert str(verdict.reply).startswith("550 5.7.26 ")
    told = explain(record)
    assert 'It was refused because the check dmarc found "reject"' in told
    assert "(default of dmarc)" in told
