"""What a command costs does not grow with the line: counted, not timed.

The counts are of Python and C function calls, and of the bytes that are allocated on the way: a loop over
those who wait shows in the first, a copy of them (which is a single call) in the second.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from ticketing.domain.commands import Booking, BookMany, Cancel, Transfer
from ticketing.domain.decide import decide
from ticketing.domain.fold import fold
from ticketing.domain.model import EventState, Order, OrderStatus, Transition, TransitionType

from .rehearsal import EVENT_ID, OPENING, Rehearsal

FEW, MANY = 1_000, 100_000
# A path in a tree may be a node or two longer with a hundred times as many. A loop would be a hundred times.
GROWTH_MAX = 3.0
BYTES_MAX = 32_000


def line_of(length: int) -> EventState:
    """An event with one ticket, sold, and a line of this length."""
    play = Rehearsal(1)
    play.book("holder")
    joined = [
        Transition(
            version,
            TransitionType.WAITLISTED,
            OPENING,
            orders=(
                {
                    "order_id": f"{EVENT_ID}.{version}",
                    "user_id": f"user {version}",
                    "quantity": 1,
                    "status": OrderStatus.WAITING,
                },
            ),
        )
        for version in range(3, length + 3)
    ]
    gc.disable()  # it looks through all of them again and again, and finds nothing
    try:
        return fold(play.state, joined)
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def lines() -> tuple[EventState, EventState]:
    """A line of a thousand, and one of a hundred thousand."""
    return line_of(FEW), line_of(MANY)


def middle(state: EventState) -> Order:
    """Somebody from the middle of the line."""
    order = state.order(f"{EVENT_ID}.{state.waiting_list_count // 2}")
    assert order is not None
    return order


def book(state: EventState) -> object:
    """Join the end of the line."""
    return decide(state, Rehearsal().booking("one more"), OPENING)


def promote(state: EventState) -> object:
    """The ticket goes from its holder to the first in line."""
    return decide(state, Cancel(event_id=EVENT_ID, user_id="holder"), OPENING)


def leave(state: EventState) -> object:
    """Somebody leaves from the middle."""
    return decide(state, Cancel(event_id=EVENT_ID, order_id=middle(state).order_id), OPENING)


def hand_on(state: EventState) -> object:
    """The ticket goes to somebody who does not wait."""
    held = state.active_order_of("holder")
    assert held is not None
    given = Transfer(event_id=EVENT_ID, order_id=held.order_id, new_order_id=f"{EVENT_ID}.new", to_user_id="new")
    return decide(state, given, OPENING)


def book_many(state: EventState) -> object:
    """Three join the end of the line."""
    bookings = tuple(Booking(f"{EVENT_ID}.new{number}", f"new {number}") for number in range(3))
    return decide(state, BookMany(event_id=EVENT_ID, bookings=bookings), OPENING)


def position(state: EventState) -> object:
    """One's own position."""
    return state.waiting_position(middle(state))


def counts(state: EventState) -> object:
    """The figures of the status."""
    return state.status_at(OPENING), state.available_tickets, state.held_tickets, state.waiting_list_count, state.weight


def page(state: EventState) -> object:
    """Fifty of the line from its middle."""
    return [order for order, _ in zip(state.waiting_orders(middle(state).number), range(50), strict=False)]


@pytest.mark.parametrize("act", [book, promote, leave, hand_on, book_many, position, counts, page])
def test_the_cost_does_not_grow_with_the_line(
    lines: tuple[EventState, EventState], act: Callable[[EventState], object]
) -> None:
    """A hundred times as many wait, and it takes about as many calls and no more memory than a few paths."""
    few, many = (calls_of(lambda state=state: act(state)) for state in lines)  # type: ignore[misc]
    assert 0 < many < few * GROWTH_MAX
    assert bytes_of(lambda: act(lines[1])) < BYTES_MAX


def test_a_loop_over_the_line_would_be_seen(lines: tuple[EventState, EventState]) -> None:
    """The negative control: a rank found by counting, and a copy of the line."""
    few, many = (
        calls_of(lambda state=state: [order.number for order in state.waiting_orders()])  # type: ignore[misc]
        for state in lines
    )
    assert many > few * GROWTH_MAX
    assert bytes_of(lambda: list(lines[1].lines["general"])) > BYTES_MAX


def calls_of(act: Callable[[], object]) -> int:
    """How many functions are called, Python's and C's."""
    count = 0

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


def bytes_of(act: Callable[[], object]) -> int:
    """The most memory that is held at once on the way."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
