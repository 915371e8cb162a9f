"""The answers that many wait for are made by hand: they are what the schemas would make of them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from flask import Response
from werkzeug.test import create_environ

from tests.domain.rehearsal import OPENING, Rehearsal
from ticketing.api.answers import headers_of, json_answer
from ticketing.api.schemas import OrderSchema, SeenEvent, StatusSchema, order_json, order_view, status_json
from ticketing.domain.model import Answer
from ticketing.domain.tickets import TicketType


@pytest.fixture
def play() -> Rehearsal:
    """Two types, orders of all kinds, one of them older than its last change."""
    types = (TicketType("seat", "A seat", 2, Decimal("25.00"), "EUR"), TicketType("box", "A box", 1))
    play = Rehearsal(ticket_types=types)
    for user_id, quantity, code in (("ada", 2, "seat"), ("bob", 2, "seat"), ("cyd", 1, "box"), ("dan", 1, "box")):
        play.book(user_id, quantity, code)
    play.cancel("ada", 1)
    play.cancel("cyd")
    return play


def test_orders(play: Rehearsal) -> None:
    """Each member, in the same order."""
    schema = OrderSchema()
    for order in play.state.orders_by_arrival():
        for position in (None, play.state.waiting_position(order), 7):
            made = order_json(order, position)
            assert list(made.items()) == list(schema.dump(order_view(order, position)).items())


def test_the_status(play: Rehearsal) -> None:
    """Each member, in the same order, of the types too."""
    made = status_json(play.state, OPENING)
    dumped = StatusSchema().dump(SeenEvent(play.state, OPENING))
    assert list(made.items()) == list(dumped.items())
    assert [list(each) for each in made["ticket_types"]] == [list(each) for each in dumped["ticket_types"]]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_their_headers(method: str, status: int) -> None:
    """What Werkzeug would make of them."""
    answer = json_answer({"name": "Zoë"}, status, headers_of(Answer(replayed=True), Location="/orders/a-1.x_-9"))
    environ = create_environ(method=method)
    assert list(answer.get_wsgi_headers(environ)) == list(Response.get_wsgi_headers(answer, environ))
    assert answer.headers["Content-Length"] == str(len(answer.get_data()))
