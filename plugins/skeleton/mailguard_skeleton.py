"""The smallest complete filter: finds ``shouting`` in a subject of capitals. Copy this folder and start."""

from __future__ import annotations

from mailguard.plugin import Context, Finding, Message, Options, PluginInfo, hookimpl


class SkeletonOptions(Options):
    """``options`` in the policy file; every one has a default."""

    letters: int = 8
    """A subject with fewer letters than this is never shouting."""


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        name="skeleton",
        summary="finds subjects written in capitals",
        words={"shouting": "score 1"},
        explain={"shouting": "the subject is written in capitals"},
        options=SkeletonOptions,
        quick=True,  # it only computes: no files, no network
    )


@hookimpl
def check_message(ctx: Context[SkeletonOptions], message: Message) -> Finding | None:
    subject = " ".join(field.decoded for field in message.get_all("Subject"))
    if sum(map(str.isalpha, subject)) >= ctx.options.letters and subject.isupper():
        return Finding("shouting", f"the subject {subject!r} is written in capitals")
    return None
