"""Time, waiting and work side by side, as an argument: the tests and the simulator bring a clock of their own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol

# A sleep that only gives others their turn. More than nothing: after no time at all gevent looks whether there is
# something on its sockets only once in 50 turns.
TURN_S = 1e-6

PAUSE_MIN_S = 0.002
PAUSE_MAX_S = 0.2


class Signal(Protocol):
    """What one thread waits for and another sets. Waiting for it takes it back."""

    def wait(self, seconds: float) -> bool:
        """Until it is set; False when that took longer than `seconds`."""

    def set(self) -> None:
        """Let the thread that waits go on, or the next one that will."""


class Clock(Protocol):
    """What the service asks of a clock."""

    def now(self) -> datetime:
        """The time for people: UTC, whole milliseconds, as MongoDB keeps it. Nothing is ordered by it."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back, for deadlines."""

    def sleep(self, seconds: float) -> None:
        """Let others work for so long."""

    def signal(self) -> Signal:
        """A new signal, not set."""

    def start(self, work: Callable[[], None]) -> None:
        """Let `work` be carried out beside the caller's own."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def signal(self) -> Signal:
        return LockSignal()

    def start(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, daemon=True).start()


class LockSignal:
    """A lock that starts taken: the cheapest thing that a thread can wait for (there is one for each request).

    One thread waits; others may set it, one after the other.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, seconds: float) -> bool:
        return self._lock.acquire(timeout=max(0.0, seconds))

    def set(self) -> None:
        if self._lock.locked():
            self._lock.release()


def tries(clock: Clock, deadline: float) -> Iterator[None]:
    """One turn for each try until the deadline (on `clock.monotonic()`), with a pause before each but the first.

    The pauses double, and are spread, so that those who wait for the same thing do not march in step.
    """
    pause_s = PAUSE_MIN_S
    while clock.monotonic() < deadline:
        yield
        left_s = deadline - clock.monotonic()
        clock.sleep(max(0.0, min(left_s, random.uniform(0.5, 1.0) * pause_s)))
        pause_s = min(PAUSE_MAX_S, 2 * pause_s)
