"""Documents that many threads insert at once, in one command: each is in or not by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from ..clock import Clock
from .sharing import Share, Sharing

Document = dict[str, Any] | RawBSONDocument

DUPLICATE_KEY = 11000


class SharedInserts:
    """Inserts into one collection. Safe to share between threads."""

    def __init__(self, collection: Collection[dict[str, Any]], clock: Clock) -> None:
        self._collection = collection
        # What is found wrong while a document is encoded: nothing has been sent.
        self._sharing = Sharing(clock, self._insert, personal=(InvalidDocument, OverflowError))

    def insert_one(self, document: Document, deadline: float) -> None:
        """Insert a document within one try.

        `deadline` is a time on the clock's `monotonic()`. Raises what the collection's `insert_one` raises:
        `DuplicateKeyError` for an id that is taken, and another `PyMongoError` where it is unknown whether it is in.
        """
        self._sharing.ask(document, deadline)

    def _insert(self, batch: Sequence[Share[Document, None]]) -> None:
        if len(batch) == 1:
            self._collection.insert_one(batch[0].asked)
            return
        try:
            # In no order: those after one whose place is taken would not be tried.
            self._collection.insert_many([each.asked for each in batch], ordered=False)
        except BulkWriteError as error:
            details: dict[str, Any] = dict(error.details or {})
            for wrong in details["writeErrors"]:
                batch[wrong["index"]].error = _error_of(wrong)
            if details["writeConcernErrors"] or details["nInserted"] + len(details["writeErrors"]) < len(batch):
                raise  # whether the others are in, or will stay, is unknown


def _error_of(wrong: dict[str, Any]) -> PyMongoError:
    """What the server says of one document, as `insert_one` would raise it."""
    kind = DuplicateKeyError if wrong["code"] == DUPLICATE_KEY else OperationFailure
    return kind(wrong["errmsg"], wrong["code"], wrong)
