"""Long work that makes objects to stay, spared by Python's garbage collector."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

FULL_COLLECTION_EVERY = 20
"""Garbage in cycles that others leave during a span grows old with what stays: some 25 objects a request. After so many
spans all is looked at, which takes a second or two beside a million orders, and seconds of folding came before it."""

_sparing = threading.Lock()
_spans = count(1)


@contextmanager
def objects_that_stay() -> Iterator[None]:
    """The collector looks at nothing that is made within, neither meanwhile nor soon after.

    For the whole process, so let it be work that leaves no garbage in cycles, and seldom done. One at a time: who asks
    meanwhile goes on without. So spans that overlap never add up to a process that does not collect at all.
    """
    if not gc.isenabled() or not _sparing.acquire(blocking=False):
        yield
        return
    gc.collect(1)  # what is garbage by now must not stay with them
    gc.disable()
    try:
        yield
    finally:
        if next(_spans) % FULL_COLLECTION_EVERY:
            gc.freeze()
            gc.unfreeze()  # into the oldest generation, without a look at each
        else:
            gc.collect()
        gc.enable()
        _sparing.release()
