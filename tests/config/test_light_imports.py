"""What a command needs before it can say anything: the settings, and no library that they do not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "acme", "alembic", "argon2", "asyncio", "cel_expr_python", "cheroot", "cryptography", "dkim", "dns", "flask",
    "jinja2", "josepy", "pluggy", "prometheus_client", "rich", "scramp", "sqlalchemy", "structlog",
    "tomlkit", "werkzeug",
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("mailguard.config.schema", set()),
        ("mailguard.cli.main", set()),
        ("mailguard.cli.queue", {"sqlalchemy", "asyncio"}),  # the state database; SQLAlchemy loads asyncio
    ],
)
def test_it_loads_no_library_that_it_does_not_need(module: str, needed: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "click" in loaded or "pydantic" in loaded
    assert loaded & HEAVY <= needed
