"""A reload without a gap: workers that are told to stop go on until one of those that follow them serves.

gunicorn tells them as soon as it has forked the new ones, which take nobody on before they have loaded the app: a
second or two, and on a busy machine many. What workers know of each other stands in a page of memory that all inherit.
"""

from __future__ import annotations

import mmap
import struct

# Generations count from 0, with each reload: the last one that was begun, and the last one that serves. Then whether it
# is all over.
_BEGUN, _SERVING, _ENDED = 0, 8, 16
_NUMBER = struct.Struct("<Q")

_page: mmap.mmap | None = None
_mine = 0


def share() -> None:
    """In the process that forks the workers, before it does."""
    global _page
    if _page is None:
        _page = mmap.mmap(-1, mmap.PAGESIZE)


def begin_generation() -> None:
    """In the same process: who is forked from now on follows those who are there."""
    global _mine
    _mine += 1
    _write(_BEGUN, _mine)


def note_serving() -> None:
    """In a worker, when it takes connections."""
    _write(_SERVING, _mine)


def end() -> None:
    """In the process that forks the workers: it forks no more."""
    _write(_ENDED, 1)


def is_followed() -> bool:
    """Whether others have been begun in the place of this worker, and none of them serves yet, but one of them may."""
    return not _read(_ENDED) and _read(_BEGUN) > max(_mine, _read(_SERVING))


def _write(place: int, number: int) -> None:
    if _page is not None:
        _NUMBER.pack_into(_page, place, number)


def _read(place: int) -> int:
    return 0 if _page is None else int(_NUMBER.unpack_from(_page, place)[0])
