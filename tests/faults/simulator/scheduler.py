"""Virtual time and cooperative tasks. Nothing here waits for real: when all tasks sleep, time jumps.

A task is a greenlet, so the code under test is the real, synchronous one; it changes tasks only where it would
block: in a sleep, in a wait for a signal, in a call to the simulated MongoDB.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from greenlet import getcurrent, greenlet

START = datetime(2027, 1, 1, tzinfo=UTC)


class Scheduler:
    """Runs tasks one at a time, in order of their wake-up times and, for equal times, in an order by the seed."""

    def __init__(self, rng: random.Random) -> None:
        self.time_s = 0.0
        self.steps = 0
        self._rng = rng
        self._hub = getcurrent()
        self._ready: list[tuple[float, float, int, Task]] = []
        self._sequence = 0

    def spawn(self, name: str, run: Callable[[], None], after_s: float = 0.0) -> Task:
        """Let `run` begin in `after_s` seconds."""
        task = Task(name, run, self._hub)
        self._wake_at(self.time_s + after_s, task)
        return task

    def call_later(self, after_s: float, function: Callable[[], None]) -> None:
        """Let the world do something in `after_s` seconds, whoever runs then."""
        self.spawn("world", function, after_s)

    def sleep(self, seconds: float) -> None:
        """Let others run for so long."""
        self._wake_at(self.time_s + max(0.0, seconds), current())
        self._hub.switch()

    def run(self, until_s: float) -> None:
        """Until nothing is left to do. Raises if that takes longer than `until_s` of virtual time."""
        while self._ready:
            time_s, _, wake, task = heapq.heappop(self._ready)
            if task.is_dead or wake != task.next_wake:
                continue
            assert time_s <= until_s, f"the world does not come to rest, {task.name} runs on"
            self.time_s = time_s
            self.steps += 1
            task.run()

    def wake(self, task: Task) -> None:
        """Let a waiting task go on now."""
        self._wake_at(self.time_s, task)

    def park(self, until_s: float) -> None:
        """Wait to be woken, until a time at the latest."""
        self._wake_at(until_s, current())
        self._hub.switch()

    def _wake_at(self, time_s: float, task: Task) -> None:
        self._sequence += 1
        task.next_wake = self._sequence  # a later wake-up replaces the earlier one
        heapq.heappush(self._ready, (time_s, self._rng.random(), self._sequence, task))


class Task:
    """A thread of the simulated world. A dead one is never run again: that is what a crash is."""

    def __init__(self, name: str, run: Callable[[], None], hub: greenlet) -> None:
        self.name = name
        self.is_dead = False
        self.next_wake = 0
        self._greenlet = greenlet(run, hub)
        _TASKS[self._greenlet] = self

    def run(self) -> None:
        self._greenlet.switch()
        if self._greenlet.dead:
            self.is_dead = True
            _TASKS.pop(self._greenlet, None)


_TASKS: dict[greenlet, Task] = {}


def current() -> Task:
    """The task that runs now."""
    return _TASKS[getcurrent()]


def forget_all() -> None:
    """End the tasks of a finished world, those that crashed too: what they hold of this process, they give back.

    Else the garbage collector, which a long fold pauses, would stay off after a crash in the middle of one.
    """
    for unfinished in list(_TASKS):
        unfinished.throw()
    _TASKS.clear()


class SimulatedClock:
    """The `Clock` of ticketing.clock on virtual time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now(self) -> datetime:
        return START + timedelta(milliseconds=int(self._scheduler.time_s * 1000))

    def monotonic(self) -> float:
        return self._scheduler.time_s

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds)

    def signal(self) -> SimulatedSignal:
        return SimulatedSignal(self._scheduler)

    def start(self, work: Callable[[], None]) -> None:
        self._scheduler.spawn("beside", work)


class SimulatedSignal:
    """The `Signal` of ticketing.clock on virtual time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_set = False
        self._waiting: Task | None = None

    def wait(self, seconds: float) -> bool:
        until_s = self._scheduler.time_s + max(0.0, seconds)
        while not self._is_set and self._scheduler.time_s < until_s:
            self._waiting = current()
            self._scheduler.park(until_s)
        self._waiting = None
        was_set, self._is_set = self._is_set, False
        return was_set

    def set(self) -> None:
        self._is_set = True
        if self._waiting is not None and not self._waiting.is_dead:
            self._scheduler.wake(self._waiting)
