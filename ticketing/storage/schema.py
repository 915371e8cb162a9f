"""What `flask init-db` makes: the indexes of the ledger, and two views over it for people and their tools.

The ledger is all that is written of events. The views compute what one expects to find in a booking database, one
document an order and one an event, whenever somebody reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import CollectionInvalid

from .ledger import COLLECTION, ledger_collection
from .sessions import COLLECTION as SESSIONS
from .users import COLLECTION as USERS

if TYPE_CHECKING:
    from pymongo.database import Database

INDEXES = [
    # An Idempotency-Key holds for all events. Sparse: commits without a key cost nothing.
    IndexModel([("transitions.request.key", ASCENDING)], name="request_key", sparse=True),
    # A user's orders over all events, and the events that he changed.
    IndexModel([("transitions.orders.user_id", ASCENDING)], name="order_user", sparse=True),
    IndexModel([("transitions.by", ASCENDING)], name="by", sparse=True),
    # The commits that set an event's details: a few of each event, so that the catalog need not look at the others.
    IndexModel(
        [("event_id", ASCENDING), ("first", ASCENDING)],
        name="event_details",
        partialFilterExpression={"transitions.event": {"$exists": True}},
    ),
]

SESSION_INDEXES = [
    IndexModel([("user_id", ASCENDING)], name="user"),
    # MongoDB removes a session when its last refresh token has expired.
    IndexModel([("expires_at", ASCENDING)], name="expired", expireAfterSeconds=0),
]

# An Idempotency-Key holds for all names. Sparse: most accounts have none.
USER_INDEXES = [IndexModel([("key", ASCENDING)], name="key", sparse=True)]

_IS_REMEMBERED = {"$eq": ["$transitions.type", "remembered"]}

ORDERS_VIEW: list[dict[str, Any]] = [
    {"$sort": {"_id": ASCENDING}},
    {"$unwind": "$transitions"},
    {"$match": {"transitions.type": {"$ne": "remembered"}}},
    {"$unwind": "$transitions.orders"},
    {
        "$group": {
            "_id": "$transitions.orders.order_id",
            "event_id": {"$first": "$event_id"},
            "fields": {"$mergeObjects": "$transitions.orders"},
            "created_at": {"$first": "$transitions.at"},
            "updated_at": {"$last": "$transitions.at"},
            "version": {"$last": "$transitions.version"},
        }
    },
    {
        "$replaceWith": {
            "$mergeObjects": [
                {"_id": "$_id", "order_id": "$_id", "event_id": "$event_id"},
                "$fields",
                {"created_at": "$created_at", "updated_at": "$updated_at", "version": "$version"},
            ]
        }
    },
]


_NAMES_NO_ORDER = {"$eq": [{"$type": "$transitions.orders.order_id"}, "missing"]}
_VERSION_AND_TIME = {"version": "$transitions.version", "at": "$transitions.at"}

# One pass over the ledger however many events there are: first a document an order, and one for what all transitions
# say of the event, then a document an event. (A look-up in `orders` for each event would compute that view for each.)
EVENTS_VIEW: list[dict[str, Any]] = [
    {"$sort": {"_id": ASCENDING}},
    {"$unwind": "$transitions"},
    {"$set": {"transitions.orders": {"$concatArrays": [[{}], {"$ifNull": ["$transitions.orders", []]}]}}},
    {"$unwind": "$transitions.orders"},
    {
        "$group": {
            "_id": {"event_id": "$event_id", "order_id": "$transitions.orders.order_id"},
            # Only of those that name no order: all of them are in one group, in the order of their versions.
            "fields": {"$mergeObjects": {"$cond": [_NAMES_NO_ORDER, "$transitions.event", None]}},
            "order": {"$mergeObjects": "$transitions.orders"},
            "first": {"$min": _VERSION_AND_TIME},
            # Compared by version, which comes first. What is only remembered updates nothing.
            "last": {"$max": {"$cond": [_IS_REMEMBERED, None, _VERSION_AND_TIME]}},
            "version": {"$max": "$transitions.version"},
        }
    },
    {
        "$group": {
            "_id": "$_id.event_id",
            "fields": {"$mergeObjects": "$fields"},
            "booked_tickets": {
                "$sum": {"$cond": [{"$eq": ["$order.status", "confirmed"]}, "$order.quantity", 0]}
            },
            "waiting_list_count": {"$sum": {"$cond": [{"$eq": ["$order.status", "waiting"]}, 1, 0]}},
            "first": {"$min": "$first"},
            "last": {"$max": "$last"},
            "version": {"$max": "$version"},
        }
    },
    {
        "$replaceWith": {
            "$mergeObjects": [
                {"_id": "$_id", "event_id": "$_id"},
                "$fields",
                {
                    "booked_tickets": "$booked_tickets",
                    "waiting_list_count": "$waiting_list_count",
                    "created_at": "$first.at",
                    "updated_at": "$last.at",
                    "version": "$version",
                },
            ]
        }
    },
    # Only an organizer who was erased stands among the fields of an event.
    {"$unset": "organizer"},
]

VIEWS = {"orders": ORDERS_VIEW, "events": EVENTS_VIEW}


def create_indexes_and_views(database: Database[dict[str, Any]]) -> None:
    """Make what is missing and bring the views up to date. May run at any time, any number of times."""
    ledger_collection(database).create_indexes(INDEXES)
    database[SESSIONS].create_indexes(SESSION_INDEXES)
    database[USERS].create_indexes(USER_INDEXES)
    for name, pipeline in VIEWS.items():
        try:
            database.create_collection(name, viewOn=COLLECTION, pipeline=pipeline)
        except CollectionInvalid:
            database.command("collMod", name, viewOn=COLLECTION, pipeline=pipeline)
