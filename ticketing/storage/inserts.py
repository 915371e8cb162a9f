"""Documents that many threads insert at once, several of them in one command.

An event's commits come one after the other, but those of many events come at the same time, and each would be a command
and a round trip of its own. So whoever inserts while others do waits a moment for more of them, and sends all of them
together, in no order: each document is in or not by itself.
"""

from __future__ import annotations

import threading
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError, NetworkTimeout, OperationFailure, PyMongoError

from ..clock import Clock, Signal
from .retries import attempt_s

Document = dict[str, Any]

GATHER_S = 0.0001
"""On an event loop: until all others have had their turn, a millisecond at most."""

DUPLICATE_KEY = 11000

SHARING_S_MIN = 0.5
"""Whoever has less time left inserts alone: the time of one who sends for all is the time of all."""


class SharedInserts:
    """Inserts into one collection. Safe to share between threads."""

    def __init__(self, collection: Collection[Document], clock: Clock) -> None:
        self._collection = collection
        self._clock = clock
        # What waits to be sent, and how many are being inserted or wait for it; guarded by the lock.
        self._lock = threading.Lock()
        self._waiting: list[_Insert] = []
        self._under_way = 0

    def insert_one(self, document: Document, deadline: float) -> None:
        """Insert a document within one try.

        `deadline` is a time on the clock's `monotonic()`. Raises what the collection's `insert_one` raises:
        `DuplicateKeyError` for an id that is taken, and another `PyMongoError` where it is unknown whether it is in.
        """
        if attempt_s(self._clock, deadline) < SHARING_S_MIN:
            self._collection.insert_one(document)
            return
        mine = _Insert(document, self._clock.signal())
        with self._lock:
            self._under_way += 1
            is_alone = self._under_way == 1
            leads = not self._waiting
            self._waiting.append(mine)
        try:
            if leads:
                self._send(is_alone)
            elif not mine.signal.wait(attempt_s(self._clock, deadline)):
                raise NetworkTimeout("those who insert together did not come back in time")
        finally:
            with self._lock:
                self._under_way -= 1
        if mine.error is not None:
            raise mine.error

    def _send(self, is_alone: bool) -> None:
        """Insert all that waits; each is told what became of it, whatever happens here."""
        batch: list[_Insert] = []
        outcome: Exception | None = NetworkTimeout("interrupted")
        try:
            if not is_alone:
                self._clock.sleep(GATHER_S)
            batch = self._take()
            self._insert(batch)
            outcome = None
        except PyMongoError as error:
            outcome = error
        finally:
            batch = batch or self._take()
            for each in batch:
                each.error = each.error or outcome
                each.signal.set()

    def _take(self) -> list[_Insert]:
        with self._lock:
            batch, self._waiting = self._waiting, []
        return batch

    def _insert(self, batch: list[_Insert]) -> None:
        if len(batch) == 1:
            self._collection.insert_one(batch[0].document)
            return
        try:
            self._collection.insert_many([each.document for each in batch], ordered=False)
        except BulkWriteError as error:
            details: dict[str, Any] = dict(error.details or {})
            for wrong in details["writeErrors"]:
                batch[wrong["index"]].error = _error_of(wrong)
            if details["writeConcernErrors"] or details["nInserted"] + len(details["writeErrors"]) < len(batch):
                raise  # whether the others are in, or will stay, is unknown
        except PyMongoError:
            raise
        except Exception:  # one of them cannot be sent at all: it must not keep back those of others
            for each in batch:
                self._insert_alone(each)

    def _insert_alone(self, each: _Insert) -> None:
        try:
            self._collection.insert_one(each.document)
        except Exception as error:
            each.error = error


class _Insert:
    """A document on its way, and in the end its error, if any."""

    __slots__ = ("document", "error", "signal")

    def __init__(self, document: Document, signal: Signal) -> None:
        self.document = document
        self.signal = signal
        self.error: Exception | None = None


def _error_of(wrong: dict[str, Any]) -> PyMongoError:
    """What the server says of one document, as `insert_one` would raise it."""
    kind = DuplicateKeyError if wrong["code"] == DUPLICATE_KEY else OperationFailure
    return kind(wrong["errmsg"], wrong["code"], wrong)
