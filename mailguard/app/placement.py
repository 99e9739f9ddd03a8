"""Which CPU a worker keeps to.

Its threads take turns at Python's lock. Where the next in turn wakes up on another CPU, it looks for the lock in vain,
and what it needs is in the other CPU's cache: a filtered message then costs a tenth more, a plain one a third.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress


def next_cpu(taken: Iterable[int], workers: int) -> int | None:
    """The CPU for one more of so many workers, where those before have ``taken`` theirs: the one with the fewest.
    None where there are fewer workers than CPUs: then the system had better choose."""
    cpus = sorted(os.sched_getaffinity(0))
    if workers < len(cpus) or len(cpus) < 2:
        return None
    count = Counter(taken)
    return min(cpus, key=lambda cpu: count[cpu])


@contextmanager
def keeping_to(cpu: int | None) -> Iterator[None]:
    """Threads that are started inside, and theirs, keep to a CPU (None: to none); the caller is free again after."""
    free = os.sched_getaffinity(0)
    if cpu is not None:
        with suppress(OSError):  # it was taken away
            os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, free)
