"""What is read beside the caller's work: MongoDB looks for the next page while this one is folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ..clock import Clock
from ..errors import StorageUnavailable

T = TypeVar("T")


class Ahead(Generic[T]):
    """The result of `read`, which is begun at once by a thread of its own."""

    def __init__(self, clock: Clock, read: Callable[[], T]) -> None:
        self._clock = clock
        self._read = read
        self._is_there = clock.signal()
        self._found: list[T] = []
        self._error: Exception = StorageUnavailable()  # so it is if the reader is killed
        clock.start(self._run)

    def get(self, deadline: float) -> T:
        """Wait for it. Raises what `read` raised, and `StorageUnavailable` when the deadline passes."""
        if not self._is_there.wait(deadline - self._clock.monotonic()):
            raise StorageUnavailable
        if not self._found:
            raise self._error
        return self._found[0]

    def _run(self) -> None:
        try:
            self._found.append(self._read())
        except Exception as error:
            self._error = error
        finally:
            self._is_there.set()
