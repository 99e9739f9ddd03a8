"""A model file: weights that every worker maps, with one writer at a time and readers that never wait.

Layout: a head of 4 KiB (magic, feature set, counts, two histograms), then for each table its weights and its
AdaGrad sums as float32, then the slots of the sample kept for rehearsal. A fresh file is sparse. A float is
written by one aligned store, so a reader never sees half of one; a writer killed half-way leaves a model that
lacks part of one lesson, which is a usable model.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from .index import FEATURE_SET, GRAM_BITS, TAG_BITS, WORD_BITS
from .kind import KINDS

HEAD = 4096
SLOT = 6144
BINS = 128
BIN_WIDTH = 0.25
"""The histograms cover scores from -16 to 16."""

_MAGIC = b"mgspam01"
_START = struct.Struct("<8sIIII")


class ModelError(Exception):
    """The file cannot be used as it is; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which tables a file has, as (name, bits), and how many rehearsal slots."""

    kind: int
    tables: tuple[tuple[str, int], ...]
    slots: int

    @property
    def size(self) -> int:
        """Octets of the file."""
        return HEAD + sum(8 << bits for _, bits in self.tables) + self.slots * SLOT


_TABLES = ("words", WORD_BITS), ("tags", TAG_BITS), ("grams", GRAM_BITS)
GLOBAL = Layout(1, _TABLES, 900)
PERSONAL = Layout(2, _TABLES, 140)


class Table:
    """Weights and AdaGrad sums of one hashed logistic regression, as float views into the map."""

    __slots__ = ("sums", "weights")

    def __init__(self, view: memoryview, bits: int) -> None:
        half = 4 << bits
        self.weights = view[:half].cast("f")
        self.sums = view[half:].cast("f")

    def at(self, places: list[int]) -> tuple[float, ...]:
        """The weights at these places."""
        if len(places) < 2:
            return tuple([self.weights[place] for place in places])
        found: tuple[float, ...] = itemgetter(*places)(self.weights)
        return found

    def release(self) -> None:
        """Lets go of the map."""
        self.weights.release()
        self.sums.release()


class Model:
    """An open model file. Threads may score at any time; learning goes through ``writing``.

    ``tail`` is kept for the calibration: at how many confirmed ham the tail of their scores was last read, and it.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self._thread = threading.Lock()
        self.tail = (-1.0, -16.0)
        self._open(create=not path.exists())

    def _open(self, *, create: bool) -> None:
        if create:
            _create(self.path, self.layout)
        with self.path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size != self.layout.size:
                raise ModelError(f"{self.path}: {size} octets instead of {self.layout.size}")
            self._map = mmap.mmap(file.fileno(), size)
        magic, feature_set, kind, _, _ = _START.unpack_from(self._map)
        if magic != _MAGIC or kind != self.layout.kind:
            raise ModelError(f"{self.path}: no model file of this kind")
        if feature_set != FEATURE_SET:
            raise ModelError(f"{self.path}: made for feature set {feature_set}, this is {FEATURE_SET}")
        self._view = memoryview(self._map)
        # ham, spam learnt; lessons; ham confirmed after arrival; kept for rehearsal; spam confirmed
        self.counts = self._view[64:128].cast("d")
        self.kinds = self._view[128 : 128 + 16 * len(KINDS)].cast("d")  # ham learnt of each kind, then spam
        self.ham_bins = self._view[1024 : 1024 + 8 * BINS].cast("d")
        self.spam_bins = self._view[1024 + 8 * BINS : 1024 + 16 * BINS].cast("d")
        self.tables: dict[str, Table] = {}
        at = HEAD
        for name, bits in self.layout.tables:
            self.tables[name] = Table(self._view[at : at + (8 << bits)], bits)
            at += 8 << bits
        self.slots_at = at

    @property
    def ham(self) -> float:
        """Ham messages learnt."""
        return float(self.counts[0])

    @property
    def spam(self) -> float:
        """Spam messages learnt."""
        return float(self.counts[1])

    def slot(self, number: int) -> memoryview:
        """The octets of one rehearsal slot."""
        start = self.slots_at + number * SLOT
        return self._view[start : start + SLOT]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Exclusive right to write, among all threads and processes that use the file."""
        # A lock of its own description: one inherited through fork would be shared with the parent.
        with self._thread:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def clear(self) -> None:
        """Forgets everything, in place: other processes have the file mapped. The caller holds ``writing``."""
        self._view[_START.size :] = bytes(len(self._view) - _START.size)
        self.tail = (-1.0, -16.0)

    def flush(self) -> None:
        """Asks the kernel to write the map out and waits for it."""
        self._map.flush()

    def close(self) -> None:
        """Unmaps the file."""
        for table in self.tables.values():
            table.release()
        for view in (self.counts, self.kinds, self.ham_bins, self.spam_bins):
            view.release()
        self._view.release()
        self._map.close()


def _create(path: Path, layout: Layout) -> None:
    """Makes an empty file under its name at once, so that another process never sees half a head."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    with fresh.open("wb") as file:
        file.write(_START.pack(_MAGIC, FEATURE_SET, layout.kind, 0, 0))
        file.truncate(layout.size)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass  # another process was first: use its file
    finally:
        fresh.unlink()
