"""GET /orders/…: one order and its history, for its owner and staff, and where it has no owner for whoever has its id;
and all orders of a user.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from flask import url_for
from flask_smorest import Blueprint

from ..clock import tries
from ..domain.commands import Transfer
from ..domain.fold import LedgerContradiction
from ..domain.history import Entry, order_history
from ..domain.model import EventState, Order
from ..errors import EventNotFound, LedgerDamaged, OrderNotFound
from ..ids import event_id_of, new_order_id
from ..services import is_late, left_s, request_deadline, services
from . import auth, permissions
from .answers import caller_id, headers_of
from .bodies import StrictParser
from .idempotency import request_key
from .openapi import creates, documented, leads_on
from .pagination import no_cursor, page_up_to, text_after
from .schemas import (
    HistorySchema,
    OrderPageSchema,
    OrderSchema,
    TransferredSchema,
    TransferSchema,
    UserOrdersQuerySchema,
    order_view,
)

blueprint = Blueprint("orders", __name__, description="Look at an order, and hand its tickets on.")
blueprint.ARGUMENTS_PARSER = StrictParser()

SEEN_WITHIN_S = 2.5
"""Longer than a majority takes to learn of a commit by heartbeat."""

_CURSOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9_-]{0,22})?")  # the beginning of an order's id


@blueprint.get("/orders/<order_id>")
@blueprint.response(200, OrderSchema)
@documented(blueprint, "get_order", "order_not_found", tag="Orders")
def order(order_id: str) -> Any:
    """An order as it is now.

    With its place in line. The id is a secret: who has it may read the order, unless its user has an account and it
    was booked with credentials: then only that user and staff.
    """
    state, found = _readable(order_id)
    return order_view(found, state.waiting_position(found))


@blueprint.get("/orders/<order_id>/history")
@blueprint.response(200, HistorySchema)
@documented(blueprint, "get_order_history", "order_not_found", tag="Orders")
def history(order_id: str) -> Any:
    """What happened to an order.

    When, and by whom, for those who may read it. Staff see all names. The owner sees who was concerned with his order,
    and nobody else sees any.
    """
    state, found = _readable(order_id)
    try:
        entries = _entries(state.event_id, found)
    except LedgerContradiction as contradiction:
        services().manager.distrust(state.event_id)
        raise LedgerDamaged(state.event_id, str(contradiction)) from contradiction
    is_staff, is_owner = permissions.is_staff_of(state.event), permissions.is_owner(found)
    items = [
        entry if is_staff or (is_owner and entry.is_own) else entry._replace(by=None)
        for entry in entries
    ]
    if not (is_staff or is_owner):  # who has an order's id may read the order: no other id is given away
        items = [entry._replace(sender=None, recipient=None) for entry in items]
    return {"items": items, "next": None}


@blueprint.post("/orders/<order_id>/transfer")
@auth.required()
@blueprint.arguments(TransferSchema)
@blueprint.response(201, TransferredSchema, headers=creates("the recipient's order"))
@documented(
    blueprint,
    "transfer",
    "order_not_found",
    "order_not_confirmed",
    "already_booked",
    "transfer_closed",
    "event_cancelled",
    "exceeds_order_quantity",
    "exceeds_max_tickets_per_order",
    "exceeds_max_tickets_per_user",
    tag="Orders",
    protected=True,
    takes_body=True,
)
def transfer(body: dict[str, Any], order_id: str) -> Any:
    """Give tickets to another user.

    All tickets of an order, or some of them: the recipient gets an order of his own, and `from` is what is left of the
    sender's. It works when all is sold out too. A place in line cannot be given away.
    """
    caller = caller_id()
    request = request_key(caller, body)
    event_id = permissions.event_of_order_to_change(order_id, request=request)
    command = Transfer(
        event_id=event_id,
        by=caller,
        request=request,
        order_id=order_id,
        new_order_id=new_order_id(event_id),
        to_user_id=body["to_user_id"],
        quantity=body.get("quantity"),
    )
    answer = services().manager.execute(command, within_s=left_s())
    assert answer.order is not None and answer.sender is not None
    location = url_for("orders.order", order_id=answer.order.order_id)
    seen = {"order": order_view(answer.order), "sender": order_view(answer.sender)}
    return seen, 201, headers_of(answer, Location=location)


@blueprint.get("/orders")
@auth.required()
@blueprint.arguments(UserOrdersQuerySchema, location="query")
@blueprint.response(200, OrderPageSchema, headers=leads_on())
@documented(blueprint, "list_orders", "validation_failed", tag="Orders", protected=True)
def orders(query: dict[str, Any]) -> Any:
    """The orders of a user.

    Of all events, event by event: the caller's own, and for staff those in their events. A page may have fewer orders
    than `limit`, and a `next` all the same.
    """
    user_id = permissions.user_to_list(query.get("user_id"))
    after = text_after(query)
    if after and not _CURSOR.fullmatch(after):
        raise no_cursor()
    limit = query["limit"]
    order_ids = services().orders.ids_of(user_id, after, limit + 1, request_deadline())
    items: list[dict[str, Any]] = []
    looked_at = 0
    for event_id, of_event in groupby(order_ids[:limit], lambda order_id: order_id.partition(".")[0]):
        if looked_at and is_late():
            break  # the page ends where its time does
        ids = list(of_event)
        items += _listed(event_id, ids, user_id)
        looked_at += len(ids)
    body, headers = page_up_to(_between(order_ids[looked_at - 1 : looked_at + 1]), items)
    return body, 200, headers


def _between(order_ids: list[str]) -> str | None:
    """Where the next page begins: what sorts after the first of two ids and not after the second; None for fewer.

    No more of the second than that takes: it may be an order that the caller may not see, and its id is a secret.
    """
    if len(order_ids) < 2:
        return None
    last, following = order_ids
    return next(following[:length] for length in range(1, len(following) + 1) if following[:length] > last)


def _listed(event_id: str, order_ids: list[str], user_id: str) -> list[dict[str, Any]]:
    """Those orders of one event that are still the user's, and that the caller may see in a list."""
    try:
        state = services().manager.state_of(event_id, within_s=left_s())
    except (EventNotFound, LedgerDamaged):
        return []  # one damaged event must not keep the others from being listed
    found = [order for order_id in order_ids if (order := state.order(order_id)) is not None]
    is_staff = permissions.is_staff_of(state.event)
    return [
        order_view(order, state.waiting_position(order))
        for order in found
        if order.user_id == user_id and (is_staff or permissions.is_owner(order))
    ]


