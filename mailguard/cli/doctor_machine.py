"""What the doctor asks of the machine: folders and who may read them, disk, clock, open files."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import mailguard
from mailguard.cli.doctor_line import Line, fail, ok, warn
from mailguard.config.schema import Config

_FULL = 0.02  # of the disk left: mail is about to be turned away
_NEARLY = 0.10
_SMALL = 500_000_000  # octets
_UNSYNC = 0x40  # STA_UNSYNC of adjtimex(2)


def folders(config: Config) -> Iterator[Line]:
    """The data folder and the files with secrets: there, ours, and nobody else's to read."""
    data, user = config.data_dir, config.main.user or pwd.getpwuid(os.geteuid()).pw_name
    if not data.is_dir():
        yield warn("folders", f"{data} does not exist yet", "`mailguard serve` makes it")
        return
    owner = _owner(data)
    if config.main.user and owner != config.main.user:
        yield fail("folders", f"{data} belongs to {owner}", f"chown -R {user}: {data}")
    elif not os.access(data, os.W_OK):
        yield fail("folders", f"{data} is not ours to write to", f"run as {owner}, or chown -R {user}: {data}")
    elif data.stat().st_mode & stat.S_IRWXO:
        yield warn("folders", f"everybody on this machine may look into {data}", f"chmod o= {data}")
    else:
        yield ok("folders", f"{data} is {owner}'s alone")
    foreign = _foreign(data, owner)
    if foreign is not None:
        yield fail("folders", f"{foreign} belongs to {_owner(foreign)}, not {owner}", f"chown -R {owner}: {data}")


def secrets(config: Config) -> Iterator[Line]:
    """Private keys and the configuration: readable by the server, the keys by nobody else."""
    keys = [config.base / config.main.tls.key, *(config.base / d.key for d in config.main.tls.domain)]
    keys += sorted((config.data_dir / "dkim").glob("*/*.pem"))
    for key in keys:
        if not key.exists():
            continue
        if key.stat().st_mode & stat.S_IRWXO:
            yield fail("secrets", f"everybody on this machine may read {key}", f"chmod o= {key}")
        elif config.main.user and not _readable_by(config.main.user, key):
            yield fail(
                "secrets", f"{config.main.user} may not read {key}", f"chgrp {config.main.user} {key}; chmod 640 {key}"
            )
    if os.access(config.path, os.R_OK):
        yield ok("secrets", f"{len(keys)} private keys looked at")


def disk(config: Config) -> Iterator[Line]:
    """Room for mail, in octets and in files."""
    where = config.data_dir if config.data_dir.is_dir() else config.base
    usage = shutil.disk_usage(where)
    left = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} GB free for {where}"
    cure = "delete or move something, or give the folder a larger disk"
    if usage.free < usage.total * _FULL or usage.free < _SMALL / 5:
        yield fail("disk", left, cure)
    elif usage.free < usage.total * _NEARLY and usage.free < _SMALL * 20:
        yield warn("disk", left, cure)
    else:
        yield ok("disk", left)
    files = os.statvfs(where)
    if files.f_files and files.f_favail < files.f_files * _FULL:
        yield fail("disk", f"only {files.f_favail} more files fit on the disk (inodes)", "delete many small files")


def clock() -> Iterator[Line]:
    """Whether the time is right: certificates, signatures and sign-in codes depend on it."""
    built = max(path.stat().st_mtime for path in Path(mailguard.__file__).parent.glob("*.py"))
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if time.time() < built - 86_400:
        yield fail(
            "clock", f"{now} lies before the making of this program", "set the clock: `timedatectl set-ntp true`"
        )
        return
    synchronised = _synchronised()
    if synchronised is False:
        yield warn("clock", f"{now}, but nothing keeps it right", "`timedatectl set-ntp true`, or install chrony")
    else:
        yield ok("clock", now + (" (kept by the network)" if synchronised else ""))


def limits(config: Config) -> Iterator[Line]:
    """Open files: each connection needs one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.main.limits.connections + 200
    if soft < needed:
        cure = f"`LimitNOFILE={max(65_536, needed)}` in the unit, or `ulimit -n`; or lower limits.connections"
        yield warn("limits", f"{soft} files may be open here, {needed} are needed for all connections", cure)
    else:
        yield ok("limits", f"{soft} files may be open")


def watches(config: Config) -> Iterator[Line]:
    """Folders that the kernel may watch for us: each open mailbox is one, in each worker."""
    try:
        allowed = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
    except (OSError, ValueError):
        return
    needed = 20 * max(1, len(config.directory.accounts)) * config.workers
    if allowed < needed:
        cure = f"`sysctl fs.inotify.max_user_watches={4 * needed}`, and the same in /etc/sysctl.d"
        yield warn("limits", f"{allowed} folders may be watched, {needed} may be needed: new mail shows late", cure)


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return str(path.stat().st_uid)


def _foreign(data: Path, owner: str) -> Path | None:
    """Something in the data folder's first three levels that belongs to somebody else."""
    level = [data]
    for _ in range(3):
        level = [entry for folder in level for entry in _entries(folder)]
        for entry in level:
            if not entry.is_symlink() and entry.exists() and _owner(entry) != owner:
                return entry
        level = [entry for entry in level if entry.is_dir()][:200]
    return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:200]
    except OSError:
        return []


def _readable_by(user: str, path: Path) -> bool:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return False
    about = path.stat()
    if about.st_uid == entry.pw_uid:
        return bool(about.st_mode & stat.S_IRUSR)
    if about.st_gid in os.getgrouplist(user, entry.pw_gid):
        return bool(about.st_mode & stat.S_IRGRP)
    return bool(about.st_mode & stat.S_IROTH)


def _synchronised() -> bool | None:
    """What the kernel says of its clock; None where it says nothing."""
    buffer = ctypes.create_string_buffer(512)  # struct timex; modes = 0 only asks
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    at = 4 * ctypes.sizeof(ctypes.c_long) + ctypes.sizeof(ctypes.c_long)  # modes, offset, freq, maxerror, esterror
    return not int.from_bytes(buffer.raw[at : at + 4], "little") & _UNSYNC
