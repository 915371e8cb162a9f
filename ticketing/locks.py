"""A lock on a folder that the kernel frees when its holder dies, with a note beside it of who holds it.

`flock` and not a pid file: a pid file outlives a SIGKILL and then names a stranger.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any
from weakref import WeakSet


class FolderLock:
    """The exclusive right to use a folder for one purpose, held until `release` or the end of the process.

    `<folder>/<name>.lock` carries the lock and `<folder>/<name>.json` the note. The note stays when the lock
    is given back or its holder is killed: then it tells of the last holder.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._lock_path = folder / f"{name}.lock"
        self._note_path = folder / f"{name}.json"
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False when another holds it. Makes the folder. Raises OSError."""
        self._lock_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        _held.add(self)
        return True

    def release(self) -> None:
        """Give the lock back. Does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def write_note(self, note: dict[str, Any]) -> None:
        """Replace the note: a reader finds the old one or the new one, never half of it."""
        draft = self._note_path.with_suffix(".json.new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(note, file)
        draft.replace(self._note_path)

    def read_note(self) -> dict[str, Any]:
        """Return the note of the present holder, or of the last one; empty when there is none."""
        try:
            note = json.loads(self._note_path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}


def lock_for_children(path: Path) -> int:
    """Return a file descriptor with a lock on `path`, for processes to inherit.

    The lock is held until each process that has the descriptor has closed it or ended: no process id can be
    mistaken for that of another. Several may hold it together.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether somebody holds a `flock` on the file `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


_held: WeakSet[FolderLock] = WeakSet()


def _release_all() -> None:
    for lock in list(_held):
        lock.release()


# A forked child (gunicorn's workers) shares its parent's open files: it would keep the lock after the
# parent's death. Closing its copy frees nothing while the parent has the file open.
os.register_at_fork(after_in_child=_release_all)
