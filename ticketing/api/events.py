"""GET /status/<event_id> and /events/<event_id>/…: what can be seen of an event."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify, request
from flask_smorest import Blueprint

from ..domain.model import EventState, Order, OrderStatus
from ..errors import EventNotFound
from ..ids import is_event_id
from ..services import services
from . import auth
from .auth import Role
from .bodies import StrictParser
from .openapi import documented, leads_on, tells
from .pagination import number_after, page_of
from .problems import ApiProblem
from .schemas import (
    AvailabilitySchema,
    EventSchema,
    OrderPageSchema,
    OrdersQuerySchema,
    PageQuerySchema,
    StatusSchema,
    WaitingPageSchema,
    order_view,
)

blueprint = Blueprint("events", __name__, description="See what an event has left, and who waits.")
blueprint.ARGUMENTS_PARSER = StrictParser()

_event_schema = EventSchema()


@blueprint.get("/status/<event_id>")
@blueprint.response(200, StatusSchema)
@documented(blueprint, 404)
def status(event_id: str) -> EventState:
    """The tickets left and the length of the waiting list."""
    return _state_of(event_id)


@blueprint.get("/events/<event_id>")
@blueprint.response(200, EventSchema, headers=tells("ETag", "The version, quoted."))
@blueprint.alt_response(304, description="Unchanged: nothing but the headers.")
@documented(blueprint, 404, 412)
def event(event_id: str) -> Response:
    """An event: its status and its details. With `If-None-Match` of the current version: 304."""
    state = _state_of(event_id)
    etag = str(state.version)
    # Werkzeug's make_conditional does not know `If-Match: *` (RFC 9110, 13.1.1), and its 412 is no problem+json.
    if "If-Match" in request.headers and not request.if_match.contains(etag):
        raise ApiProblem(412)
    unchanged = request.if_none_match.contains_weak(etag)
    response = Response(status=304) if unchanged else jsonify(_event_schema.dump(state))
    response.set_etag(etag)
    return response


@blueprint.get("/events/<event_id>/availability")
@blueprint.response(200, AvailabilitySchema)
@documented(blueprint, 404)
def availability(event_id: str) -> EventState:
    """The tickets that a new booking could get now."""
    return _state_of(event_id)


@blueprint.get("/events/<event_id>/waiting-list")
@blueprint.arguments(PageQuerySchema, location="query")
@blueprint.response(200, WaitingPageSchema, headers=leads_on())
@documented(blueprint, 404, 422)
def waiting_list(query: dict[str, Any], event_id: str) -> Any:
    """Who waits, first come first. Staff see order and user too."""
    after = number_after(query)
    state = _state_of(event_id)
    caller = auth.current_caller()
    names_shown = caller is not None and caller.is_staff

    def show(order: Order) -> dict[str, Any]:
        place = {
            "position": state.waiting_position(order),
            "quantity": order.quantity,
            "joined_at": order.created_at,
        }
        return place | ({"order_id": order.order_id, "user_id": order.user_id} if names_shown else {})

    body, headers = page_of(state.waiting_orders(after), query["limit"], show)
    return body, 200, headers


@blueprint.get("/events/<event_id>/orders")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(OrdersQuerySchema, location="query")
@blueprint.response(200, OrderPageSchema, headers=leads_on())
@documented(blueprint, 404, 422, protected=True)
def orders(query: dict[str, Any], event_id: str) -> Any:
    """The orders of an event in the order of their arrival, cancelled ones too."""
    after = number_after(query)
    state = _state_of(event_id)
    wanted = {name: query[name] for name in ("status", "user_id") if name in query}
    # Who waits is known; the others are looked through, from the page's first on.
    waiting_only = query.get("status") == OrderStatus.WAITING
    found = (
        order
        for order in (state.waiting_orders(after) if waiting_only else state.orders_by_arrival(after))
        if all(getattr(order, name) == value for name, value in wanted.items())
    )
    body, headers = page_of(
        found, query["limit"], lambda order: order_view(order, state.waiting_position(order))
    )
    return body, 200, headers


def _state_of(event_id: str) -> EventState:
    if not is_event_id(event_id):
        raise EventNotFound(event_id)
    return services().manager.state_of(event_id)
