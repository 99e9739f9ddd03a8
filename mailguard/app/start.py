"""What must be so before the server can start: folders, rights, and the user it becomes."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


class StartError(Exception):
    """The server cannot start; the text says why, and the cure."""


def make_data_folder(folder: Path, user: str) -> None:
    """Makes the data folder where there is none, for the user that the server becomes. Raises StartError."""
    if folder.is_dir():
        return
    try:
        folder.mkdir(parents=True, mode=0o700)
        if user and os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
    except KeyError:
        raise StartError(f"there is no user {user!r}; `user` in mailguard.toml names it") from None
    except OSError as error:
        raise StartError(f"{folder}: the data folder cannot be made: {error.strerror}; see `data_dir`") from None


def check_writable(folder: Path) -> None:
    """Raises StartError unless this process may write there."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StartError(
            f"{folder}: the data folder is not writable: {error.strerror}; "
            f"`chown` it to user {pwd.getpwuid(os.geteuid()).pw_name}, or see `data_dir` in mailguard.toml"
        ) from None


def become(user: str) -> None:
    """Drops privilege for good, now that the ports are open. Raises StartError."""
    if not user or os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"there is no user {user!r}; `user` in mailguard.toml names it") from None
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def check_key(key: Path) -> None:
    """Raises StartError where there is a TLS key that only root may read: it is read again after every renewal."""
    if key.exists() and not os.access(key, os.R_OK):
        raise StartError(f"{key}: user {pwd.getpwuid(os.geteuid()).pw_name} may not read the key; `chgrp` it for them")
