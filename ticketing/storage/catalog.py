"""The catalog: all events, in the order in which they begin. It reads no ledger.

An event's details stand in the few commits that set them, which have an index of their own; its counts stand in its
last commit, one step back along the index of `_id`. So a page costs a look at the details of all events and a step for
each event shown, however many tickets were sold.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime
from itertools import groupby, takewhile
from operator import itemgetter
from typing import Any, NamedTuple

from pymongo.collection import Collection

from ..clock import Clock
from ..domain.fold import LedgerContradiction, is_count
from ..domain.model import EventStatus
from ..domain.summary import SummarizedEvent, Summary, event_of
from ..ids import EVENT_ID_PATTERN
from .documents import times_in_utc, transitions_of
from .ledger import COLLECTION
from .retries import retried
from .strays import reading_anything

log = logging.getLogger(__name__)

Document = dict[str, Any]

_TIMES = ("starts_at", "ends_at", "sales_open_at", "sales_close_at", "cancelled_at")
_SEARCHED = ("name", "venue", "description")

NO_START_MS = 2**53
"""Where an event without a time stands: after all that have one."""

# `$min` passes null by. What is no date is none at all.
_STARTS_MS = {
    "$max": [
        -NO_START_MS,
        {"$min": [NO_START_MS, {"$convert": {"input": "$event.starts_at", "to": "long", "onError": None}}]},
    ]
}

LOOKS_MAX = 500
"""How many events a page looks at: each is a step along an index, some 0.3 ms."""

_SETS_EVENT = {"transitions.event": {"$exists": True}}  # word for word the condition of the index

_EVENT_ID = rf"^({EVENT_ID_PATTERN.pattern})\z"

# Only commits that stand under the event that they name are a part of its details. Not with `$concat` alone: what fails
# for one damaged document fails for the whole list.
_IS_OWN = {
    "$let": {
        "vars": {"event_id": {"$cond": [{"$eq": [{"$type": "$event_id"}, "string"]}, "$event_id", ""]}},
        "in": {
            "$and": [
                {"$gt": ["$_id", {"$concat": ["$$event_id", ":"]}]},
                {"$lt": ["$_id", {"$concat": ["$$event_id", ";"]}]},
            ]
        },
    }
}


class Place(NamedTuple):
    """What the catalog is sorted by. `starts_ms`: milliseconds since 1970, or `NO_START_MS`."""

    starts_ms: int
    event_id: str


class Listed(NamedTuple):
    """A page of the catalog, and the place to go on from; None after the last event.

    An event comes with None where its ledger must be folded to know it: its last commit has no summary (earlier
    versions wrote none), or is damaged. It may have another status than the one that was asked for.
    """

    events: list[tuple[str, SummarizedEvent | None]]
    next: Place | None


class Catalog:
    """All events. Safe to share between threads.

    `ledger` comes with the concerns of `ledger_collection`: what was answered before is seen.
    """

    def __init__(self, ledger: Collection[Document], clock: Clock) -> None:
        self._ledger = reading_anything(ledger)
        self._clock = clock

    def page(
        self,
        limit: int,
        at: datetime,
        deadline: float,
        *,
        status: EventStatus | None = None,
        text: str | None = None,
        after: Place | None = None,
    ) -> Listed:
        """Up to `limit` events after a place, of a status at `at`, with a text in name, venue or description.

        No more than `LOOKS_MAX` are looked at, so a page may be short though it is not the last one. `deadline` is a
        time on the clock's `monotonic()`. Raises `StorageUnavailable` when it passes.
        """
        found, next_place = retried(
            self._clock, deadline, lambda: self._find(limit, status, _pipeline(at, status, text, after)), "catalog"
        )
        details = retried(self._clock, deadline, lambda: self._details([each["_id"] for each in found]), "catalog")
        return Listed([(each["_id"], _summarized(each, details.get(each["_id"], []))) for each in found], next_place)

    def _find(
        self, limit: int, status: EventStatus | None, pipeline: list[Document]
    ) -> tuple[list[Document], Place | None]:
        found: list[Document] = []
        place: Place | None = None
        with self._ledger.aggregate(pipeline, batchSize=limit + 1) as looked_at:
            for looks, each in enumerate(looked_at):
                if len(found) == limit or looks == LOOKS_MAX:
                    return found, place
                place = Place(each["starts_ms"], each["_id"])
                if _may_be(status, _summary(each)):
                    found.append(each)
        return found, None

    def _details(self, event_ids: list[str]) -> dict[str, list[Document]]:
        """The commits that set something of these events, in order."""
        query = {"event_id": {"$in": event_ids}, **_SETS_EVENT, "$expr": _IS_OWN}
        # Sorted here, for the index is in another order, and they are few.
        commits = sorted(self._ledger.find(query, {"event_id": True, "transitions": True}), key=itemgetter("_id"))
        return {event_id: list(group) for event_id, group in groupby(commits, itemgetter("event_id"))}


def _pipeline(at: datetime, status: EventStatus | None, text: str | None, after: Place | None) -> list[Document]:
    needed = _TIMES if text is None else (*_TIMES, *_SEARCHED)  # to carry all texts along takes as long as all else
    return [
        # A document an event, with its details. They are merged in the order in which they were set.
        {"$match": _SETS_EVENT},
        {"$sort": {"event_id": 1, "first": 1}},
        {"$project": {"event_id": 1} | {f"transitions.event.{name}": 1 for name in needed}},
        {"$unwind": "$transitions"},
        {"$match": {"transitions.event": {"$type": "object"}, "$expr": _IS_OWN}},
        {"$group": {"_id": "$event_id", "event": {"$mergeObjects": "$transitions.event"}}},
        {"$match": {"_id": {"$regex": _EVENT_ID}, **_with_text(text), **_with_status(status, at)}},
        {"$project": {"starts_ms": _STARTS_MS}},
        {"$match": _behind(after)},
        {"$sort": {"starts_ms": 1, "_id": 1}},
        {"$limit": LOOKS_MAX + 1},
        # Its last commit; looked up a batch at a time, as far as the page is read.
        {
            "$lookup": {
                "from": COLLECTION,
                "let": {"begin": {"$concat": ["$_id", ":"]}, "end": {"$concat": ["$_id", ";"]}},
                "pipeline": [
                    {"$match": {"$expr": {"$and": [{"$gt": ["$_id", "$$begin"]}, {"$lt": ["$_id", "$$end"]}]}}},
                    {"$sort": {"_id": -1}},
                    {"$limit": 1},
                    {"$project": {"event_id": 1, "last": 1, "after": 1}},
                ],
                "as": "end",
            }
        },
    ]


def _with_text(text: str | None) -> Document:
    """The text as it is, in any case: none of its characters has a meaning of its own."""
    if text is None:
        return {}
    pattern = {"$regex": re.escape(text), "$options": "i"}
    return {"$or": [{f"event.{name}": pattern} for name in _SEARCHED]}


def _with_status(status: EventStatus | None, at: datetime) -> Document:
    """`Event.status_at` as a query, as far as that can be known without the counts: the first that holds is it."""
    conditions: dict[EventStatus, Document] = {
        EventStatus.CANCELLED: {"event.cancelled_at": {"$ne": None}},
        EventStatus.ENDED: {"event.ends_at": {"$lte": at}},
        EventStatus.SALES_CLOSED: {"event.sales_close_at": {"$lte": at}},
        EventStatus.SCHEDULED: {"event.sales_open_at": {"$gt": at}},
    }
    if status is None:
        return {}
    earlier = [conditions[each] for each in takewhile(lambda each: each is not status, conditions)]
    return conditions.get(status, {}) | ({"$nor": earlier} if earlier else {})


def _behind(place: Place | None) -> Document:
    if place is None:
        return {}
    starts_ms, event_id = place
    return {"$or": [{"starts_ms": {"$gt": starts_ms}}, {"starts_ms": starts_ms, "_id": {"$gt": event_id}}]}


def _may_be(status: EventStatus | None, summary: Summary | None) -> bool:
    """Whether an event with this summary may have a status that depends on whether tickets are left."""
    if status not in (EventStatus.ON_SALE, EventStatus.SOLD_OUT) or summary is None:  # then only its ledger can tell
        return True
    return (summary.available > 0) == (status is EventStatus.ON_SALE)


def _summary(found: Document) -> Summary | None:
    """What the last commit of an event says of it; None where it says nothing, or what no commit says."""
    try:
        (end,) = found["end"]
        (updated_at,) = times_in_utc([end["after"]["updated_at"]])
        summary = Summary(**end["after"] | {"updated_at": updated_at})
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    if end.get("event_id") != found["_id"]:
        return None
    counts = (summary.booked, summary.available, summary.waiting)
    return summary if all(type(count) is not bool and (count == 0 or is_count(count)) for count in counts) else None


def _summarized(found: Document, commits: list[Document]) -> SummarizedEvent | None:
    """An event as its details and its last commit tell it; None where they tell nothing that can be shown."""
    try:
        summary, last = _summary(found), found["end"][0]["last"]
        transitions = [transition for commit in commits for transition in transitions_of(commit["transitions"])]
        event = event_of(found["_id"], (each for each in transitions if each.version <= last))
    except (LedgerContradiction, AttributeError, LookupError, TypeError, ValueError) as error:
        log.debug("event without details", extra={"event_id": found["_id"], "error": type(error).__name__})
        return None
    if summary is None or not is_count(last):
        return None
    summarized = SummarizedEvent(event, last, summary)
    return summarized if summarized.held_tickets >= 0 else None
