"""Orders in the ledgers: those of a user over all events, and what happened to one. Found by index, without folding."""

from __future__ import annotations

from typing import Any

from pymongo.collection import Collection

from ..clock import Clock
from ..domain.fold import LedgerContradiction
from ..domain.model import Transition
from ..ids import ORDER_ID_PATTERN
from .checksums import find_checked
from .documents import NOT_A_COMMIT, ledger_id, transitions_of
from .retries import retried

Document = dict[str, Any]

# What is damaged to something else must not keep the user's others from being listed, nor be a place in the list.
# (To MongoDB a list of ids has the form of one.)
_IS_ORDER_ID = {"$regex": rf"^({ORDER_ID_PATTERN.pattern})\z", "$not": {"$type": "array"}}


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
            {"$match": {**owned, "transitions.orders.order_id": {"$gte": start, **_IS_ORDER_ID}}},
            {"$group": {"_id": "$transitions.orders.order_id"}},
            {"$sort": {"_id": 1}},
            {"$limit": limit},
        ]
        found = retried(self._clock, deadline, lambda: list(self._ledger.aggregate(pipeline)), "orders of a user")
        return [each["_id"] for each in found]

    def transitions_of(self, event_id: str, order_id: str, until: int, deadline: float) -> list[Transition]:
        """The transitions that name this order, up to version `until`, in order.

        Looks through the event's commits, but only in the database. Those that name the order come whole, for their
        checksums are about all of them. Raises `LedgerContradiction` for a damaged one.
        """
        # ':' alone comes before all commits of the event.
        commit_ids = {"$gt": f"{event_id}:", "$lte": ledger_id(event_id, until)}
        query = {"_id": commit_ids, "transitions.orders.order_id": order_id}
        try:
            found = retried(self._clock, deadline, lambda: find_checked(self._ledger, query, 0), "order's history")
            parts = [part for commit in found for part in commit["transitions"] if _names(part, order_id)]
            return transitions_of(parts)
        except NOT_A_COMMIT as error:
            raise LedgerContradiction(f"event {event_id!r}: a commit that names {order_id}: {error!r}") from error


def _names(part: Document, order_id: str) -> bool:
    return any(change["order_id"] == order_id for change in part.get("orders", ()))
