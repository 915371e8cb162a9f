"""When tickets are sold, how many there are, and an event that is called off."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from ticketing.audit import audit_event
from ticketing.domain.commands import CancelEvent, Update
from ticketing.domain.decide import decide, promote_due
from ticketing.domain.fold import fold
from ticketing.domain.model import Answer, EventState, EventStatus, OrderStatus, TransitionType
from ticketing.domain.tickets import TicketType
from ticketing.storage.documents import commit_document

from .rehearsal import EVENT_ID, OPENING, Rehearsal, observed, refusal_of, request

HOUR = timedelta(hours=1)
SOON, LATER = OPENING + HOUR, OPENING + 2 * HOUR  # a rehearsal takes seconds


def update(play: Rehearsal, version: int | None = None, **fields: Any) -> Answer:
    """Change the event."""
    return play.play(Update(event_id=EVENT_ID, by="admin", fields=fields, version=version)).answer


def promoted(answer: Answer) -> list[str]:
    """Who moved up."""
    assert all(order.status is OrderStatus.CONFIRMED for order in answer.promoted)
    return [order.user_id for order in answer.promoted]


# The window of sales.


@pytest.mark.parametrize(
    ("details", "status"),
    [
        ({}, "on_sale"),
        ({"sales_open_at": SOON}, "scheduled"),
        ({"sales_open_at": OPENING}, "on_sale"),
        ({"sales_close_at": OPENING}, "sales_closed"),
        ({"sales_close_at": SOON}, "on_sale"),
        ({"ends_at": OPENING}, "ended"),
        ({"ends_at": OPENING, "sales_open_at": SOON}, "ended"),
        ({"starts_at": OPENING}, "on_sale"),
        ({"cancelled_at": OPENING, "ends_at": OPENING}, "cancelled"),
    ],
)
def test_the_status_is_a_matter_of_the_time(details: dict[str, Any], status: str) -> None:
    """An opening belongs to the sale, a closing and an end do not."""
    play = Rehearsal(3, details=details)
    assert play.state.status_at(OPENING) == status
    assert (play.state.event is not None) and play.state.event.is_on_sale(OPENING) == (status == "on_sale")


def test_an_event_that_was_never_opened_has_no_status() -> None:
    """There is nothing to say about it."""
    with pytest.raises(ValueError, match="not initialized"):
        EventState(EVENT_ID).status_at(OPENING)


def test_too_early_says_when_to_come_back() -> None:
    """And is not the last word: the same request may be repeated with its key, so nothing is remembered."""
    play = Rehearsal(3, details={"sales_open_at": SOON})
    version = play.state.version
    answer = play.book("ada")
    assert refusal_of(answer) == "sales_not_open"
    assert answer.refusal is not None
    assert answer.refusal.details == {"sales_open_at": "2027-01-01T21:00:00.000Z", "retry_after_s": 3598}
    assert play.state.version == version


def test_too_late_is_the_last_word() -> None:
    """Whoever comes after the end gets nothing, whatever is free."""
    play = Rehearsal(3, details={"sales_close_at": OPENING})
    assert refusal_of(play.book("ada")) == "sales_closed"
    assert play.state.available_tickets == 3


def test_while_nothing_is_sold_nobody_moves_up() -> None:
    """What is given back stays free, and belongs to the line; its transition says why nobody got it."""
    play = Rehearsal(1)
    play.book("ada")
    play.book("bob")
    update(play, sales_close_at=OPENING)
    assert promoted(play.cancel("ada")) == []
    assert play.transitions[-1].sales_closed
    assert (play.state.held_tickets, play.state.available_tickets, play.line()) == (1, 0, ["bob"])


def test_opening_again_goes_on_where_the_line_was() -> None:
    """In the same transition, first come first."""
    play = Rehearsal(2)
    for user in ("ada", "bob", "cyd", "dan"):
        play.book(user)
    update(play, sales_close_at=OPENING)
    play.cancel("ada")
    play.cancel("bob")
    assert promoted(update(play, sales_close_at=None)) == ["cyd", "dan"]
    assert not play.transitions[-1].sales_closed


def test_opening_by_the_clock_is_due_before_anything_else() -> None:
    """A transition of its own, which nobody asked for; without it the next booking would overtake the line."""
    play = Rehearsal(1)
    play.book("ada")
    play.book("bob")
    update(play, sales_open_at=SOON)
    play.cancel("ada")
    assert promote_due(play.state, SOON - timedelta(milliseconds=1)) is None
    due = promote_due(play.state, SOON)
    assert due is not None
    assert (due.type, due.by, [change["status"] for change in due.orders]) == ("promoted", None, ["confirmed"])
    state = fold(play.state, [due])
    assert (state.stock("general").free_tickets, list(state.waiting_orders())) == (0, [])
    assert promote_due(state, SOON) is None


# A line that is longer than one transition.


def crowd(play: Rehearsal) -> list[str]:
    """Two ticket types with a line each, of orders of one ticket and of three, and all tickets given back while sales
    are closed. Who is to move up, in turn."""
    for code, tickets in (("seat", 9), ("box", 8)):
        play.book(f"{code} owner", tickets, code)
        for number, quantity in enumerate((1, 3, 1, 2, 3)):
            play.book(f"{code} {number}", quantity, code)
    update(play, sales_close_at=OPENING)
    for code in ("seat", "box"):
        play.cancel(f"{code} owner")
    return [f"{code} {number}" for code in ("seat", "box") for number in range(4)]


def test_a_line_may_be_longer_than_one_transition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sales open again nevertheless: the first move up, the others before anything else is decided, in turn. Until
    then their tickets are nobody else's, and they cannot be taken away."""
    monkeypatch.setattr("ticketing.domain.decide.PROMOTIONS_MAX", 3)
    types = (TicketType("seat", "Seat", 9), TicketType("box", "Box", 8))
    play = Rehearsal(details={}, ticket_types=types)
    wanted = crowd(play)
    moved = promoted(update(play, sales_close_at=None))
    assert moved == wanted[:3]
    for code, user in (("seat", "zoe"), ("box", "zac")):
        stock = play.state.stock(code)
        assert (stock.available_tickets, stock.held_tickets) == (0, stock.free_tickets)
        assert decide(play.state, play.booking(user, 1, code), SOON).answer.waiting_position == len(stock.line) + 1
    fewer = Update(event_id=EVENT_ID, fields={"ticket_types": [{"code": "box", "total_tickets": 7}]})
    assert refusal_of(decide(play.state, fewer, SOON).answer) == "below_booked_tickets"
    while (due := promote_due(play.state, SOON)) is not None:
        assert len(due.orders) <= 3
        play.transitions.append(due)
        play.state = fold(play.state, [due])
        moved += [play.state.orders[play.state.numbers[change["order_id"]]].user_id for change in due.orders]
    assert moved == wanted
    assert play.line() == ["seat 4", "box 4"]
    assert [stock.held_tickets for stock in play.state.stocks] == [2, 1]
    assert observed(fold(EventState(EVENT_ID), play.transitions)) == observed(play.state)


