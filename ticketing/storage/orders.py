"""Orders in the ledgers: those of a user over all events, and what happened to one. Found by index, without folding."""

from __future__ import annotations

from typing import Any

from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from pymongo.collection import Collection

from ..clock import Clock
from ..domain.fold import LedgerContradiction
from ..domain.model import Transition
from .documents import ledger_id, transitions_of
from .retries import retried

Document = dict[str, Any]


class Orders:
    """The orders in all ledgers. Safe to share between threads.

    `ledger` comes with the concerns of `ledger_collection`. A `deadline` is a time on the clock's `monotonic()`; past
    it both methods raise `StorageUnavailable`.
    """

    def __init__(self, ledger: Collection[Document], clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def ids_of(self, user_id: str, start: str, limit: int, deadline: float) -> list[str]:
        """The first `limit` ids from `start` on of orders that are this user's, or were: sorted, so event by event."""
        owned = {"transitions.orders.user_id": user_id}
        pipeline: list[Document] = [
            {"$match": owned},
            {"$project": {"transitions.orders.order_id": 1, "transitions.orders.user_id": 1}},
            {"$unwind": "$transitions"},
            {"$unwind": "$transitions.orders"},
            {"$match": {**owned, "transitions.orders.order_id": {"$gte": start}}},
            {"$group": {"_id": "$transitions.orders.order_id"}},
            {"$sort": {"_id": 1}},
            {"$limit": limit},
        ]
        # What is no UTF-8 is no order's id, and must not keep the user's others from being listed.
        options = CodecOptions[Document](unicode_decode_error_handler="replace")
        ledger = self._ledger.with_options(codec_options=options)
        found = retried(self._clock, deadline, lambda: list(ledger.aggregate(pipeline)), "orders of a user")
        return [str(each["_id"]) for each in found]

    def transitions_of(self, event_id: str, order_id: str, until: int, deadline: float) -> list[Transition]:
        """The transitions that name this order, up to version `until`, in order.

        Looks through the event's commits, but only in the database. Raises `LedgerContradiction` for a damaged one.
        """
        naming = {"transitions.orders.order_id": order_id}
        # ':' alone comes before all commits of the event.
        pipeline: list[Document] = [
            {"$match": {"_id": {"$gt": f"{event_id}:", "$lte": ledger_id(event_id, until)}, **naming}},
            {"$sort": {"_id": 1}},
            {"$unwind": "$transitions"},
            {"$match": naming},
            {"$project": {"transitions": 1}},
        ]
        try:
            found = retried(self._clock, deadline, lambda: list(self._ledger.aggregate(pipeline)), "order's history")
            return transitions_of([each["transitions"] for each in found])
        except (InvalidBSON, AttributeError, KeyError, TypeError, ValueError) as error:
            raise LedgerContradiction(f"event {event_id!r}: a commit that names {order_id}: {error!r}") from error
