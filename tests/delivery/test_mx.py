"""Where a domain's mail goes: every case of RFC 5321 §5.1 and RFC 7505."""

from __future__ import annotations

from typing import Any

import pytest

from mailguard.delivery.mx import mail_hosts
from mailguard.model.reply import MailError
from mailguard.testing import FakeResolver

US = "mail.office.test"


def hosts(records: Any, *, domain: str = "x.test") -> tuple[str, ...]:
    resolver = FakeResolver({"x.test MX": records, "bare.test A": "192.0.2.1", "none.test MX": []})
    return mail_hosts(resolver, domain, own_name=US, shuffle=lambda names: names.reverse()).names


def test_the_best_come_first_and_equals_are_shuffled() -> None:
    assert hosts(["20 c.test", "10 a.test", "10 b.test", "5 best.test"]) == ("best.test", "b.test", "a.test", "c.test")
    assert hosts(["10 a.test", "20 a.test"]) == ("a.test",)


def test_ourselves_and_whoever_is_not_better_are_no_way_forward() -> None:
    assert hosts(["5 a.test", f"10 {US}", "10 b.test", "20 c.test"]) == ("a.test",)


def test_without_an_mx_the_domain_itself_is_the_host() -> None:
    assert hosts([], domain="bare.test") == ("bare.test",)
    assert hosts([], domain="none.test") == ("none.test",)


@pytest.mark.parametrize(
    ("records", "domain", "code", "status"),
    [
        ("0 .", "x.test", 556, "5.1.10"),
        (f"10 {US}", "x.test", 554, "5.3.5"),
        ([f"10 {US}", "10 b.test"], "x.test", 554, "5.3.5"),
        ([], "gone.test", 550, "5.1.2"),
        ([], "[192.0.2.1]", 550, "5.1.2"),
        (TimeoutError, "x.test", 451, "4.4.3"),
    ],
)
def test_no_way(records: Any, domain: str, code: int, status: str) -> None:
    with pytest.raises(MailError) as error:
        hosts(records, domain=domain)
    assert (error.value.reply.code, error.value.reply.status) == (code, status)
