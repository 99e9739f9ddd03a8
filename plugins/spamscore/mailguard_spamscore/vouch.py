"""What other checks found, as signals for the rules and tokens for the learner."""

from __future__ import annotations

from mailguard.plugin import Findings

from .name import Signals

ASKED = ("spf", "dkim", "dmarc", "arc", "iprev", "dnsbl")
_BAD = (("spf", ("fail", "softfail")), ("dkim", ("fail",)), ("iprev", ("fail",)), ("dnsbl", ("listed",)))


def auth_signals(findings: Findings) -> tuple[Signals, list[bytes]]:
    """Signals and tokens of what the checks named in ASKED found."""
    words = {name: findings.word(name) for name in ASKED}
    signals: Signals = {}
    for name, bad in _BAD:
        if words[name] in bad:
            signals[f"{name}_{words[name]}"] = ()
    if words["dmarc"] in ("fail", "reject", "quarantine"):
        signals["dmarc_fail"] = ()
    elif words["dmarc"] == "pass":
        signals["dmarc_pass"] = ()
    elif words["spf"] != "pass" and words["dkim"] != "pass" and {words["spf"], words["dkim"]} != {"none"}:
        signals["unauthenticated"] = ()
    return signals, [f"auth:{name}={word}".encode() for name, word in words.items() if word != "none"]


def vouched(findings: Findings) -> bool:
    """Whether the sender is who it says: DMARC, SPF or DKIM passed, or none of them was asked."""
    words = [findings.word(name) for name in ("dmarc", "spf", "dkim")]
    if words[0] not in ("none", "pass", "temperror"):
        return False
    return "pass" in words or set(words) == {"none"}
