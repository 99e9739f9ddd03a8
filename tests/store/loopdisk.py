"""A real ext4 on a file, for tests that may mount: with a journal or without, with quotas, and as it is after a power
cut."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_SET_USER_QUOTA, _BLIMITS = 0x800008 << 8, 1  # quotactl(2); limits in blocks of 1024 octets


@contextlib.contextmanager
def ext4(folder: Path, *options: str, mount: str = "loop") -> Iterator[Path]:
    """A new file system of 32 MB, mounted; ``options`` are mkfs.ext4's. Its octets are in ``disk.img`` of the
    folder. Skips where that cannot be done."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
        pytest.skip("needs root and mkfs.ext4")
    image = folder / "disk.img"
    image.touch()
    os.truncate(image, 32 << 20)
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, str(image)], check=True, env=environment)
    with mounted(image, folder / "disk", mount) as place:
        yield place


@contextlib.contextmanager
def mounted(image: Path, place: Path, options: str = "loop") -> Iterator[Path]:
    """An image, mounted. Skips where that cannot be done."""
    place.mkdir()
    done = subprocess.run(["mount", "-o", options, str(image), str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def power_cut(folder: Path, name: str) -> contextlib.AbstractContextManager[Path]:
    """What the disk of ``ext4`` holds at this moment, mounted beside it: the journal and what was written out, nothing
    that is in memory only."""
    copy = folder / f"{name}.img"
    shutil.copyfile(folder / "disk.img", copy)
    return mounted(copy, folder / name)


def limit(place: Path, uid: int, kilobytes: int) -> None:
    """Lets a user have so much and no more. Skips where the kernel keeps no quotas."""
    device = next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if f" {place} " in line)
    block = struct.pack("=8QI4x", kilobytes, kilobytes, 0, 0, 0, 0, 0, 0, _BLIMITS)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.quotactl(ctypes.c_int(_SET_USER_QUOTA - (1 << 32)), device.encode(), uid, block):
        pytest.skip(f"no quotas here: {os.strerror(ctypes.get_errno())}")
