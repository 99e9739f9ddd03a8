"""The words of the setting that says where people may forward their mail to."""

from __future__ import annotations

from typing import Literal

Allowed = Literal["anywhere", "here", "nowhere"]
