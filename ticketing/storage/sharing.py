"""What many threads want of MongoDB at once, several of them in one command.

An event's commands come one after the other, but those of many events come at the same time, and each would be a round
trip of its own. So whoever asks while others do waits a moment for more of them, and asks for all of them together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pymongo.errors import NetworkTimeout, PyMongoError

from ..clock import Clock, Signal
from .retries import attempt_s

GATHER_S = 0.0001
"""On an event loop: until all others have had their turn, a millisecond at most."""

SHARING_S_MIN = 0.5
"""Whoever has less time left asks alone: the time of one who asks for all is the time of all."""

Asked = TypeVar("Asked")
Given = TypeVar("Given")


class Share(Generic[Asked, Given]):
    """What one thread asks, and in the end what it was given, or its error."""

    __slots__ = ("asked", "error", "given", "signal")

    def __init__(self, asked: Asked, signal: Signal) -> None:
        self.asked = asked
        self.signal = signal
        self.given: Given | None = None
        self.error: Exception | None = None


class Sharing(Generic[Asked, Given]):
    """One kind of command. Safe to share between threads.

    `command` carries out the shares that it is given, in one go: it sets what each was given, or the error of one.
    What it raises is the error of all that have none; but of what is listed in `personal`, which is the doing of one
    of them, after which each is carried out by itself: let it be raised only where that does no harm.
    """

    def __init__(
        self,
        clock: Clock,
        command: Callable[[Sequence[Share[Asked, Given]]], None],
        personal: tuple[type[Exception], ...],
    ) -> None:
        self._clock = clock
        self._command = command
        self._personal = personal
        self._errors: tuple[type[Exception], ...] = (PyMongoError, *personal)
        # What waits to be carried out, and how many are under way or wait for it; guarded by the lock.
        self._lock = threading.Lock()
        self._waiting: list[Share[Asked, Given]] = []
        self._under_way = 0

    def ask(self, asked: Asked, deadline: float) -> Given | None:
        """Carry it out within one try, and return what it was given.

        `deadline` is a time on the clock's `monotonic()`. Raises what the command raises, and `NetworkTimeout` where
        whoever asked for all did not come back in time: then it is unknown whether it was carried out.
        """
        mine: Share[Asked, Given] = Share(asked, self._clock.signal())
        if attempt_s(self._clock, deadline) < SHARING_S_MIN:
            self._command([mine])
        else:
            self._share(mine, deadline)
        if mine.error is not None:
            raise mine.error
        return mine.given

    def _share(self, mine: Share[Asked, Given], deadline: float) -> None:
        with self._lock:
            self._under_way += 1
            is_alone = self._under_way == 1
            leads = not self._waiting
            self._waiting.append(mine)
        try:
            if leads:
                self._lead(is_alone)
            elif not mine.signal.wait(attempt_s(self._clock, deadline)):
                raise NetworkTimeout("those who asked together did not come back in time")
        finally:
            with self._lock:
                self._under_way -= 1

    def _lead(self, is_alone: bool) -> None:
        """Carry out all that waits; each is told what became of it, whatever happens here."""
        batch: list[Share[Asked, Given]] = []
        outcome: Exception | None = NetworkTimeout("interrupted")
        try:
            if not is_alone:
                self._clock.sleep(GATHER_S)
            batch = self._take()
            self._carry_out(batch)
            outcome = None
        except self._errors as error:
            outcome = error
        finally:
            batch = batch or self._take()
            for each in batch:
                each.error = each.error or outcome
                each.signal.set()

    def _take(self) -> list[Share[Asked, Given]]:
        with self._lock:
            batch, self._waiting = self._waiting, []
        return batch

    def _carry_out(self, batch: list[Share[Asked, Given]]) -> None:
        try:
            self._command(batch)
        except self._personal:
            if len(batch) == 1:
                raise
            for each in batch:
                self._carry_out_alone(each)

    def _carry_out_alone(self, each: Share[Asked, Given]) -> None:
        try:
            self._command([each])
        except Exception as error:
            each.error = error
