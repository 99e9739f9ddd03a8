"""Every setting in one list, made from the models themselves; ``scripts/settings`` writes it to ``conf/``."""

from __future__ import annotations

import datetime
import json
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mailguard.auth.accountsfile import AccountsFile
from mailguard.config.schema import MainFile

_HEAD = """# Every setting

Written by `scripts/settings`; change the descriptions in the code. `mailguard.toml` beside this file shows those that
most offices touch, `README.md` says what to do when. Durations are written `90s`, `5m`, `1h`, `7d`; sizes `500M`, `5G`.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its table as TOML writes it (``[dns]``, ``[[listener]]``; ``""``: top of the file), its name, its
    default as TOML (``""``: there is none) and what it means."""

    table: str
    name: str
    default: str
    meaning: str


def settings(model: type[BaseModel], path: str = "", table: str = "") -> Iterator[Setting]:
    """Every setting of a model and of the models in it, in their order."""
    inner: list[tuple[str, str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        below = list(_models(field.annotation))
        if not below:
            yield Setting(table, key, _default(field), field.description or "")
            continue
        there = f"{path}.{key}" if path else key
        container = typing.get_origin(field.annotation)
        if container is tuple:
            inner += [(there, f"[[{there}]]", one) for one in below]
        elif container is None:
            inner += [(there, f"[{there}]", one) for one in below]
        else:
            inner += [(f'{there}."NAME"', f'[{there}."NAME"]', one) for one in below]
    for there, heading, one in inner:
        yield from settings(one, there, heading)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if value is PydanticUndefined or value is None else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, datetime.timedelta):
        return f'"{_duration(int(value.total_seconds()))}"'
    if isinstance(value, SecretStr):
        return json.dumps(value.get_secret_value())
    if isinstance(value, tuple | frozenset | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def _duration(seconds: int) -> str:
    for unit, letter in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % unit == 0:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def document() -> str:
    """The whole of ``conf/settings.md``."""
    parts = [_HEAD]
    for file, model in (("mailguard.toml", MainFile), ("accounts.toml", AccountsFile)):
        parts.append(f"\n## {file}\n")
        table = None
        for setting in settings(model):
            if setting.table != table:
                table = setting.table
                parts.append(
                    f"\n### {f'[{table}]' if table else 'at the top'}\n\n| setting | default | |\n|---|---|---|\n"
                )
            default = f"`{setting.default}`" if setting.default else ""
            parts.append(f"| `{setting.name}` | {default} | {setting.meaning.replace('|', '/')} |\n")
    return "".join(parts)
