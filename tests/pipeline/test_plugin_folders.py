"""Every bundled plugin is complete: packaged, documented word for word and option for option, loadable."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mailguard.pipeline.registry import Registry

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", PLUGINS)
def test_it_is_packaged(name, project):
    own = tomllib.loads((ROOT / "plugins" / name / "pyproject.toml").read_text("utf-8"))
    assert own["project"]["name"] == f"mailguard-{name}"
    assert "pytest" in own["tool"], "in a checkout its tests would read the settings of ours"
    entry = own["project"]["entry-points"]["mailguard"]
    assert entry[name] == project["project"]["entry-points"]["mailguard"][name]
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert f"plugins/{name}" in wheel["sources"]
    assert any(path.startswith(f"plugins/{name}/mailguard_{name}") for path in wheel["only-include"])
    assert f"plugins/{name}" in project["tool"]["hatch"]["build"]["dev-mode-dirs"]


@pytest.mark.parametrize("name", [name for name in PLUGINS if name != "skeleton"])
def test_its_readme_tells_every_word_and_option(name):
    registry = Registry()
    if name not in registry.names():
        pytest.skip("the bundled plugins are not installed")
    info = registry.load(name).info
    readme = (ROOT / "plugins" / name / "README.md").read_text("utf-8")
    assert info.summary
    for word in info.words:
        assert f"`{word}`" in readme, word
    for option in info.options.model_fields:
        assert f"`{option}`" in readme, option
    assert f'plugin = "{name}"' in readme


@pytest.mark.parametrize("name", PLUGINS)
def test_it_imports_nothing_of_ours_but_the_api(name):
    for path in (ROOT / "plugins" / name).rglob("*.py"):
        allowed = {"mailguard.plugin", "mailguard.testing"} if "test" in path.name else {"mailguard.plugin"}
        for line in path.read_text("utf-8").splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].split(".")[0] == "mailguard":
                assert words[1] in allowed, f"{path.name}: {line}"


@pytest.mark.slow
@pytest.mark.parametrize("name", PLUGINS)
def test_its_tests_run_from_a_folder_of_its_own(name, tmp_path):
    """As a third party would have it: nothing of this project around it but the installed package."""
    folder = tmp_path / f"mailguard-{name}"
    shutil.copytree(ROOT / "plugins" / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "base")]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "warning" not in done.stdout.rpartition("\n")[2], done.stdout[-3000:]
