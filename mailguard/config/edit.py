"""Edits of configuration files that keep every comment, written so that no reader ever sees half a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT

from mailguard.config.decode import OVERRIDE, ConfigError, parse_override
from mailguard.pipeline.source import Problem


def edit_file(path: Path, change: Callable[[tomlkit.TOMLDocument], None]) -> None:
    """Reads, changes and replaces a TOML file; its mode and owner stay. Raises OSError."""
    document = tomlkit.parse(path.read_text("utf-8"))
    change(document)
    replace_file(path, tomlkit.dumps(document))


def replace_file(path: Path, text: str, *, mode: int | None = None) -> None:
    """Writes a whole file in one step, durable; ``mode`` for a new one, else as it was. Raises OSError."""
    old = path.stat() if path.exists() else None
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(fd, mode if mode is not None else (old.st_mode & 0o7777 if old else 0o644))
            if old is not None and os.geteuid() == 0:
                os.fchown(fd, old.st_uid, old.st_gid)
            file.flush()
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def append_table(document: tomlkit.TOMLDocument, array: str, values: dict[str, Any]) -> None:
    """Adds ``[[array]]`` with these values after the last of its kind."""
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, value)
    existing = document.get(array)
    if isinstance(existing, AoT):
        existing.append(table)
    else:
        tables = tomlkit.aot()
        tables.append(table)
        document.append(array, tables)


def with_settings(text: str, overrides: Sequence[str]) -> str:
    """TOML text with ``dotted.key=VALUE`` settings put in. Raises ConfigError."""
    document = tomlkit.parse(text)
    for override in overrides:
        keys, value = parse_override(override)
        node: Any = document
        try:
            for key in keys[:-1]:
                if isinstance(node, list):
                    node = node[int(key)]
                else:
                    if key not in node:
                        node[key] = tomlkit.table()
                    node = node[key]
            node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = value
        except (ValueError, IndexError, TypeError, AttributeError):
            problem = Problem(OVERRIDE, 0, 0, "there is nothing of that name to set", path=".".join(keys))
            raise ConfigError([problem]) from None
    return tomlkit.dumps(document)
