"""Which Idempotency-Keys the ledgers know already, for many askers in one command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bson.errors import InvalidBSON
from pymongo.collection import Collection

from ..clock import Clock
from .sharing import Share, Sharing
from .strays import reading_anything

Document = dict[str, Any]
Keys = frozenset[bytes]
EventsByKey = dict[bytes, set[str]]

FIELDS = {"transitions.request.key": 1}


class KnownKeys:
    """The keys in the ledgers of all events. Safe to share between threads."""

    def __init__(self, collection: Collection[Document], clock: Clock) -> None:
        # An event's id that is no UTF-8 is another than the one that is asked for, whatever is put in its place.
        self._collection = reading_anything(collection)
        self._sharing = Sharing[Keys, EventsByKey](clock, self._find, personal=(InvalidBSON,))

    def events_with(self, keys: Keys, deadline: float) -> EventsByKey:
        """Which of the keys were used, and in the ledgers of which events, by one try.

        `deadline` is a time on the clock's `monotonic()`. Raises what the driver raises. Asked for one event, it looks
        into all of them: a commit of another that is damaged is no error here.
        """
        return self._sharing.ask(keys, deadline) or {}

    def _find(self, batch: Sequence[Share[Keys, EventsByKey]]) -> None:
        wanted = Keys().union(*(each.asked for each in batch))
        found: EventsByKey = {}
        for document in self._collection.find({"transitions.request.key": {"$in": list(wanted)}}, FIELDS):
            event_id = str(document["_id"]).partition(":")[0]
            for key in wanted.intersection(_binaries(document["transitions"])):
                found.setdefault(key, set()).add(event_id)
        for each in batch:
            each.given = {key: found[key] for key in each.asked if key in found}


def _binaries(value: Any) -> Iterator[bytes]:
    """All binary values in a part of a document, however deep and of whatever form it is."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _binaries(part)
