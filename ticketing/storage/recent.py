"""The commits that the workers of a host have written last, in memory that they share.

Two workers that take turns at an event meet, each time, what the other one has just written. To ask MongoDB for it
costs a command and a round trip before each commit of one's own; here it lies ready. Whoever has written a commit
leaves a copy, once a majority has it: it is in the ledger for good, so its copy says nothing that the ledger does not.

Nothing rests on it. Where there is no copy, or one that is torn, the ledger is read; what is decided meets the
compare-and-set; and what is new is never asked here, for other hosts leave no copies.

The memory is a ring: a new copy overwrites the oldest ones. Each names the place of the event's copy before it, and an
index, by a hash of the event's id, the place of its last one. Places count on, lap after lap until all is wiped out, so
that nobody takes a copy for the one that stood there before. One process writes at a time, and whoever finds it at work
leaves no copy. Readers ask for no lock: what is overwritten while they read does not agree with its digest.
"""

from __future__ import annotations

import fcntl
import mmap
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import IO, Any, NamedTuple

RING_BYTES = 8 * 1024 * 1024  # some 16,000 bookings one by one, 40,000 in commits of ten
COMMITS_MIN = 16  # that the ring has room for: a larger one is read from the ledger, which costs its bookings little
SLOTS = 131_072  # of the index; two events that share one are at times read from the ledger
STEPS_MAX = 50  # from copy to copy: who is further behind reads the ledger

_PLACE = struct.Struct("<Q")
_PLACES = 2**63  # whatever stands there for the next one, it can be counted on from
_SLOT = struct.Struct("<16sQ")  # an event's name, the place of its last copy
_COPY = struct.Struct("<16sQQQQI")  # the fields of `_Copy`, and how many bytes the commit has; digest and commit follow
_DIGEST_BYTES = 16
INDEX_BYTES = _PLACE.size + SLOTS * _SLOT.size  # the next free place, and the index; the ring follows

_shared: tuple[mmap.mmap, IO[Any]] | None = None


def share() -> None:
    """In the process that forks the workers: those that are forked from now on leave copies to each other."""
    global _shared
    _shared = mmap.mmap(-1, INDEX_BYTES + RING_BYTES), tempfile.TemporaryFile(buffering=0)


def shared_commits(database: str = "") -> RecentCommits:
    """The copies of this host's workers; where nothing is shared, none.

    `database` says where the ledgers are. A worker that replaces one which has died reads the settings anew, and they
    may name another one by now: it must not go on from commits that are not in its own.
    """
    if _shared is None:
        return RecentCommits()
    memory, file = _shared
    return RecentCommits(memory, file.fileno(), database)


class _Copy(NamedTuple):
    """A commit of the event `name`, and the `place` that it was written to. `previous`: the event's copy before it."""

    name: bytes
    place: int
    previous: int
    first: int
    last: int
    commit: bytes


class RecentCommits:
    """Copies of commits, as bytes, in `memory`: all of it beyond `INDEX_BYTES` is the ring. Without it there are none.

    Whoever writes holds a lock on `file`, a descriptor that all processes have inherited. Those that name another
    `database` see none of each other's copies.
    """

    def __init__(
        self, memory: mmap.mmap | bytearray | None = None, file: int | None = None, database: str = ""
    ) -> None:
        self._memory = memory
        self._file = file
        self._database = blake2b(database.encode(), digest_size=blake2b.SALT_SIZE).digest()
        self._ring_bytes = 0 if memory is None else len(memory) - INDEX_BYTES

    def leave(self, event_id: str, first: int, last: int, commit: bytes) -> None:
        """Leave a copy of a commit that is in the ledger for good."""
        if self._memory is None or len(commit) > self._ring_bytes // COMMITS_MIN:
            return
        with self._writing() as may_write:
            if may_write:
                self._write(self._memory, self._name_of(event_id), first, last, commit)

    def after(self, event_id: str, version: int) -> list[bytes]:
        """The commits that follow a version up to the last one; none where a copy between them is missing."""
        found: list[bytes] = []
        if self._memory is None:
            return found
        name = self._name_of(event_id)
        known, place = _SLOT.unpack_from(self._memory, _slot_of(name))
        last = None
        while known == name and len(found) < STEPS_MAX:
            copy = self._read(self._memory, place)
            if copy is None or copy.name != name or copy.last != (last or copy.last) or copy.first <= version:
                break
            found.append(copy.commit)
            if copy.first == version + 1:
                return found[::-1]
            last, place = copy.first - 1, copy.previous
        return []

    def forget(self) -> None:
        """Wipe all of it out. A copy that is being written meanwhile is torn, or left as it is."""
        if self._memory is not None:
            self._memory[:] = bytes(len(self._memory))

    @contextmanager
    def _writing(self) -> Iterator[bool]:
        """Whether this process may write. The kernel takes the lock back from one that dies."""
        if self._file is None:
            yield True
            return
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another one writes, or was stopped while it did
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _write(self, memory: mmap.mmap | bytearray, name: bytes, first: int, last: int, commit: bytes) -> None:
        (place,) = _PLACE.unpack_from(memory, 0)
        place = place % _PLACES or 1  # 0 is nowhere
        size = _COPY.size + _DIGEST_BYTES + len(commit)
        over = place % self._ring_bytes + size - self._ring_bytes
        if over > 0:
            place += size - over  # a copy does not go on at the beginning of the ring
        known, previous = _SLOT.unpack_from(memory, _slot_of(name))
        head = _COPY.pack(name, place, previous if known == name else 0, first, last, len(commit))
        start = self._start_of(place)
        memory[start : start + size] = head + _digest(head, commit) + commit
        _SLOT.pack_into(memory, _slot_of(name), name, place)
        _PLACE.pack_into(memory, 0, place + size)

    def _read(self, memory: mmap.mmap | bytearray, place: int) -> _Copy | None:
        """The copy that was written to a place, if it is still there as a whole."""
        start = self._start_of(place)
        head = memory[start : start + _COPY.size]
        if len(head) < _COPY.size:
            return None
        name, written_to, previous, first, last, size = _COPY.unpack(head)
        start += _COPY.size
        digest = memory[start : start + _DIGEST_BYTES]
        commit = bytes(memory[start + _DIGEST_BYTES : start + _DIGEST_BYTES + size])
        if written_to != place or digest != _digest(bytes(head), commit):
            return None
        return _Copy(name, place, previous, first, last, commit)

    def _start_of(self, place: int) -> int:
        return INDEX_BYTES + place % self._ring_bytes

    def _name_of(self, event_id: str) -> bytes:
        """Whoever could choose another event with the same name would have it decided from a wrong state."""
        return blake2b(event_id.encode(), digest_size=16, salt=self._database).digest()


def _slot_of(name: bytes) -> int:
    return _PLACE.size + int.from_bytes(name) % SLOTS * _SLOT.size


def _digest(head: bytes, commit: bytes) -> bytes:
    return blake2b(head + commit, digest_size=_DIGEST_BYTES).digest()
