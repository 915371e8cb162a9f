"""Whose turn it is to commit to an event, among the workers of one host. For speed alone.

The ledger decides every race: two workers that commit at once are never both right. But the loser has worked in vain,
and with two workers on one event every third commit was lost. So a worker takes its turn first, and meanwhile its
requests gather. It also finds the version that the last one has left, and need not try what must fail.

gunicorn's workers inherit all of it, in slots by the event's id: locks of the kernel's (POSIX, one for each byte of a
file without a name, given back when their process dies), and in memory what was noted last.
"""

from __future__ import annotations

import fcntl
import mmap
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import IO, Any

from .clock import Clock
from .manager import ALONE, Turn, Turns

SLOTS = 131_072  # two events that share one sometimes wait for each other
NOTE = struct.Struct("<QQ")  # which event, and its version

PATIENCE_S = 0.2
"""A worker that is stopped, or whose commit hangs, is not waited for longer: then the race is on."""

POLL_S = 0.0005

_shared: tuple[mmap.mmap, IO[Any]] | None = None


def share() -> None:
    """In the process that forks the workers: let them take turns."""
    global _shared
    if _shared is None:
        _shared = mmap.mmap(-1, SLOTS * NOTE.size), tempfile.TemporaryFile(buffering=0)


def shared_turns(clock: Clock) -> Turns:
    """The turns of this host's workers; where nothing is shared, everybody's at once."""
    if _shared is None:
        return ALONE
    notes, locks = _shared
    return SharedTurns(clock, notes, locks.fileno())


class SharedTurns(Turns):
    """Turns by locks on `file`, a descriptor, and `notes` in shared memory.

    In a process an event has one leader at a time.
    """

    def __init__(self, clock: Clock, notes: mmap.mmap, file: int) -> None:
        self._clock = clock
        self._notes = notes
        self._file = file

    @contextmanager
    def turn(self, event_id: str) -> Iterator[Turn]:
        """Wait for the turn of this process; see manager.Turns."""
        name = int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest())
        slot = name % SLOTS
        place = slot * NOTE.size
        is_mine = self._take(self._file, slot)
        noted, version = NOTE.unpack_from(self._notes, place)
        turn = Turn(version if noted == name else 0)
        try:
            yield turn
        finally:
            if is_mine:
                NOTE.pack_into(self._notes, place, name, turn.version)
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)

    def _take(self, file: int, slot: int) -> bool:
        end_s = self._clock.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
                return True
            except OSError:  # another process has it
                if self._clock.monotonic() >= end_s:
                    return False
            self._clock.sleep(POLL_S)
