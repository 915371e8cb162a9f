"""Where a user's name stands in the ledgers, and its replacement by a pseudonym: the one change of what was written.

A ledger reads the same before, during and after it: whose orders are whose is said by the transition `pseudonymized`,
and that holds for the name as for the pseudonym.
"""

from __future__ import annotations

from typing import Any

from pymongo.collection import Collection

from ..clock import Clock
from .documents import ledger_id
from .retries import retried


class Names:
    """The names in all ledgers. Safe to share between threads.

    A `deadline` is a time on the clock's `monotonic()`. Past it both methods raise `StorageUnavailable`.
    """

    def __init__(self, collection: Collection[dict[str, Any]], clock: Clock) -> None:
        self._collection = collection
        self._clock = clock

    def events_naming(self, user_id: str, deadline: float) -> list[str]:
        """The events with orders of this user, or with changes that he made."""
        query = {"$or": [{"transitions.orders.user_id": user_id}, {"transitions.by": user_id}]}
        found: list[str] = retried(self._clock, deadline, lambda: self._collection.distinct("event_id", query))
        return sorted(found)

    def replace(self, event_id: str, version: int, user_id: str, pseudonym: str, deadline: float) -> None:
        """Put the pseudonym in the place of the name, in the transitions of this event up to a version.

        At that version nothing may be the name's any more: what came later, in the same commit too, is somebody else's.
        May be repeated.
        """
        commits = {"_id": {"$gt": f"{event_id}:", "$lte": ledger_id(event_id, version)}}
        until = {"$lte": version}

        def replace_makers() -> None:
            self._collection.update_many(
                commits | {"transitions.by": user_id},
                {"$set": {"transitions.$[made].by": pseudonym}},
                array_filters=[{"made.by": user_id, "made.version": until}],
            )

        def replace_owners() -> None:
            self._collection.update_many(
                commits | {"transitions.orders.user_id": user_id},
                {"$set": {"transitions.$[changing].orders.$[owned].user_id": pseudonym}},
                # The first passes by transitions that have no orders: MongoDB refuses to look into those.
                array_filters=[
                    {"changing.orders.user_id": user_id, "changing.version": until},
                    {"owned.user_id": user_id},
                ],
            )

        retried(self._clock, deadline, replace_makers, "pseudonym")
        retried(self._clock, deadline, replace_owners, "pseudonym")
