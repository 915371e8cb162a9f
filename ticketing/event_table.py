"""EventTable: the events of a host that changed last, with the tickets that are left and those who wait.

Each worker has a file of its own with a row for each of its `ROWS` events, and whoever is asked reads all files. Of
the rows that several workers have for one event, the one with the highest version is true. Gauges of
prometheus_client would not do: it cannot take back a label's value while several processes count.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROWS = 20
SUFFIX = ".events"

# The event's id, then numbers, then a checksum: who reads while a row is written reads again.
_ROW = struct.Struct("<64s4qd")
_CHECKSUM = struct.Struct("<I")
_ROW_BYTES = _ROW.size + _CHECKSUM.size
_TRIES = 3


class EventRow(NamedTuple):
    """An event at one version. `changed_s` is a time of the host's monotonic clock: when a worker came to know it."""

    event_id: str
    version: int
    available_tickets: int
    booked_tickets: int
    waiting_list_count: int
    changed_s: float


class EventTable:
    """The rows of this process. In `folder` if there is one, where the other workers of the host find them.

    Thread-safe. Make it in the process that writes to it.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._bytes: mmap.mmap | bytearray = bytearray(ROWS * _ROW_BYTES)
        if folder is not None:
            with (folder / f"{os.getpid()}{SUFFIX}").open("w+b") as file:
                file.truncate(ROWS * _ROW_BYTES)
                self._bytes = mmap.mmap(file.fileno(), 0)
        self._lock = threading.Lock()
        self._places: OrderedDict[str, int] = OrderedDict()  # the event that changed longest ago comes first

    def put(self, row: EventRow) -> None:
        """Write the row of an event; the one that changed longest ago makes room for a new one."""
        packed = _ROW.pack(row.event_id.encode(), *row[1:])
        packed += _CHECKSUM.pack(zlib.crc32(packed))
        with self._lock:
            place = self._places.pop(row.event_id, len(self._places))
            if place == ROWS:
                place = self._places.popitem(last=False)[1]
            self._places[row.event_id] = place
            self._bytes[place * _ROW_BYTES : (place + 1) * _ROW_BYTES] = packed

    def rows(self) -> list[EventRow]:
        """The events of all workers that changed last, the latest first; `ROWS` at most."""
        latest: dict[str, EventRow] = {}
        for row in self._rows_of_all():
            known = latest.get(row.event_id)
            if known is None or (row.version, row.changed_s) > (known.version, known.changed_s):
                latest[row.event_id] = row
        return sorted(latest.values(), key=lambda row: row.changed_s, reverse=True)[:ROWS]

    def _rows_of_all(self) -> Iterable[EventRow]:
        if self._folder is None:
            return _unpacked(bytes(self._bytes))[0]
        return [row for path in self._folder.glob(f"*{SUFFIX}") for row in _rows_in(path)]


def _rows_in(path: Path) -> list[EventRow]:
    """The rows of one worker. One that is torn at each of some tries is left out."""
    rows: list[EventRow] = []
    for _ in range(_TRIES):
        rows, is_whole = _unpacked(path.read_bytes())
        if is_whole:
            break
    return rows


def _unpacked(table: bytes) -> tuple[list[EventRow], bool]:
    rows, is_whole = [], True
    for start in range(0, len(table), _ROW_BYTES):
        packed = table[start : start + _ROW.size]
        event_id, *numbers = _ROW.unpack(packed)
        if not event_id.strip(b"\0"):
            continue
        if (zlib.crc32(packed),) == _CHECKSUM.unpack_from(table, start + _ROW.size):
            rows.append(EventRow(event_id.rstrip(b"\0").decode(), *numbers))
        else:
            is_whole = False
    return rows, is_whole
