"""POST /initialize, /book, /cancel: what changes an event."""

from __future__ import annotations

from typing import Any

from flask import url_for
from flask_smorest import Blueprint

from ..domain.commands import Book, Booking, BookMany, Cancel, Initialize
from ..domain.model import Answer, Order, OrderStatus
from ..ids import new_event_id, new_order_id
from ..services import left_s, services
from . import auth, permissions
from .answers import caller_id, headers_of, json_answer, seen_event
from .auth import Role
from .bodies import StrictParser
from .idempotency import key_scope, request_key
from .openapi import creates, documented, replays
from .problems import problem_of
from .schemas import (
    BookSchema,
    BulkResultsSchema,
    BulkSchema,
    CancelledSchema,
    CancelSchema,
    EventSchema,
    InitializeSchema,
    OrderSchema,
    order_json,
    order_view,
)

blueprint = Blueprint("bookings", __name__, description="Open an event, book its tickets, give them back.")
blueprint.ARGUMENTS_PARSER = StrictParser()


@blueprint.post("/initialize")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(InitializeSchema)
@blueprint.response(201, EventSchema, headers=creates("the event"))
@documented(blueprint, "open_event", "event_exists", "invalid_schedule", tag="Events", protected=True, takes_body=True)
def initialize(body: dict[str, Any]) -> Any:
    """Open an event.

    It has a number of tickets, or ticket types with a number and a price each, and may have a place, times and limits.
    They can be changed later.
    """
    caller = caller_id()
    request = request_key(caller, body)
    body.setdefault("event_id", new_event_id(key_scope(caller)))
    required = {name: body.pop(name) for name in ("event_id", "name")}
    types = tuple(body.pop("ticket_types"))
    limits = {name: body.pop(name) for name in ("max_tickets_per_order",) if name in body}
    command = Initialize(by=caller, request=request, ticket_types=types, **required, **limits, details=body)
    answer = services().manager.execute(command, within_s=left_s())
    location = url_for("events.event", event_id=command.event_id)
    return seen_event(answer), 201, headers_of(answer, Location=location)


@blueprint.post("/book")
@blueprint.arguments(BookSchema)
@blueprint.response(201, OrderSchema, description="Confirmed", headers=creates("the order"))
@blueprint.alt_response(202, schema=OrderSchema, description="Waiting", headers=creates("the order"))
@documented(
    blueprint,
    "book",
    "event_not_found",
    "already_booked",
    "sales_not_open",
    "sales_closed",
    "event_cancelled",
    "exceeds_max_tickets_per_order",
    "exceeds_max_tickets_per_user",
    "exceeds_total_tickets",
    "unknown_ticket_type",
    "ticket_type_required",
    "forbidden",
    tag="Bookings",
    takes_body=True,
)
def book(body: dict[str, Any]) -> Any:
    """Book tickets.

    201: they are yours. 202: they cannot be had at once, and the order joins the waiting list; it gets all of its
    tickets or none. `user_id` is the caller unless told. Send an `Idempotency-Key`, and repeat a request that got no
    answer, or 503, with the same one.
    """
    caller = caller_id()
    body["user_id"] = permissions.user_to_book_for(body.get("user_id"))
    request = request_key(caller, body)
    order_id = new_order_id(body["event_id"])
    command = Book(order_id=order_id, by=caller, request=request, **body)
    answer = services().manager.execute(command, within_s=left_s())
    assert answer.order is not None
    location = f"/orders/{answer.order.order_id}"  # ids need no quoting, and url_for takes as long as all of this
    body = order_json(answer.order, answer.waiting_position)
    return json_answer(body, _status_of(answer.order), headers_of(answer, Location=location))


@blueprint.post("/bookings/bulk")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(BulkSchema)
@blueprint.response(200, BulkResultsSchema, headers=replays())
@documented(
    blueprint,
    "book_many",
    "event_not_found",
    "sales_not_open",
    "sales_closed",
    "event_cancelled",
    "bulk_refused",
    tag="Bookings",
    protected=True,
    takes_body=True,
)
def book_many(body: dict[str, Any]) -> Any:
    """Book for many users.

    One after the other, in one step. `each`: every booking has a result of its own, the order or the problem that it
    would have got alone. `all_or_none`: all are confirmed, or nothing is booked. The body may have 384 KiB.
    """
    caller = caller_id()
    request = request_key(caller, body)
    event_id = body["event_id"]
    permissions.require_staff_of_event(event_id)
    bookings = tuple(
        Booking(new_order_id(event_id), each["user_id"], each["quantity"], each.get("ticket_type"))
        for each in body["orders"]
    )
    all_or_none = body["mode"] == "all_or_none"
    command = BookMany(event_id=event_id, by=caller, request=request, bookings=bookings, all_or_none=all_or_none)
    answer = services().manager.execute(command, within_s=left_s())
    return {"results": [_result(each) for each in answer.bulk]}, 200, headers_of(answer)


@blueprint.post("/cancel")
@auth.required()
@blueprint.arguments(CancelSchema)
@blueprint.response(200, CancelledSchema, headers=replays())
@documented(
    blueprint,
    "cancel",
    "event_not_found",
    "order_not_found",
    "exceeds_order_quantity",
    tag="Bookings",
    protected=True,
    takes_body=True,
)
def cancel(body: dict[str, Any]) -> Any:
    """Give an order back, or some of its tickets.

    The order with an id, or the active one of a user for an event; `user_id` is the caller unless told. The tickets go
    to the waiting list in the same step, first come, first served: `promoted` are the orders that moved up. With a
    `quantity` the order stays, smaller. An order that waits leaves the list. An order that is cancelled already stays
    so, and nothing else happens.
    """
    caller = caller_id()
    if "order_id" not in body:
        body.setdefault("user_id", caller)
    request = request_key(caller, body)
    event_id = permissions.event_of_order_to_change(
        body.get("order_id"), body.pop("event_id", None), body.get("user_id"), request=request
    )
    command = Cancel(event_id=event_id, by=caller, request=request, **body)
    answer = services().manager.execute(command, within_s=left_s())
    assert answer.order is not None
    promoted = [order_json(order) for order in answer.promoted]
    order = order_json(answer.order, answer.waiting_position)  # smaller, it may still wait
    return json_answer({"order": order, "promoted": promoted}, 200, headers_of(answer))


def _status_of(order: Order) -> int:
    """Of the answer to a booking: created, or accepted and waiting."""
    return 201 if order.status is OrderStatus.CONFIRMED else 202


def _result(answer: Answer) -> dict[str, Any]:
    if answer.refusal is not None:
        problem = problem_of(answer.refusal)
        return {"status": problem.status, "error": problem.body}
    assert answer.order is not None
    return {"status": _status_of(answer.order), "order": order_view(answer.order, answer.waiting_position)}
