"""Transitions <-> ledger documents.

A ledger document is one commit, a batch of consecutive transitions of one event:

    {"_id": "concert-2027:000000000008", "event_id": "concert-2027", "first": 8, "last": 9,
     "nonce": Binary(16 bytes),
     "transitions": [
       {"version": 8, "type": "booked", "at": Date, "by": "ada",
        "orders": [{"order_id": …, "user_id": "ada", "quantity": 1, "status": "confirmed"}],
        "request": {"key": Binary(16 bytes), "fingerprint": Binary(16 bytes)}},
       {"version": 9, "type": "cancelled", "at": Date, "by": "admin",
        "orders": [{"order_id": …, "status": "cancelled"}, {"order_id": …, "status": "confirmed"}]}],
     "after": {"booked": 3, "available": 0, "waiting": 1, "updated_at": Date},
     "checksum": Binary(4 bytes)}

Where an event has ticket types or a price, its `event` holds `ticket_types`, each `{"code", "name", "total_tickets",
"price", "currency"}`, beside `total_tickets`, which is their sum (null: no types any more), and a new order
`ticket_type`, `unit_price` and `currency`. Money is a string, as clients see it.

`orders` holds what the transition sets on each order, so that merging them in order of version gives the order:
the fold does it in memory, the `orders` view in MongoDB. `after` is the event's summary after the commit, for lists of
events; commits of earlier versions have none. For `checksum` see checksums.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from bson.errors import InvalidBSON

from ..domain.model import OrderChange, OrderStatus, RequestKey, Transition, TransitionType
from ..domain.refusals import refusal_of
from ..domain.summary import Summary
from ..domain.tickets import TicketType
from ..errors import Refusal

VERSION_DIGITS = 12

NOT_A_COMMIT = (InvalidBSON, AttributeError, LookupError, TypeError, ValueError)
"""What is raised where a document is taken for a commit, and is none."""

_PRICE = re.compile(r"[0-9]{1,20}(\.[0-9]{1,6})?")

_TYPES = {kind.value: kind for kind in TransitionType}
_STATUSES = {status.value: status for status in OrderStatus}


def ledger_id(event_id: str, version: int) -> str:
    """The `_id` of the commit whose first transition is `version`. Padded, so that ids sort by version."""
    return f"{event_id}:{version:0{VERSION_DIGITS}d}"


def commit_document(
    event_id: str, transitions: Sequence[Transition], nonce: bytes, after: Summary | None = None
) -> dict[str, Any]:
    """The document of one commit of one or more consecutive transitions; `after` is the summary that they lead to."""
    first = transitions[0].version
    document = {
        "_id": ledger_id(event_id, first),
        "event_id": event_id,
        "first": first,
        "last": transitions[-1].version,
        "nonce": nonce,
        "transitions": [transition_document(transition) for transition in transitions],
    }
    return document if after is None else document | {"after": after._asdict()}


def transitions_of(parts: Sequence[dict[str, Any]]) -> list[Transition]:
    """What stands under `transitions` in a commit, or in several.

    Raises AttributeError, KeyError, TypeError or ValueError for what is none.
    """
    times = times_in_utc([part["at"] for part in parts])
    return [_transition(part, at) for part, at in zip(parts, times, strict=True)]


def times_in_utc(dates: Iterable[object]) -> list[datetime]:
    """BSON's dates are UTC. Those who were decided together say the same time: they share it.

    Raises TypeError for what is no date.
    """
    times: list[datetime] = []
    said, time = None, None
    for date in dates:
        if time is None or date != said:
            said, time = date, _in_utc(date)
        times.append(time)
    return times


def transition_document(transition: Transition) -> dict[str, Any]:
    """What stands under `transitions` for one of them."""
    document: dict[str, Any] = {
        "version": transition.version,
        "type": transition.type.value,
        "at": transition.at,
    }
    if transition.by is not None:
        document["by"] = transition.by
    if transition.event is not None:
        document["event"] = _event_document(transition.event)
    if transition.sales_closed:
        document["sales"] = "closed"
    if transition.orders:
        document["orders"] = [_order_document(change) for change in transition.orders]
    if transition.request is not None:
        document["request"] = {
            "key": transition.request.key,
            "fingerprint": transition.request.fingerprint,
        }
    if transition.refusal is not None:
        document["refusal"] = _refusal_document(transition.refusal)
    if transition.refused:
        document["refused"] = [{"index": i, **_refusal_document(refusal)} for i, refusal in transition.refused]
    return document


def _event_document(fields: dict[str, Any]) -> dict[str, Any]:
    types = fields.get("ticket_types")
    if types is None:
        return fields
    return {**fields, "ticket_types": [{**each._asdict(), "price": str(each.price)} for each in types]}


def _order_document(change: OrderChange) -> dict[str, Any]:
    document: dict[str, Any] = {**change}
    if "status" in change:
        document["status"] = change["status"].value
    if "unit_price" in change:
        document["unit_price"] = str(change["unit_price"])
    return document


def _refusal_document(refusal: Refusal) -> dict[str, Any]:
    return {"code": refusal.code, "details": refusal.details}


def _transition(document: dict[str, Any], at: datetime) -> Transition:
    request = document.get("request")
    refusal = document.get("refusal")
    refused = document.get("refused")
    changes, by = document.get("orders", ()), document.get("by")
    if not (by is None or isinstance(by, str)):
        raise TypeError("`by` is no text")
    for change in changes:  # set in place: the driver has made them for us alone
        if "status" in change:
            change["status"] = _STATUSES[change["status"]]
        if "unit_price" in change:
            change["unit_price"] = price_of(change["unit_price"])
    return Transition(
        document["version"],
        _TYPES[document["type"]],
        at,
        by,
        _event_fields(document["event"]) if "event" in document else None,
        tuple(changes),  # checked by the fold, field by field
        None if request is None else RequestKey(request["key"], request["fingerprint"]),
        None if refusal is None else _refusal(refusal),
        document.get("sales") == "closed",
        () if refused is None else tuple([(each["index"], _refusal(each)) for each in refused]),
    )


def _refusal(document: dict[str, Any]) -> Refusal:
    return refusal_of(document["code"], document["details"])


def _event_fields(fields: dict[str, Any]) -> dict[str, Any]:
    about = {name: _in_utc(value) if isinstance(value, datetime) else value for name, value in fields.items()}
    if about.get("ticket_types") is not None:
        types = (TicketType(**each) for each in fields["ticket_types"])
        about["ticket_types"] = tuple(each._replace(price=price_of(each.price)) for each in types)
    return about


@lru_cache(maxsize=1024)  # an event's orders share a few prices
def price_of(digits: object) -> Decimal:
    """Raises TypeError or ValueError for what is none."""
    if not isinstance(digits, str):
        raise TypeError("a price is no string")
    if not _PRICE.fullmatch(digits):  # the decimal module takes "9e999999", and cannot multiply it
        raise ValueError(f"{digits!r} is no price")
    return Decimal(digits)


def _in_utc(at: object) -> datetime:
    """The driver could do it, but takes longer for it than for all else of a transition."""
    if not isinstance(at, datetime):
        raise TypeError("`at` is no date")
    return datetime.combine(at, at.time(), UTC)
