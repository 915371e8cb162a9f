"""A pause of Python's garbage collector, for work that makes much and leaves no garbage in cycles."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_pausing = threading.Lock()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Switch the collector off, for the whole process.

    One pause at a time: who asks meanwhile goes on without. So pauses that overlap never add up to a process that does
    not collect at all, for it may at the end of each.
    """
    if not gc.isenabled() or not _pausing.acquire(blocking=False):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _pausing.release()
