"""Subscriptions to notices, and how far each has been served.

    webhooks            one document a subscription: where to, what about, its secret, how it fares, who serves it
    webhook_cursors     one document a subscription and event: the version up to which all has been delivered
    webhook_deliveries  one document a subscription: its last attempts, the newest last

The ledger is the outbox: a cursor is all that is known of what was delivered. A lease says which process serves a
subscription; it is taken and kept by the clock of MongoDB, so that those of the processes need not agree.

A subscription may end while a notice is under way to it. What is noted of that afterwards must leave nothing behind,
nor anything for a new one that gets the same id from its Idempotency-Key: see `_insert_for`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from copy import copy
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pymongo
from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.write_concern import WriteConcern

from ..errors import StorageUnavailable
from ..ids import is_event_id
from .inserts import DUPLICATE_KEY
from .ledger import ledger_collection
from .strays import COMMIT_ID, end_of, reading_anything
from .users import durable

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection
    from pymongo.database import Database

DELIVERIES_KEPT = 100
ENDED = "it is being deleted: repeat the DELETE, if it stays so"

P = ParamSpec("P")
R = TypeVar("R")


def _bounded(method: Callable[Concatenate[Webhooks, P], R]) -> Callable[Concatenate[Webhooks, P], R]:
    """Give a method its time, and translate the driver's errors."""

    @wraps(method)
    def call(self: Webhooks, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with pymongo.timeout(self.timeout_s):
                return method(self, *args, **kwargs)
        except PyMongoError as error:
            raise StorageUnavailable from error

    return call


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A receiver that did not take a notice: since when, how often, why last, and when it is tried again."""

    since: datetime
    attempts: int
    error: str
    next_attempt_at: datetime


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Somebody who wants notices: of one event or of all (`event_id` None), of some types or of all (None).

    `fingerprint` is that of the request with an Idempotency-Key that made it. `disabled_reason` None: it is active.
    `replays` counts how often it was set back.
    """

    webhook_id: str
    url: str
    event_id: str | None
    types: list[str] | None
    secret: str = field(repr=False)
    created_by: str
    created_at: datetime
    fingerprint: bytes | None = None
    disabled_reason: str | None = None
    failing: Failing | None = None
    replays: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it is served."""
        return self.disabled_reason is None


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """All up to `version` was delivered. `replays` counts how often it was set back."""

    version: int = 0
    replays: int = 0


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One attempt to deliver a notice. `error` None: it was taken."""

    message_id: str
    type: str
    event_id: str
    version: int
    at: datetime
    attempt: int
    duration_ms: int
    http_status: int | None = None
    error: str | None = None


class Webhooks:
    """The subscriptions. Safe to share between threads.

    Each method ends within `timeout_s` seconds. It raises `StorageUnavailable` when MongoDB does not do what it
    should; then nobody knows whether it took effect.
    """

    def __init__(self, database: Database[dict[str, Any]], timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._subscriptions = durable(database, "webhooks")
        self._cursors = durable(database, "webhook_cursors")
        # A log that may lose its last lines in a crash: each delivery would wait for its journal.
        self._deliveries = durable(database, "webhook_deliveries").with_options(write_concern=WriteConcern(1))
        self._ledger = reading_anything(ledger_collection(database))

    def within(self, seconds: float) -> Webhooks:
        """The same, with less time for each method."""
        hurried = copy(self)
        hurried.timeout_s = min(seconds, self.timeout_s)
        return hurried

    # Those who subscribe.

    @_bounded
    def add(self, subscription: Subscription) -> bool:
        """Subscribe to what happens from now on. False: there is one with this id."""
        # The cursors first: before the subscription is there, nobody serves it. One of an event that is opened
        # meanwhile is missing, which is the cursor 0.
        cursors = [
            {"_id": _cursor_id(subscription.webhook_id, event_id), **asdict(Cursor(version=version))}
            for event_id, version in self.ends_of_ledgers(subscription.event_id).items()
        ]
        if self.find(subscription.webhook_id) is not None:
            return False
        self._insert_missing(cursors)
        document = asdict(subscription)
        try:
            self._subscriptions.insert_one({"_id": document.pop("webhook_id"), **document})
        except DuplicateKeyError:
            return False
        return True

    def _insert_missing(self, cursors: list[dict[str, Any]]) -> None:
        """Those that are there stay: of a try that was cut short, or of one that runs beside this one."""
        try:
            if cursors:
                self._cursors.insert_many(cursors, ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            codes = {each["code"] for each in details.get("writeErrors", ())}
            if codes != {DUPLICATE_KEY} or details.get("writeConcernErrors"):
                raise

    @_bounded
    def find(self, webhook_id: str) -> Subscription | None:
        """The subscription with this id."""
        document = self._subscriptions.find_one({"_id": webhook_id})
        return None if document is None else _subscription(document)

    @_bounded
    def find_all(self, created_by: str | None, after: str, limit: int) -> list[Subscription]:
        """The first `limit` with an id after `after`, of one who made them, or of all."""
        query: dict[str, Any] = {"_id": {"$gt": after}}
        if created_by is not None:
            query["created_by"] = created_by
        return [_subscription(document) for document in self._subscriptions.find(query).sort("_id", 1).limit(limit)]

    @_bounded
    def remove(self, webhook_id: str) -> None:
        """End a subscription. What is under way to it may still arrive. May be repeated, until it is not there."""
        # First nobody may serve it, last it goes: what is cut short in between is there for a repeat, and nobody makes
        # a new one under its id meanwhile.
        self._subscriptions.update_one({"_id": webhook_id}, {"$set": {"disabled_reason": ENDED}})
        self._deliveries.delete_one({"_id": webhook_id})
        self._cursors.delete_many(_cursors_of(webhook_id))
        self._subscriptions.delete_one({"_id": webhook_id})

    @_bounded
    def remove_of(self, user_id: str) -> bool:
        """End all subscriptions that this user made. False: there were none. May be repeated."""
        found = [document["_id"] for document in self._subscriptions.find({"created_by": user_id}, {"_id": 1})]
        for webhook_id in found:
            self.remove(webhook_id)
        return bool(found)

    @_bounded
    def deliveries(self, webhook_id: str, limit: int) -> list[Delivery]:
        """The last attempts, the newest first."""
        document = self._deliveries.find_one({"_id": webhook_id}) or {"attempts": []}
        return [Delivery(**attempt) for attempt in reversed(document["attempts"][-limit:])]

    @_bounded
    def replay(self, webhook_id: str, event_id: str, after: int) -> None:
        """Deliver again what came after version `after`, and serve the subscription again if it was disabled."""
        cursor_id = _cursor_id(webhook_id, event_id)
        change = {"$set": {"version": after}, "$inc": {"replays": 1}}
        if not self._cursors.update_one({"_id": cursor_id}, change).matched_count:
            first = {"_id": cursor_id, **asdict(Cursor(version=after, replays=1))}
            try:
                self._insert_for(webhook_id, self._cursors, first)
            except DuplicateKeyError:  # whoever delivers has made it meanwhile
                self._cursors.update_one({"_id": cursor_id}, change)
        self._subscriptions.update_one(
            _not_ended(webhook_id), {"$set": {"disabled_reason": None, "failing": None}, "$inc": {"replays": 1}}
        )

    # Those who deliver.

    @_bounded
    def lease(self, holder: str, lease_s: float, take_max: int) -> list[Subscription]:
        """The subscriptions that `holder` serves for the next `lease_s` seconds.

        It keeps what it has, and takes up to `take_max` that nobody has.
        """
        until = {"$add": ["$$NOW", round(lease_s * 1000)]}
        lease = [{"$set": {"lease": {"holder": holder, "until": until}}}]
        mine = {"lease.holder": holder, "disabled_reason": None}
        free = {"disabled_reason": None, "$expr": {"$lt": [{"$ifNull": ["$lease.until", 0]}, "$$NOW"]}}
        self._subscriptions.update_many(mine, lease)
        for _ in range(take_max):
            taken = self._subscriptions.find_one_and_update(
                free, lease, projection=["_id"], return_document=ReturnDocument.AFTER
            )
            if taken is None:
                break
        return [_subscription(document) for document in self._subscriptions.find(mine)]

    @_bounded
    def release(self, holder: str) -> None:
        """Give all back: others may take them at once."""
        self._subscriptions.update_many({"lease.holder": holder}, {"$unset": {"lease": ""}})

    @_bounded
    def cursors(self, webhook_id: str) -> dict[str, Cursor]:
        """How far the subscription has been served, by event."""
        return {
            document.pop("_id").partition(":")[2]: Cursor(**document)
            for document in self._cursors.find(_cursors_of(webhook_id))
        }

    @_bounded
    def advance(self, webhook_id: str, event_id: str, cursor: Cursor, version: int) -> Cursor:
        """All up to `version` was delivered. Returns the cursor as it is now: another one after a replay."""
        cursor_id = _cursor_id(webhook_id, event_id)
        advanced = Cursor(version=version, replays=cursor.replays)
        mine = {"_id": cursor_id, "replays": cursor.replays}
        if self._cursors.update_one(mine, {"$max": {"version": version}}).matched_count:
            return advanced
        try:
            self._insert_for(webhook_id, self._cursors, {"_id": cursor_id, **asdict(advanced)})
        except DuplicateKeyError:  # it is there, with more replays
            document = self._cursors.find_one({"_id": cursor_id}, {"_id": 0})
            return advanced if document is None else Cursor(**document)
        return advanced

    @_bounded
    def log(self, webhook_id: str, delivery: Delivery) -> None:
        """Note an attempt; the oldest ones go."""
        attempts = {"$each": [asdict(delivery)], "$slice": -DELIVERIES_KEPT}
        change = {"$push": {"attempts": attempts}}
        if not self._deliveries.update_one({"_id": webhook_id}, change).matched_count:
            try:
                self._insert_for(webhook_id, self._deliveries, {"_id": webhook_id, "attempts": [asdict(delivery)]})
            except DuplicateKeyError:  # another process has made it meanwhile
                self._deliveries.update_one({"_id": webhook_id}, change)

    def _insert_for(
        self, webhook_id: str, collection: Collection[dict[str, Any]], document: dict[str, Any]
    ) -> None:
        """Insert what a subscription does not have yet, unless it has ended.

        It is looked for before, so that a crash leaves nothing, and after, for it may have ended meanwhile: `remove`
        marks it before it removes what belongs to it.
        """
        if self._is_there(webhook_id):
            collection.insert_one(document)
            if not self._is_there(webhook_id):
                collection.delete_one({"_id": document["_id"]})

    def _is_there(self, webhook_id: str) -> bool:
        return self._subscriptions.find_one(_not_ended(webhook_id), {"_id": 1}) is not None

    @_bounded
    def set_failing(self, webhook_id: str, failing: Failing | None) -> None:
        """The receiver fails, or does not any more."""
        document = None if failing is None else asdict(failing)
        self._subscriptions.update_one({"_id": webhook_id}, {"$set": {"failing": document}})

    @_bounded
    def disable(self, webhook_id: str, reason: str) -> None:
        """Serve it no more. The first reason stays."""
        active = {"_id": webhook_id, "disabled_reason": None}
        self._subscriptions.update_one(active, {"$set": {"disabled_reason": reason}})

    @_bounded
    def ends_of_ledgers(self, event_id: str | None = None) -> dict[str, int]:
        """The version that each event has come to, or this one."""
        return self._ends(event_id)

    def _ends(self, event_id: str | None = None, session: ClientSession | None = None) -> dict[str, int]:
        """A look an event, along the index. What is no commit is passed by there."""
        ends: dict[str, int] = {}
        options = {"session": session} if session else {}
        bound = {"$lt": f"{event_id};", "$gt": f"{event_id}:"} if event_id else {}
        while True:
            query = {"_id": {"$regex": COMMIT_ID, **bound}}
            last = self._ledger.find_one(query, {"last": 1}, sort=[("_id", -1)], **options)
            end = None if last is None else end_of(last)
            if end is None:
                return ends
            found, version = end
            ends[found] = version
            if event_id:
                return ends
            bound = {"$lt": f"{found}:"}  # before all commits of this one, so it is smaller each time

    @_bounded
    def events_opened(self, after: datetime, until: datetime) -> list[str]:
        """The events whose sales began in this time, as far as that was said once: it may have been put off since.

        It looks at the commits that set an event's details, which are few and have an index.
        """
        found = self._ledger.distinct("event_id", opened_between(after, until))
        return sorted(each for each in found if isinstance(each, str) and is_event_id(each))

    def new_commits(self) -> Generator[tuple[str, int] | None, None, None]:
        """The ends of all ledgers, then each new commit: event and last version. None while there is nothing new, and
        for what is no commit.

        Raises `StorageUnavailable` when the change stream is lost, or MongoDB is no replica set.
        """
        pipeline: list[dict[str, Any]] = [
            {"$match": {"operationType": "insert"}},
            {"$project": {"fullDocument._id": 1, "fullDocument.last": 1}},
        ]
        client = self._ledger.database.client
        try:
            with client.start_session(causal_consistency=True) as session:
                # A commit is older than this moment, or newer. The look waits for the older ones, also for those that
                # no majority had by then (causal consistency); the stream begins with the newer ones. The moment at
                # which MongoDB would begin a stream by itself is later than what it answers a majority has.
                with pymongo.timeout(self.timeout_s):
                    client.admin.command("ping", session=session)
                    moment = session.operation_time
                    stream = self._ledger.watch(
                        pipeline, max_await_time_ms=500, start_at_operation_time=moment, session=session
                    )
                with stream:
                    with pymongo.timeout(self.timeout_s):
                        ends = self._ends(session=session)
                    yield from ends.items()
                    while stream.alive:
                        change = stream.try_next()
                        yield None if change is None else end_of(change["fullDocument"])
        except PyMongoError as error:
            raise StorageUnavailable from error


def opened_between(after: datetime, until: datetime) -> dict[str, Any]:
    """The commits that say that sales begin in this time. Two of the conditions are for the index `event_details`."""
    opened = {"$elemMatch": {"event.sales_open_at": {"$gt": after, "$lte": until}}}
    return {"$and": [{"event_id": {"$gt": ""}}, {"transitions.event": {"$exists": True}}, {"transitions": opened}]}


def _not_ended(webhook_id: str) -> dict[str, Any]:
    return {"_id": webhook_id, "disabled_reason": {"$ne": ENDED}}


def _cursor_id(webhook_id: str, event_id: str) -> str:
    return f"{webhook_id}:{event_id}"


def _cursors_of(webhook_id: str) -> dict[str, Any]:
    return {"_id": {"$gt": f"{webhook_id}:", "$lt": f"{webhook_id};"}}


_FIELDS = {each.name for each in fields(Subscription)} - {"webhook_id", "failing"}


def _subscription(document: dict[str, Any]) -> Subscription:
    failing = document.get("failing")
    return Subscription(
        webhook_id=document["_id"],
        failing=None if failing is None else Failing(**failing),
        **{name: document[name] for name in _FIELDS},
    )
