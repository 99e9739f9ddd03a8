"""mailguard: a whole mail server for small offices."""

__version__ = "0.1.0"
