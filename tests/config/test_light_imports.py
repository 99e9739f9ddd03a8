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


# What all workers share in memory is what their supervisor has loaded; the rest comes when it is used.
SELDOM = {
    "alembic",
    "acme",
    "click",
    "defusedxml",
    "email.headerregistry",
    "flask",
    "rich",
    "tarfile",
    "urllib.request",
}


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_workers_load_nothing_that_is_seldom_used() -> None:
    loaded = loaded_by("mailguard.app.begin, mailguard.app.resume, mailguard.app.web, mailguard.server.web_cheroot")
    assert {"mailguard.app.worker", "mailguard.server.smtp", "cheroot"} <= loaded
    assert not loaded & SELDOM


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("mailguard.config.schema", set()),
        ("mailguard.cli.main", set()),
        ("mailguard.cli.queue", {"sqlalchemy", "asyncio"}),  # the state database; SQLAlchemy loads asyncio
    ],
)
def test_it_loads_no_library_that_it_does_not_need(module: str, needed: set[str]) -> None:
    loaded = {name.partition(".")[0] for name in loaded_by(module)}
    assert "click" in loaded or "pydantic" in loaded
    assert loaded & HEAVY <= needed
