"""spamscore: a score that learns from its office and never eats the invoice. See README.md beside this package."""

from __future__ import annotations

from .plugin import SpamScore, SpamscoreOptions, spamscore

__all__ = ["SpamScore", "SpamscoreOptions", "spamscore"]
