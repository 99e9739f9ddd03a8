"""Runs the parts of the benchmark: each module beside this one with a function ``rows() -> Iterator[Row]``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from harness import Absent, Row  # noqa: E402

NOT_PARTS = ("harness", "lessons", "officemail", "run", "store_cost", "tls_load")


def main() -> None:
    """Runs what is named, or everything, and prints one table; each row goes to standard error as JSON at once."""
    parts = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_PARTS)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help=", ".join(parts))
    wanted = parser.parse_args().part or parts
    if unknown := sorted(set(wanted) - set(parts)):
        raise SystemExit(f"there is no part {unknown[0]!r}; there are: {', '.join(parts)}")
    table = Table("what", "mailguard", "rival", "ratio", "goal", "")
    for part in wanted:
        try:
            for row in importlib.import_module(part).rows():
                print(json.dumps(row.told()), file=sys.stderr, flush=True)
                table.add_row(*row.cells())
        except Absent as error:
            table.add_row(part, "-", "-", "-", "-", f"not measured: {error}")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()


__all__ = ["Row", "main"]
