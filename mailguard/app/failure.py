"""What a person sees of an error that ends a command or the server: a line for each mistake, never a traceback."""

from __future__ import annotations

import os
import sys


def tell(error: Exception) -> int:
    """Says what went wrong on standard error; returns the exit code: 2 for the configuration, 1 for all else.

    ``MAILGUARD_TRACEBACK`` in the environment raises the error instead.
    """
    if os.environ.get("MAILGUARD_TRACEBACK"):
        raise error
    from mailguard.config.decode import ConfigError

    if isinstance(error, ConfigError):
        for problem in error.problems:
            _say(str(problem))
        return 2
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, OSError) and not type(error).__module__.startswith(("mailguard.", "sqlalchemy.")):
        text = f"internal error: {type(error).__name__}: {text} (MAILGUARD_TRACEBACK=1 shows where)"
    _say(text)
    return 1


def _say(text: str) -> None:
    print(f"mailguard: {text}", file=sys.stderr)  # noqa: T201
