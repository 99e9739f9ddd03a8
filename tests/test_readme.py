"""``mailguard/README.md`` tells how the package is built: its floors are the contract's, its files exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "mailguard/README.md").read_text()


def test_the_floors_are_those_of_the_contract() -> None:
    told: dict[int, set[str]] = {}
    for floor, folder in re.findall(r"^\| (\d) \| `(\w+)` \|", TEXT, flags=re.M):
        told.setdefault(int(floor), set()).add(folder)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    held = [{name.strip().removeprefix("mailguard.") for name in layer.split("|")} for layer in layers]
    assert [told[floor] for floor in sorted(told, reverse=True)] == held


def test_every_file_it_names_exists() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", TEXT))
    bare = {name for name in named if "/" not in name}  # those of the outbound journey
    missing = {name for name in named - bare if not (ROOT / "mailguard" / name).exists()}
    missing |= {name for name in bare if not (ROOT / "mailguard/delivery" / name).exists()}
    assert named and not missing


def test_every_folder_of_the_package_has_a_floor() -> None:
    folders = {path.parent.name for path in (ROOT / "mailguard").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"^\| \d \| `(\w+)` \|", TEXT, flags=re.M))
