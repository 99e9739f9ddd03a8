"""Authentication-Results fields: what is written at once says what the library would write."""

from __future__ import annotations

import authres
import hypothesis.strategies as st
from hypothesis import example, given

from mailguard.model.authresult import AuthResult, render

WORDS = st.text(st.sampled_from("aZ09@._+-/:=,?"), min_size=1, max_size=8)
RESULTS = st.builds(
    AuthResult,
    st.sampled_from(["spf", "DKIM"]),
    st.sampled_from(["pass", "Fail"]),
    st.one_of(st.just(""), WORDS),
    st.lists(st.tuples(st.just("smtp"), st.sampled_from(["mailfrom", "Helo"]), WORDS), max_size=3).map(tuple),
)


@given(RESULTS)
@example(AuthResult("spf", "pass", "", (("smtp", "mailfrom", "ann@b.test"),)))
@example(AuthResult("iprev", "pass", "", (("policy", "iprev", "2001:db8::1"),)))
@example(AuthResult("dkim", "pass", "", (("header", "b", "a+b/c=="), ("header", "d", "b.test"))))
def test_a_result_is_written_as_the_library_writes_it(result: AuthResult) -> None:
    made = authres.AuthenticationResult(
        result.method,
        result=result.result,
        reason=result.reason or None,
        properties=[authres.AuthenticationResultProperty(*each) for each in result.properties],
    )
    assert render("mx.test", [result]) == f"Authentication-Results: mx.test;\r\n\t{made}\r\n".encode()
