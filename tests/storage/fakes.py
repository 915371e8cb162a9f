"""Test support: a clock that is told what time it is, and a collection whose answers get lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pymongo.collection import Collection

from ticketing.clock import LockSignal, Signal

Document = dict[str, Any]
Insert = Callable[[Document], Any]
Fault = Callable[[Insert, Document], Any]


class FakeClock:
    """Sleeping takes no time: it only moves the clock on."""

    def __init__(self) -> None:
        self.monotonic_s = 1_000.0
        self.slept_s: list[float] = []

    def now(self) -> datetime:
        return datetime(2027, 1, 1, 20, 0, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.monotonic_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.monotonic_s += seconds

    def signal(self) -> Signal:
        return LockSignal()

    def start(self, work: Callable[[], None]) -> None:
        work()


class FaultyCollection:
    """A real collection, seen through a network on which answers and requests get lost.

    `inserts` holds one fault for each insert to come, `finds` an error for each read, None to let it through;
    `find_ones` an error or a result, `PASS` to let it through. At the end of a list all goes through.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection
        self.inserts: list[Fault | None] = []
        self.finds: list[Exception | None] = []
        self.find_ones: list[Any] = []
        self.calls: list[str] = []

    def with_options(self, **options: Any) -> Any:
        raise NotImplementedError  # as mongomock: it is the same

    def insert_one(self, document: Document) -> Any:
        self.calls.append("insert_one")
        fault = self.inserts.pop(0) if self.inserts else None
        if fault is None:
            return self.collection.insert_one(document)
        return fault(self.collection.insert_one, document)

    def find(self, *args: Any, **options: Any) -> Any:
        self._pass_find()
        return self.collection.find(*args, **options)

    def find_raw_batches(self, *args: Any, **options: Any) -> Any:
        self._pass_find()
        return self.collection.find_raw_batches(*args, **options)

    def find_one(self, *args: Any, **options: Any) -> Any:
        self.calls.append("find_one")
        result = self.find_ones.pop(0) if self.find_ones else PASS
        if isinstance(result, Exception):
            raise result
        return self.collection.find_one(*args, **options) if result is PASS else result

    def _pass_find(self) -> None:
        self.calls.append("find")
        error = self.finds.pop(0) if self.finds else None
        if error is not None:
            raise error


PASS = object()
"""In `find_ones`: let this read through. (None is a result: nothing found.)"""


def lost_request(error: Exception) -> Fault:
    """The insert never arrives."""

    def fault(insert: Insert, document: Document) -> Any:
        raise error

    return fault


def lost_answer(error: Exception) -> Fault:
    """The insert happens, and its answer does not arrive."""

    def fault(insert: Insert, document: Document) -> Any:
        insert(document)
        raise error

    return fault


def overtaken(error: Exception, rival: Callable[[], Any]) -> Fault:
    """The insert does not arrive, and somebody else acts in the meantime."""

    def fault(insert: Insert, document: Document) -> Any:
        rival()
        raise error

    return fault