def _entries(event_id: str, order: Order) -> list[Entry]:
    """The history of an order. Raises `LedgerContradiction` where it does not lead to what the order is.

    A new primary may see a little later what this worker knows to be there.
    """
    parts, deadline = services(), request_deadline()
    entries: list[Entry] = []
    for _ in tries(parts.clock, min(deadline, parts.clock.monotonic() + SEEN_WITHIN_S)):
        transitions = parts.orders.transitions_of(event_id, order.order_id, order.version, deadline)
        entries = order_history(order.order_id, transitions)
        if entries and entries[-1].version == order.version:
            break
    end = [(entry.version, entry.status, entry.quantity) for entry in entries[-1:]]
    if end != [(order.version, order.status, order.quantity)]:
        raise LedgerContradiction(f"the history of the order {order.order_id} does not lead to what it is")
    return entries


def _readable(order_id: str) -> tuple[EventState, Order]:
    """An order that the caller may read, and its event. Raises `OrderNotFound` for all others."""
    event_id = event_id_of(order_id)
    if event_id is None:
        raise OrderNotFound
    try:
        state = services().manager.state_of(event_id, within_s=left_s())
    except EventNotFound:
        raise OrderNotFound from None
    found = state.order(order_id)
    if found is None or not permissions.may_read(state, found):
        raise OrderNotFound
    return state, found