def test_more_tickets_than_one_transition_gives_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken nevertheless, and the line gets them in turn."""
    monkeypatch.setattr("ticketing.domain.decide.PROMOTIONS_MAX", 2)
    play = Rehearsal(1)
    for user in ("ada", "bob", "cyd", "dan", "eve"):
        play.book(user)
    assert promoted(update(play, total_tickets=4)) == ["bob", "cyd"]
    due = promote_due(play.state, SOON)
    assert due is not None
    assert [change["order_id"] for change in due.orders] == [play.order_of("dan").order_id]


# Capacity.


def test_more_tickets_go_to_the_line_at_once() -> None:
    """In the transition that brings them, first come first, as far as they fit."""
    play = Rehearsal(2)
    play.book("ada", 2)
    for user, quantity in (("bob", 1), ("cyd", 2), ("dan", 1)):
        play.book(user, quantity)
    answer = update(play, total_tickets=4)
    assert promoted(answer) == ["bob"]
    assert play.transitions[-1].type is TransitionType.UPDATED
    assert (play.state.held_tickets, play.line()) == (1, ["cyd", "dan"])
    assert promoted(update(play, total_tickets=100)) == ["cyd", "dan"]


def test_fewer_tickets_have_a_floor() -> None:
    """What is booked, and what is held for the first in line, cannot be taken away."""
    play = Rehearsal(4)
    play.book("ada", 2)
    refused = update(play, total_tickets=1)
    assert refused.refusal is not None
    assert (refusal_of(refused), refused.refusal.details) == (
        "below_booked_tickets",
        {"minimum": 2, "ticket_type": "general"},
    )
    play.book("bob", 3)  # waits, and holds the other two
    refused = update(play, total_tickets=3)
    assert refused.refusal is not None and refused.refusal.details["minimum"] == 4
    play.cancel("bob")
    assert update(play, total_tickets=2).refusal is None
    assert play.state.status_at(OPENING) is EventStatus.SOLD_OUT


# The event as a whole.


def test_a_change_may_be_meant_for_one_version() -> None:
    """At another one it is refused, and changes nothing."""
    play = Rehearsal(4)
    play.book("ada")
    assert refusal_of(update(play, 1, venue="City Hall")) == "precondition_failed"
    assert update(play, 2, venue="City Hall").refusal is None
    assert play.state.event is not None and play.state.event.venue == "City Hall"


def test_what_is_so_already_is_no_change() -> None:
    """No transition, and the event as the answer."""
    play = Rehearsal(4, details={"venue": "City Hall"})
    answer = update(play, venue="City Hall", total_tickets=4)
    assert answer.event is play.state
    assert len(play.transitions) == 1


def test_with_a_key_no_change_is_remembered() -> None:
    """The repeat gets the event as it was then; the ledger leads to the same."""
    play = Rehearsal(4, details={"venue": "City Hall"})
    command = Update(event_id=EVENT_ID, fields={"venue": "City Hall"}, request=request("same"))
    assert play.play(command).answer.event is play.state
    update(play, venue="Arena")
    again = play.play(command).answer
    assert again.replayed and again.event is not None and again.event.event is not None
    assert (again.event.version, again.event.event.venue) == (2, "City Hall")
    assert observed(fold(EventState(EVENT_ID), play.transitions)) == observed(play.state)
    assert audit_event(EVENT_ID, [commit_document(EVENT_ID, play.transitions, b"n" * 16)]).findings == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"starts_at": LATER, "ends_at": SOON}, "ends_at"),
        ({"sales_open_at": SOON, "sales_close_at": SOON}, "sales_close_at"),
    ],
)
def test_times_must_not_contradict_each_other(fields: dict[str, datetime], field: str) -> None:
    """Neither those sent together nor those that meet in a change."""
    first, second = fields.items()
    opened = Rehearsal(4, details=dict([first]))
    for answer in (
        Rehearsal().initialize(4, details=fields),
        opened.play(Update(event_id=EVENT_ID, fields=dict([second]))).answer,
    ):
        assert answer.refusal is not None
        assert (refusal_of(answer), answer.refusal.details["field"]) == ("invalid_schedule", field)


def test_a_cancelled_event_sells_nothing_for_good() -> None:
    """Orders stay what they are and may be cancelled; nobody moves up, and nothing can be changed any more."""
    play = Rehearsal(1)
    play.book("ada")
    play.book("bob")
    command = CancelEvent(event_id=EVENT_ID, by="admin")
    answer = play.play(command).answer
    assert answer.event is play.state
    assert play.state.status_at(OPENING) is EventStatus.CANCELLED
    assert refusal_of(play.book("cyd")) == "event_cancelled"
    assert refusal_of(update(play, total_tickets=5)) == "event_cancelled"
    assert promoted(play.cancel("ada")) == []
    assert play.play(command).transition is None
    assert play.order_of("bob").status is OrderStatus.WAITING


def test_for_good_is_not_a_matter_of_clocks() -> None:
    """A worker whose clock is behind sells no tickets of a cancelled event either, and nobody moves up by it."""
    play = Rehearsal(1)
    play.book("ada")
    play.book("bob")
    play.play(CancelEvent(event_id=EVENT_ID))
    play.commands -= 3
    assert promote_due(play.state, OPENING) is None
    assert promoted(play.cancel("ada")) == []
    assert play.transitions[-1].at < play.transitions[-2].at
    assert audit_event(EVENT_ID, [commit_document(EVENT_ID, play.transitions, b"n" * 16)]).findings == []


def test_the_ledger_leads_to_the_same_state() -> None:
    """Whatever was changed on the way, and with whichever keys."""
    play = Rehearsal(2, details={"venue": "City Hall", "max_tickets_per_user": 2})
    for user in ("ada", "bob", "cyd"):
        play.book(user, 2)
    update(play, total_tickets=3, sales_close_at=OPENING)
    play.cancel("ada")
    update(play, sales_close_at=None, venue=None)
    play.play(CancelEvent(event_id=EVENT_ID))
    assert observed(fold(EventState(EVENT_ID), play.transitions)) == observed(play.state)


def test_a_user_may_have_so_many() -> None:
    """Fewer than one order may hold."""
    play = Rehearsal(9, details={"max_tickets_per_user": 2})
    answer = play.book("ada", 3)
    assert answer.refusal is not None
    assert (refusal_of(answer), answer.refusal.details) == ("exceeds_max_tickets_per_user", {"maximum": 2})
    assert play.book("ada", 2).refusal is None


def test_the_second_end_is_remembered_too() -> None:
    """With a key it gets the same answer for ever, though it changed nothing."""
    play = Rehearsal(1)
    play.play(CancelEvent(event_id=EVENT_ID))
    second = CancelEvent(event_id=EVENT_ID, request=request("again"))
    first_answer = play.play(second).answer
    play.cancel(order_id="nothing")
    repeated = decide(play.state, second, LATER).answer
    assert repeated.replayed
    assert first_answer.event is not None and repeated.event is not None
    assert observed(repeated.event)["version"] == observed(first_answer.event)["version"] == 3
