"""/orders/<order_id>: one order, for its owner and staff, and where it has no owner for whoever has its id."""

from __future__ import annotations

from typing import Any

from flask import url_for
from flask_smorest import Blueprint

from ..domain.commands import Transfer
from ..errors import EventNotFound, OrderNotFound
from ..ids import event_id_of, new_order_id
from ..passwords import normal
from ..services import left_s, services
from . import auth, permissions
from .answers import caller_id, headers_of
from .bodies import StrictParser
from .idempotency import request_key
from .openapi import creates, documented
from .schemas import OrderSchema, TransferredSchema, TransferSchema, order_view

blueprint = Blueprint("orders", __name__, description="Look at an order, and hand its tickets on.")
blueprint.ARGUMENTS_PARSER = StrictParser()


@blueprint.get("/orders/<order_id>")
@blueprint.response(200, OrderSchema)
@documented(blueprint, 404)
def order(order_id: str) -> Any:
    """An order as it is now, with its place in line. The id is a secret: who has it may read the order, unless its
    user has an account and it was booked with credentials: then only that user and staff."""
    event_id = event_id_of(order_id)
    if event_id is None:
        raise OrderNotFound
    try:
        state = services().manager.state_of(event_id)
    except EventNotFound:
        raise OrderNotFound from None
    found = state.order(order_id)
    if found is None or not permissions.may_read(state, found):
        raise OrderNotFound
    return order_view(found, state.waiting_position(found))


@blueprint.post("/orders/<order_id>/transfer")
@auth.required()
@blueprint.arguments(TransferSchema)
@blueprint.response(201, TransferredSchema, headers=creates("the recipient's order"))
@documented(blueprint, 404, 409, protected=True, takes_body=True)
def transfer(body: dict[str, Any], order_id: str) -> Any:
    """Give the tickets of an order, or some of them, to another user, who gets an order of his own."""
    caller = caller_id()
    request = request_key(caller, body)
    event_id = permissions.event_of_order_to_change(order_id)
    command = Transfer(
        event_id=event_id,
        by=caller,
        request=request,
        order_id=order_id,
        new_order_id=new_order_id(event_id),
        to_user_id=normal(body["to_user_id"]),
        quantity=body.get("quantity"),
    )
    answer = services().manager.execute(command, within_s=left_s())
    assert answer.order is not None and answer.sender is not None
    location = url_for("orders.order", order_id=answer.order.order_id)
    seen = {"order": order_view(answer.order), "sender": order_view(answer.sender)}
    return seen, 201, headers_of(answer, Location=location)
