"""GET /status/<event_id> and /events/<event_id>/…: what can be seen of an event."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from flask import Response, jsonify, request
from flask_smorest import Blueprint
from werkzeug.http import quote_etag

from ..clock import TURN_S
from ..domain.commands import CancelEvent, Update
from ..domain.model import EventState, EventStatus, Order, OrderStatus
from ..errors import EventNotFound, LedgerDamaged, StorageUnavailable
from ..ids import is_event_id
from ..services import is_late, left_s, request_deadline, services
from ..storage.catalog import Place
from . import auth, exports, permissions
from .answers import caller_id, headers_of, json_answer, seen_event
from .auth import Role
from .bodies import StrictParser
from .idempotency import request_key
from .openapi import IF_MATCH, documented, leads_on, replays, tells
from .pagination import no_cursor, number_after, page_of, page_up_to, text_after
from .problems import ApiProblem
from .schemas import (
    AvailabilitySchema,
    EventPageSchema,
    EventSchema,
    EventsQuerySchema,
    OrderPageSchema,
    OrdersQuerySchema,
    PageQuerySchema,
    SeenEvent,
    StatusSchema,
    UpdatedSchema,
    UpdateSchema,
    WaitingPageSchema,
    order_view,
    status_json,
)

blueprint = Blueprint("events", __name__, description="See what an event has left, and who waits.")
blueprint.ARGUMENTS_PARSER = StrictParser()

_event_schema = EventSchema()
ORDERS_AT_ONCE = 5_000
"""Some 5 ms of looking through them."""

_ETAG = re.compile('"([0-9]{1,15})"')
_STARTS_MS = re.compile("0|-?[1-9][0-9]{0,15}")


@blueprint.get("/status/<event_id>")
@blueprint.response(200, StatusSchema)
@documented(blueprint, "get_status", "event_not_found", tag="Events")
def status(event_id: str) -> Response:
    """The status of an event.

    Tickets left, booked and held, and how many orders wait. booked + available + held = total. It has every booking
    that was answered before.
    """
    return json_answer(status_json(_state_of(event_id), services().clock.now()))


@blueprint.get("/events")
@blueprint.arguments(EventsQuerySchema, location="query")
@blueprint.response(200, EventPageSchema, headers=leads_on())
@documented(blueprint, "list_events", "validation_failed", tag="Events")
def events(query: dict[str, Any]) -> Any:
    """List the events.

    Those that begin first come first, those without a time last. `status` is that of this moment. A page may have
    fewer events than `limit`, and a `next` all the same.
    """
    at = services().clock.now()
    status = EventStatus(query["status"]) if "status" in query else None
    after = _place_after(query)
    listed = services().catalog.page(
        query["limit"], at, request_deadline(), status=status, text=query.get("q"), after=after
    )
    states = [event or _folded(event_id) for event_id, event in listed.events]
    seen = [SeenEvent(state, at) for state in states if state is not None]
    items = [event for event in seen if status in (None, event.status)]
    body, headers = page_up_to(listed.next and "{}:{}".format(*listed.next), items)
    return body, 200, headers


@blueprint.get("/events/<event_id>")
@blueprint.response(200, EventSchema, headers=tells("ETag", "The version, quoted."))
@blueprint.alt_response(
    304, description="Unchanged: nothing but the headers.", headers=tells("ETag", "The version, quoted.")
)
@documented(blueprint, "get_event", "event_not_found", "precondition_failed", tag="Events")
def event(event_id: str) -> Response:
    """An event.

    Its status and its details. With `If-None-Match` of the current version: 304.
    """
    state = _state_of(event_id)
    etag = str(state.version)
    # Werkzeug's make_conditional does not know `If-Match: *` (RFC 9110, 13.1.1), and its 412 is no problem+json.
    if "If-Match" in request.headers and not request.if_match.contains(etag):
        raise ApiProblem(412)
    seen = _seen_now(state)
    # The version does not move when the clock alone opens or ends the sale: then there is something to tell.
    is_told = state.updated_at is not None and state.status_at(state.updated_at) == seen.status
    unchanged = is_told and request.if_none_match.contains_weak(etag)
    response = Response(status=304) if unchanged else jsonify(_event_schema.dump(seen))
    response.set_etag(etag)
    return response


@blueprint.patch("/events/<event_id>")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(UpdateSchema)
@blueprint.response(200, UpdatedSchema, headers=tells("ETag", "The version, quoted."))
@blueprint.doc(parameters=[IF_MATCH])
@documented(
    blueprint,
    "update_event",
    "event_not_found",
    "event_cancelled",
    "below_booked_tickets",
    "precondition_failed",
    "precondition_required",
    "invalid_schedule",
    "invalid_ticket_types",
    tag="Events",
    protected=True,
    takes_body=True,
    takes_key=False,
)
def update(body: dict[str, Any], event_id: str) -> Any:
    """Change an event.

    Only what is sent is changed, at the version that `If-Match` names. More tickets go to the waiting list in the same
    step, first come, first served: `promoted` are the orders that moved up. Of more than 10,000 the others do so in the
    next step, before anything else happens.
    """
    _check_event_id(event_id)
    permissions.require_staff_of_event(event_id)
    command = Update(event_id=event_id, by=caller_id(), fields=body, version=_version_wanted())
    answer = services().manager.execute(command, within_s=left_s())
    assert answer.event is not None
    seen = SeenEvent(answer.event, services().clock.now(), answer.promoted)
    return seen, 200, {"ETag": quote_etag(str(seen.version))}


@blueprint.post("/events/<event_id>/cancel")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.response(200, EventSchema, headers=replays())
@documented(blueprint, "cancel_event", "event_not_found", tag="Events", protected=True, takes_key=True)
def cancel(event_id: str) -> Any:
    """Cancel an event.

    No more tickets are sold, for good. Orders stay on record and may still be cancelled.
    """
    _check_event_id(event_id)
    permissions.require_staff_of_event(event_id)
    caller = caller_id()
    command = CancelEvent(event_id=event_id, by=caller, request=request_key(caller, {}))
    answer = services().manager.execute(command, within_s=left_s())
    return seen_event(answer), 200, headers_of(answer)


@blueprint.get("/events/<event_id>/availability")
@blueprint.response(200, AvailabilitySchema)
@documented(blueprint, "get_availability", "event_not_found", tag="Events")
def availability(event_id: str) -> EventState:
    """The tickets of an event that can be had.

    `available_tickets` is what a new booking could get now: none while somebody waits.
    """
    return _state_of(event_id)


@blueprint.get("/events/<event_id>/waiting-list")
@blueprint.arguments(PageQuerySchema, location="query")
@blueprint.response(200, WaitingPageSchema, headers=leads_on())
@documented(blueprint, "list_waiting", "event_not_found", "validation_failed", tag="Waiting list")
def waiting_list(query: dict[str, Any], event_id: str) -> Any:
    """Who waits for an event.

    First come first, each with the place in line for the ticket type. Staff of the event see order and user too.
    """
    after = number_after(query)
    state = _state_of(event_id)
    names_shown = permissions.is_staff_of(state.event)

    def show(order: Order) -> dict[str, Any]:
        place = {
            "position": state.waiting_position(order),
            "ticket_type": order.ticket_type,
            "quantity": order.quantity,
            "joined_at": order.created_at,
        }
        return place | ({"order_id": order.order_id, "user_id": order.user_id} if names_shown else {})

    body, headers = page_of(state.waiting_orders(after), query["limit"], show, _number)
    return body, 200, headers


@blueprint.get("/events/<event_id>/orders")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(OrdersQuerySchema, location="query")
@blueprint.response(200, OrderPageSchema, headers=leads_on())
@documented(
    blueprint, "list_orders_of_event", "event_not_found", "validation_failed", tag="Orders", protected=True
)
def orders(query: dict[str, Any], event_id: str) -> Any:
    """The orders of an event.

    In the order of their arrival, cancelled ones too.
    """
    after = number_after(query)
    state = _state_of(event_id)
    permissions.require_staff_of(state)
    wanted = {name: query[name] for name in ("status", "user_id") if name in query}
    # Who waits is known; the others are looked through, from the page's first on.
    waiting_only = query.get("status") == OrderStatus.WAITING
    found = (
        order
        for order in _in_turns(state.waiting_orders(after) if waiting_only else state.orders_by_arrival(after))
        if all(getattr(order, name) == value for name, value in wanted.items())
    )
    body, headers = page_of(
        found, query["limit"], lambda order: order_view(order, state.waiting_position(order)), _number
    )
    return body, 200, headers


@blueprint.get("/events/<event_id>/orders.csv")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.response(
    200, {"type": "string"}, content_type="text/csv", headers=tells("Content-Disposition", "A file name.")
)
@documented(blueprint, "export_orders", "event_not_found", tag="Orders", protected=True)
def orders_csv(event_id: str) -> Response:
    """All orders of an event for a spreadsheet.

    In the order of their arrival: a line each, below one with names. A cell that a spreadsheet might take for a
    formula begins with an apostrophe.
    """
    state = _state_of(event_id)
    permissions.require_staff_of(state)
    file_name = f'attachment; filename="orders-{event_id}.csv"'
    lines = exports.orders_csv(state, services().clock)
    return Response(lines, mimetype="text/csv", headers={"Content-Disposition": file_name})


def _in_turns(orders: Iterator[Order]) -> Iterator[Order]:
    """The same; but for a while others have their turn, for a green thread's ends only where it waits."""
    for number, order in enumerate(orders, start=1):
        yield order
        if number % ORDERS_AT_ONCE == 0:
            services().clock.sleep(TURN_S)


