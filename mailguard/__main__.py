"""``python -m mailguard``."""

from mailguard.cli.main import main

main()
