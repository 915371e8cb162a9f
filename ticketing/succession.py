"""A reload without a gap: workers that are told to stop go on until one of those that follow them serves.

gunicorn tells them as soon as it has forked the new ones, which take nobody on before they have loaded the app: a
second or two, and on a busy machine many. What workers know of each other stands in memory that all inherit.
"""

from __future__ import annotations

import mmap
import struct

# Generations count from 0, with each reload. Here stand the last one that was begun, whether it is all over, and then
# for each generation whether it serves, in a place of its own: one that begins late can take nothing back from those
# that follow it. The places are used again when those who had them are long gone.
_BEGUN, _ENDED, _SERVING = 0, 8, 16
_GENERATIONS = 1000
_NUMBER = struct.Struct("<Q")

_page: mmap.mmap | None = None
_mine = 0


def share() -> None:
    """In the process that forks the workers, before it does."""
    global _page
    if _page is None:
        _page = mmap.mmap(-1, _SERVING + _GENERATIONS * _NUMBER.size)


def begin_generation() -> None:
    """In the same process: who is forked from now on follows those who are there."""
    global _mine
    _mine += 1
    _write(_place(_mine), 0)
    _write(_BEGUN, _mine)


def note_serving() -> None:
    """In a worker, when it takes connections."""
    _write(_place(_mine), 1)


def end() -> None:
    """In the process that forks the workers: it forks no more."""
    _write(_ENDED, 1)


def is_followed() -> bool:
    """Whether others have been begun in the place of this worker, and of the last ones none serves yet, but one may."""
    last = _read(_BEGUN)
    return not _read(_ENDED) and last > _mine and not _read(_place(last))


def _place(generation: int) -> int:
    return _SERVING + generation % _GENERATIONS * _NUMBER.size


def _write(place: int, number: int) -> None:
    if _page is not None:
        _NUMBER.pack_into(_page, place, number)


def _read(place: int) -> int:
    return 0 if _page is None else int(_NUMBER.unpack_from(_page, place)[0])