def _number(order: Order) -> int:
    return order.number


def _state_of(event_id: str) -> EventState:
    _check_event_id(event_id)
    return services().manager.state_of(event_id, within_s=left_s())


def _check_event_id(event_id: str) -> None:
    if not is_event_id(event_id):
        raise EventNotFound(event_id)


def _folded(event_id: str) -> EventState | None:
    """An event that its last commit does not sum up; None for one that cannot be served."""
    if is_late():
        raise StorageUnavailable  # the repeat goes on from here: what was folded stays in memory
    try:
        return services().manager.state_of(event_id, within_s=left_s())
    except (EventNotFound, LedgerDamaged):
        return None


def _place_after(query: dict[str, Any]) -> Place | None:
    """The place behind the cursor of a query. Raises `ApiProblem` 422 for what is no cursor of the events."""
    if "after" not in query:
        return None
    starts_ms, _, event_id = text_after(query).partition(":")
    if not _STARTS_MS.fullmatch(starts_ms) or not is_event_id(event_id):
        raise no_cursor()
    return Place(int(starts_ms), event_id)


def _seen_now(state: EventState) -> SeenEvent:
    return SeenEvent(state, services().clock.now())


def _version_wanted() -> int | None:
    """The version in `If-Match`; None for `*`, any version. Raises `ApiProblem` 428 without it, 412 for no version."""
    wanted = request.headers.get("If-Match")
    if wanted is None:
        raise ApiProblem(428)
    if wanted.strip() == "*":
        return None
    version = _ETAG.fullmatch(wanted.strip())
    if version is None:
        raise ApiProblem(412)
    return int(version[1])
