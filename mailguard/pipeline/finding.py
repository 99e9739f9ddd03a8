"""What plugins find: a word, a reason, facts (RFC 8601's vocabulary where it has a word)."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field
from typing import Any

from mailguard.model.authresult import AuthResult


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    ``word`` is one of the words the plugin declared (``pass``, ``fail``, ``listed``...); ``reason`` tells people
    why, in one sentence, and may be shown to the client; ``detail`` is for logs and records only; ``points`` are
    added to the score; ``auth`` become results in Authentication-Results; ``facts`` is a JSON-able mapping kept
    with the verdict and readable in policy conditions as ``facts["plugin"]``; ``reasons`` lists weighed arguments
    ``(points, text)`` for and against, strongest first, shown by ``mailguard why``.
    """

    word: str
    reason: str = ""
    detail: str = ""
    points: float = 0.0
    auth: tuple[AuthResult, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[tuple[float, str], ...] = ()


class Findings(Mapping[str, Finding]):
    """The findings so far, by plugin name, in the order they were made. A plugin that found nothing is absent."""

    __slots__ = ("_found",)

    def __init__(self, found: Mapping[str, Finding] | None = None) -> None:
        self._found = dict(found or {})

    def __getitem__(self, plugin: str) -> Finding:
        return self._found[plugin]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    # What Mapping makes of the three above asks for each key anew.

    def __contains__(self, plugin: object) -> bool:
        return plugin in self._found

    def items(self) -> ItemsView[str, Finding]:
        """Plugin names with their findings."""
        return self._found.items()

    def values(self) -> ValuesView[Finding]:
        """The findings."""
        return self._found.values()

    def word(self, plugin: str) -> str:
        """The word this plugin found, ``"none"`` if it did not run or found nothing."""
        finding = self._found.get(plugin)
        return finding.word if finding else "none"

    def with_finding(self, plugin: str, finding: Finding) -> Findings:
        """These findings and one more; a plugin's later finding replaces its earlier one."""
        return Findings({**self._found, plugin: finding})
