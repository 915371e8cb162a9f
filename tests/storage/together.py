"""Test support: many threads that ask at once, so that all but the first share a command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ticketing.clock import SystemClock
from ticketing.storage.sharing import Sharing


class GatheringClock(SystemClock):
    """Who gathers others waits until as many as the test wants are there."""

    def __init__(self) -> None:
        self.all_are_there = threading.Event()

    def sleep(self, seconds: float) -> None:
        """Wait for the test."""
        assert self.all_are_there.wait(10)


class FirstWaits:
    """Holds up the first command of a test until the others have gathered."""

    def __init__(self) -> None:
        self.sizes: list[int] = []  # of each command: how many share it
        self._may_go_on = threading.Event()

    def pass_with(self, size: int) -> None:
        """A command begins that so many share."""
        self.sizes.append(size)
        assert self._may_go_on.wait(10)

    def let_go(self) -> None:
        """All may go on."""
        self._may_go_on.set()


def at_once(
    calls: Sequence[Callable[[], Any]], sharing: Sharing[Any, Any], clock: GatheringClock, first: FirstWaits
) -> list[Any]:
    """What each call returns or raises: the first alone, the others while it is under way, each by its own thread."""
    outcomes: list[Any] = [None] * len(calls)

    def ask(place: int) -> None:
        try:
            outcomes[place] = calls[place]()
        except Exception as error:
            outcomes[place] = error

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(calls))]
    threads[0].start()
    until(lambda: first.sizes == [1])
    for number, thread in enumerate(threads[1:], start=1):
        thread.start()
        until(lambda number=number: len(sharing._waiting) == number)  # type: ignore[misc]
    clock.all_are_there.set()
    first.let_go()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return outcomes


def until(is_so: Callable[[], bool]) -> None:
    """Wait for that, for ten seconds at most."""
    ready = threading.Event()
    for _ in range(10_000):
        if is_so():
            return
        ready.wait(0.001)
    raise AssertionError("it did not happen in time")
