"""What booking does: a ticket, a place in the line, or a refusal."""

from __future__ import annotations

import pytest

from ticketing.domain.model import EventStatus, OrderStatus, TransitionType

from .rehearsal import EVENT_ID, OPENING, Rehearsal, observed_event, refusal_of


def test_a_new_event_has_all_its_tickets_available() -> None:
    """Initialize opens the event at version 1, and the answer shows it."""
    play = Rehearsal()
    answer = play.initialize(100, name="Concert", max_tickets_per_order=4)
    assert answer.event is not None
    assert observed_event(answer.event) == observed_event(play.state)
    assert play.state.event is not None
    assert play.state.event.name == "Concert"
    assert play.state.event.max_tickets_per_order == 4
    assert play.state.event.created_at > OPENING
    assert (play.state.version, play.state.total_tickets, play.state.available_tickets) == (1, 100, 100)
    assert play.state.status_at(OPENING) is EventStatus.ON_SALE


def test_an_event_is_initialized_once() -> None:
    """The second initialize is refused, with the same or with other tickets."""
    play = Rehearsal(3)
    assert refusal_of(play.initialize(3)) == "event_exists"
    assert refusal_of(play.initialize(5)) == "event_exists"
    assert play.state.total_tickets == 3


def test_a_booking_that_fits_is_confirmed() -> None:
    """It takes its tickets at once, whoever carried it out is written down, and it has no position."""
    play = Rehearsal(3)
    answer = play.book("ada", 2)
    assert answer.order is not None
    assert answer.order.status is OrderStatus.CONFIRMED
    assert (answer.order.user_id, answer.order.quantity, answer.order.event_id) == ("ada", 2, EVENT_ID)
    assert answer.waiting_position is None
    assert (play.state.booked_tickets, play.state.available_tickets) == (2, 1)
    assert play.transitions[-1].type is TransitionType.BOOKED


def test_the_last_ticket_sells_the_event_out() -> None:
    """Nothing is available, nothing is held, and the status says so."""
    play = Rehearsal(1)
    play.book("ada")
    assert play.state.status_at(OPENING) is EventStatus.SOLD_OUT
    assert (play.state.available_tickets, play.state.held_tickets) == (0, 0)


def test_a_booking_of_a_sold_out_event_waits() -> None:
    """It joins the end of the line, and its answer names its position."""
    play = Rehearsal(1)
    play.book("ada")
    assert play.book("bob").waiting_position == 1
    answer = play.book("cyd")
    assert answer.order is not None
    assert answer.order.status is OrderStatus.WAITING
    assert answer.waiting_position == 2
    assert play.line() == ["bob", "cyd"]
    assert play.transitions[-1].type is TransitionType.WAITLISTED


def test_a_booking_is_confirmed_whole_or_waits_whole() -> None:
    """Two tickets are free and three are asked for: none is taken, and the two are held for the order."""
    play = Rehearsal(4)
    play.book("ada", 2)
    answer = play.book("bob", 3)
    assert answer.order is not None
    assert answer.order.status is OrderStatus.WAITING
    assert (play.state.booked_tickets, play.state.available_tickets, play.state.held_tickets) == (2, 0, 2)


def test_nobody_overtakes_the_line_even_when_it_would_fit() -> None:
    """A single ticket is free, but it belongs to the line whose first order needs two."""
    play = Rehearsal(2)
    play.book("ada")
    play.book("bob", 2)
    answer = play.book("cyd")
    assert answer.order is not None
    assert answer.order.status is OrderStatus.WAITING
    assert answer.waiting_position == 2


def test_a_user_has_one_active_order_an_event() -> None:
    """A second booking is refused while the first is confirmed, and while it waits; it names the order."""
    play = Rehearsal(1)
    confirmed, waiting = play.book("ada").order, play.book("bob").order
    assert confirmed is not None
    assert waiting is not None
    for order in (confirmed, waiting):
        answer = play.book(order.user_id)
        assert refusal_of(answer) == "already_booked"
        assert answer.refusal is not None
        assert answer.refusal.details == {"order_id": order.order_id}


def test_who_cancelled_may_book_again_at_the_end_of_the_line() -> None:
    """The old place is gone; the new order is another one."""
    play = Rehearsal(1)
    for user_id in ("ada", "bob", "cyd"):
        play.book(user_id)
    old = play.order_of("bob")
    play.cancel("bob")
    answer = play.book("bob")
    assert answer.order is not None
    assert answer.order.order_id != old.order_id
    assert answer.waiting_position == 2
    assert play.line() == ["cyd", "bob"]


@pytest.mark.parametrize("quantity", [5, 100])
def test_an_order_holds_no_more_than_the_events_maximum(quantity: int) -> None:
    """The refusal names the maximum."""
    play = Rehearsal(50, max_tickets_per_order=4)
    answer = play.book("ada", quantity)
    assert refusal_of(answer) == "exceeds_max_tickets_per_order"
    assert answer.refusal is not None
    assert answer.refusal.details == {"maximum": 4}
    assert play.book("ada", 4).order is not None


def test_an_order_holds_no_more_than_the_event_has() -> None:
    """It could never be confirmed and would hold up the line for ever."""
    play = Rehearsal(3)
    answer = play.book("ada", 4)
    assert refusal_of(answer) == "exceeds_total_tickets"
    assert answer.refusal is not None
    assert answer.refusal.details == {"maximum": 3}
    assert play.book("ada", 3).order is not None


@pytest.mark.parametrize("act", [lambda play: play.book("ada"), lambda play: play.cancel("ada")])
def test_an_event_that_was_never_initialized_is_not_found(act: object) -> None:
    """Neither booking nor cancelling creates one."""
    play = Rehearsal()
    answer = act(play)  # type: ignore[operator]
    assert refusal_of(answer) == "event_not_found"
    assert answer.refusal.details == {"event_id": EVENT_ID}
    assert play.state.version == 0


def test_an_orders_dates_and_version_are_those_of_its_transitions() -> None:
    """Created by the first, updated by the last."""
    play = Rehearsal(1)
    play.book("ada")
    play.book("bob")
    waiting = play.order_of("bob")
    assert (waiting.created_at, waiting.updated_at, waiting.version) == (
        play.transitions[2].at,
        play.transitions[2].at,
        3,
    )
    play.cancel("ada")
    promoted = play.order_of("bob")
    assert (promoted.created_at, promoted.updated_at, promoted.version) == (
        play.transitions[2].at,
        play.transitions[3].at,
        4,
    )


def test_orders_and_line_can_be_read_from_any_place_on() -> None:
    """After an order's number: what a page of a list begins with."""
    play = Rehearsal(1)
    for user_id in ("ada", "bob", "cyd", "dan"):
        play.book(user_id)
    play.cancel("cyd")
    bob = play.order_of("bob").number
    assert [order.user_id for order in play.state.orders_by_arrival()] == ["ada", "bob", "cyd", "dan"]
    assert [order.user_id for order in play.state.orders_by_arrival(after=bob)] == ["cyd", "dan"]
    assert [order.user_id for order in play.state.waiting_orders(after=bob)] == ["dan"]
    assert list(play.state.orders_by_arrival(after=4)) == []
