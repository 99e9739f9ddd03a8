"""Files of the configuration as they were read: so that what runs can be built again, whatever became of the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class Texts:
    """Reads text files and remembers them; files of ``known`` (path -> text) are not looked at again."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self.known = dict(known or {})

    def read(self, path: Path) -> str:
        """The text of a file. Raises OSError, UnicodeDecodeError."""
        if str(path) not in self.known:
            self.known[str(path)] = path.read_text("utf-8")
        return self.known[str(path)]

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""
        return str(path) in self.known or path.exists()
