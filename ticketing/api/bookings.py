"""POST /initialize, /book, /cancel: what changes an event."""

from __future__ import annotations

from typing import Any

from flask import url_for
from flask_smorest import Blueprint

from ..domain.commands import Book, Cancel, Initialize
from ..domain.model import OrderStatus
from ..ids import new_event_id, new_order_id
from ..services import left_s, services
from . import auth, permissions
from .answers import caller_id, headers_of, seen_event
from .auth import Role
from .bodies import StrictParser
from .idempotency import key_scope, request_key
from .openapi import creates, documented, replays
from .schemas import (
    BookSchema,
    CancelledSchema,
    CancelSchema,
    EventSchema,
    InitializeSchema,
    OrderSchema,
    order_view,
)

blueprint = Blueprint("bookings", __name__, description="Open an event, book its tickets, give them back.")
blueprint.ARGUMENTS_PARSER = StrictParser()


@blueprint.post("/initialize")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(InitializeSchema)
@blueprint.response(201, EventSchema, headers=creates("the event"))
@documented(blueprint, 409, protected=True, takes_body=True)
def initialize(body: dict[str, Any]) -> Any:
    """Open an event with a number of tickets."""
    caller = caller_id()
    request = request_key(caller, body)
    body.setdefault("event_id", new_event_id(key_scope(caller)))
    required = {name: body.pop(name) for name in ("event_id", "name", "total_tickets")}
    limits = {name: body.pop(name) for name in ("max_tickets_per_order",) if name in body}
    command = Initialize(by=caller, request=request, **required, **limits, details=body)
    answer = services().manager.execute(command)
    location = url_for("events.event", event_id=command.event_id)
    return seen_event(answer), 201, headers_of(answer, Location=location)


@blueprint.post("/book")
@blueprint.arguments(BookSchema)
@blueprint.response(201, OrderSchema, description="Confirmed", headers=creates("the order"))
@blueprint.alt_response(202, schema=OrderSchema, description="Waiting", headers=creates("the order"))
@documented(blueprint, 404, 409, takes_body=True)
def book(body: dict[str, Any]) -> Any:
    """Book tickets, or join the waiting list when they cannot be had at once. `user_id` is the caller unless told."""
    caller = caller_id()
    body["user_id"] = permissions.user_to_book_for(body.get("user_id"))
    request = request_key(caller, body)
    order_id = new_order_id(body["event_id"])
    command = Book(order_id=order_id, by=caller, request=request, **body)
    answer = services().manager.execute(command, within_s=left_s())
    assert answer.order is not None
    status = 201 if answer.order.status is OrderStatus.CONFIRMED else 202
    location = url_for("orders.order", order_id=answer.order.order_id)
    return order_view(answer.order, answer.waiting_position), status, headers_of(answer, Location=location)


@blueprint.post("/cancel")
@auth.required()
@blueprint.arguments(CancelSchema)
@blueprint.response(200, CancelledSchema, headers=replays())
@documented(blueprint, 404, protected=True, takes_body=True)
def cancel(body: dict[str, Any]) -> Any:
    """Give an order back. Its tickets go to the waiting list in the same step, first come, first served."""
    caller = caller_id()
    request = request_key(caller, body)
    event_id = permissions.event_to_cancel_in(body.get("order_id"), body.pop("event_id", None), body.get("user_id"))
    command = Cancel(event_id=event_id, by=caller, request=request, **body)
    answer = services().manager.execute(command, within_s=left_s())
    assert answer.order is not None
    promoted = [order_view(order) for order in answer.promoted]
    return {"order": order_view(answer.order), "promoted": promoted}, 200, headers_of(answer)
