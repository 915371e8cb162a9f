"""GET /orders/<order_id>: one order, for its owner and staff, and where it has no owner for whoever has its id."""

from __future__ import annotations

from typing import Any

from flask_smorest import Blueprint

from ..errors import EventNotFound, OrderNotFound
from ..ids import event_id_of
from ..services import services
from . import permissions
from .openapi import documented
from .schemas import OrderSchema, order_view

blueprint = Blueprint("orders", __name__, description="Look at an order.")


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
