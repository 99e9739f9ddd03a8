"""Real file systems on a file, for tests that may mount: ext4, also as after a power cut, and btrfs with a quota."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


@contextlib.contextmanager
def ext4(folder: Path, *options: str) -> Iterator[Path]:
    """A new file system of 32 MB, mounted; ``options`` are mkfs.ext4's. Its octets are in ``disk.img`` of the
    folder. Skips where that cannot be done."""
    with mounted(_image(folder, "mkfs.ext4", 32 << 20, "-F", *options), folder / "disk") as place:
        yield place


def _image(folder: Path, make: str, octets: int, *options: str) -> Path:
    if os.geteuid() != 0 or shutil.which(make, path=_ENVIRONMENT["PATH"]) is None:
        pytest.skip(f"needs root and {make}")
    image = folder / "disk.img"
    image.touch()
    os.truncate(image, octets)
    subprocess.run([make, "-q", *options, str(image)], check=True, env=_ENVIRONMENT, stdout=subprocess.DEVNULL)
    return image


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """An image, mounted. Skips where that cannot be done."""
    place.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True)
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


@contextlib.contextmanager
def btrfs_quota(folder: Path, octets: str) -> Iterator[Path]:
    """A new btrfs that takes so much and then says that a quota is used up. Skips where that cannot be done."""
    image = _image(folder, "mkfs.btrfs", 256 << 20)
    with mounted(image, folder / "disk") as place:
        for words in (["quota", "enable", str(place)], ["qgroup", "limit", octets, str(place)]):
            subprocess.run(["btrfs", *words], check=True, env=_ENVIRONMENT, stdout=subprocess.DEVNULL)
        yield place
