"""The command ``mailguard``: one name for each command, loaded only when it is called."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any

import click

from mailguard.app.failure import tell

COMMANDS = {
    "adopt": "adopt:adopt",
    "backup": "backup:backup",
    "export": "export:export",
    "import": "import_:import_",
    "index": "index:index",
    "restore": "backup:restore",
    "undelete": "undelete:undelete",
    "ban": "ban:ban",
    "certificate": "certificate:certificate",
    "check": "check:check",
    "dkim": "dkim:dkim",
    "dns": "dns:dns",
    "doctor": "doctor:doctor",
    "init": "init:init",
    "junk": "junk:junk",
    "plugins": "plugins:plugins",
    "policy": "policy:policy",
    "quarantine": "quarantine:quarantine",
    "queue": "queue:queue",
    "reports": "reports:reports",
    "serve": "serve:serve",
    "setup": "setup:setup",
    "trace": "why:trace",
    "try": "try_:try_",
    "user": "user:user",
    "version": "version:version",
    "why": "why:why",
}
"""Command -> module of this package and object in it."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is used, or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        gc.disable()  # what modules make while they load is no garbage: to look for it takes an eighth of the time
        command: click.Command = getattr(importlib.import_module(f"mailguard.cli.{module}"), name)
        gc.freeze()
        gc.enable()
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def mailguard() -> None:
    """A whole mail server for a small office. Begin with `mailguard init DIR --domain YOUR.DOMAIN`."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Exit codes: 0 good, 1 failed, 2 wrong usage or configuration. Never a traceback."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        code: Any = mailguard.main(arguments, prog_name="mailguard", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        return tell(error)
