"""Compactor: writes the segments of long ledgers, beside everything else that a worker does.

From segments a worker that meets a crowded event for the first time, after a reload as after a crash, reads it in some
half of the time. Nothing waits for them, and nothing is lost without them.
"""

from __future__ import annotations

import logging
import random
import threading
from functools import partial
from typing import Protocol

from .clock import Clock
from .errors import StorageUnavailable

log = logging.getLogger(__name__)

# Transitions that may be in no segment yet: some tenths of a second for who has to read them.
BEHIND_MAX = 10_000

# All workers notice at about the same time. The first to begin writes; the others find it done, or go on from there.
BEGIN_WITHIN_S = 2.0

EXTEND_S = 30.0
"""What one segment may take."""


class Segments(Protocol):
    """What stands in the storage; see storage/segments.py."""

    def extend(self, event_id: str, deadline: float) -> bool:
        """Write the next segment of an event. False: there is not enough for one."""


def extend_fully(segments: Segments, event_id: str, clock: Clock) -> None:
    """Write all segments of an event that there is enough for. Raises `StorageUnavailable`."""
    while segments.extend(event_id, clock.monotonic() + EXTEND_S):
        pass


class Compactor:
    """Follows the events of a worker. Thread-safe. It does nothing before `start`, and ends soon after `stop`."""

    def __init__(self, segments: Segments, clock: Clock) -> None:
        self._segments = segments
        self._clock = clock
        self._lock = threading.Lock()
        self._is_on = False
        self._is_busy = False
        self._looked_at: dict[str, int] = {}  # the version at which the segments of an event were brought up to date

    def start(self) -> None:
        """Begin to follow. For processes that serve: one that is about to end would leave its work half done."""
        self._is_on = True

    def stop(self) -> None:
        """Begin nothing any more."""
        self._is_on = False

    def notice(self, event_id: str, version: int) -> None:
        """An event has come to a version. It waits for nothing; one event at a time is worked on."""
        if version - self._looked_at.get(event_id, 0) < BEHIND_MAX:
            return
        with self._lock:
            if not self._is_on or self._is_busy:
                return
            self._is_busy = True
            self._looked_at[event_id] = version
        try:
            self._clock.start(partial(self._compact, event_id))
        except RuntimeError:  # no thread can be started now
            log.exception("segments not written", extra={"event_id": event_id})
            self._is_busy = False

    def _compact(self, event_id: str) -> None:
        try:
            self._clock.sleep(random.uniform(0, BEGIN_WITHIN_S))
            while self._is_on and self._segments.extend(event_id, self._clock.monotonic() + EXTEND_S):
                pass
        except StorageUnavailable:
            log.warning("segments not written, the storage is away", extra={"event_id": event_id})
        except Exception:
            log.exception("segments not written", extra={"event_id": event_id})
        finally:
            self._is_busy = False
