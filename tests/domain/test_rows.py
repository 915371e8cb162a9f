"""Bookings folded by columns: nothing comes out that one by one would not, whatever the ledger holds."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketing.domain.fold import Folding, LedgerContradiction, fold
from ticketing.domain.model import EventState, OrderStatus, RequestKey, Transition, TransitionType
from ticketing.domain.rows import columns_of
from ticketing.domain.tickets import TicketType
from ticketing.errors import OrderNotFound

from .rehearsal import EVENT_ID, Rehearsal, observed, request

SEAT = TicketType("seat", "Seat", 12, Decimal("25.00"), "EUR")
BOX = TicketType("box", "Box", 3, Decimal("90.00"), "EUR")
BOOKINGS = st.lists(st.tuples(st.sampled_from(["seat", "seat", "box"]), st.integers(1, 3), st.booleans()), max_size=25)


@pytest.fixture(autouse=True, scope="module")
def short_rows() -> Iterator[None]:
    """Two in a row are enough, so that a few bookings try all that many would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ticketing.domain.fold.ROW_MIN", 2)
        yield


def played(bookings: list[tuple[str, int, bool]]) -> Rehearsal:
    """Each booking is a ticket type, a quantity, and whether it came with a key; each is of another user."""
    play = Rehearsal(total_tickets=15, ticket_types=(SEAT, BOX))
    for place, (code, quantity, is_keyed) in enumerate(bookings):
        play.book(f"user {place}", quantity, code, request=request(str(place)) if is_keyed else None)
    return play


def one_by_one(state: EventState, transitions: list[Transition]) -> EventState:
    """The fold without rows."""
    for transition in transitions:
        state = fold(state, [transition])
    return state


def outcome(state: EventState, transitions: list[Transition], *, in_rows: bool) -> Any:
    """All that can be seen of the state, or what is wrong with the ledger."""
    try:
        return observed((fold if in_rows else one_by_one)(state, transitions))
    except LedgerContradiction as contradiction:
        return str(contradiction)


@given(BOOKINGS, st.integers(0, 25))
def test_rows_lead_where_one_by_one_leads(bookings: list[tuple[str, int, bool]], split: int) -> None:
    """From nothing, and from any state in between, whose tables are not empty any more."""
    transitions = played(bookings).transitions
    alone = one_by_one(EventState(EVENT_ID), transitions)
    half = fold(EventState(EVENT_ID), transitions[:split])
    for state in (fold(EventState(EVENT_ID), transitions), fold(half, transitions[split:])):
        assert observed(state) == observed(alone)
        assert dict(state.keys) == dict(alone.keys)


def test_most_bookings_stand_in_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing here would try them. All but the first are folded without a step for each."""
    transitions = played([("seat", 2, True)] * 12).transitions
    expected = observed(one_by_one(EventState(EVENT_ID), transitions))
    folding = Folding(EventState(EVENT_ID))
    folding.add(transitions[:1])
    monkeypatch.setattr(Folding, "_apply", None)
    folding.add(transitions[1:])
    assert observed(folding.state()) == expected


def with_order(transition: Transition, **fields: Any) -> Transition:
    """The same with other fields of its order."""
    order: Any = {**transition.orders[0], **fields}
    return transition._replace(orders=(order,))


def strange_ones(usual: Transition, before: Transition) -> Iterator[tuple[str, Transition]]:
    """What a damaged ledger might hold in the place of a booking; `before` comes right before it."""
    (order,) = usual.orders
    there: dict[str, Any] = {**before.orders[0]}
    yield "another number", usual._replace(version=usual.version + 1)
    yield "an event", usual._replace(event={"venue": "Hall"})
    yield "a refusal", usual._replace(refusal=OrderNotFound())
    yield "refused bookings", usual._replace(refused=((0, OrderNotFound()),))
    yield "a key that is none", usual._replace(request=RequestKey(["key"], b""))  # type: ignore[arg-type]
    yield "no order", usual._replace(orders=())
    yield "two orders", usual._replace(orders=(order, {**order, "order_id": "another", "user_id": "another"}))
    yield "no fields", usual._replace(orders=("text",))  # type: ignore[arg-type]
    yield "a field too few", usual._replace(orders=({"order_id": "another", "user_id": "another"},))
    yield "another status", with_order(usual, status=OrderStatus.CANCELLED)
    yield "the other type's status", with_order(
        usual,
        status=OrderStatus.WAITING if usual.type is TransitionType.BOOKED else OrderStatus.CONFIRMED,
    )
    for fields in (
        {"order_id": there["order_id"]},
        {"user_id": there["user_id"]},
        {"order_id": 5},
        {"user_id": 5},
        {"user_id": ["ada"]},
        {"quantity": 0},
        {"quantity": -1},
        {"quantity": 1.5},
        {"quantity": "1"},
        {"quantity": 1000},
        {"ticket_type": "none"},
        {"ticket_type": ["seat"]},
        {"unit_price": "25.00"},
        {"currency": 978},
    ):
        yield str(fields), with_order(usual, **fields)


ROW = 8


@pytest.mark.parametrize("is_waiting", [False, True], ids=["confirmed", "waiting"])
@pytest.mark.parametrize("place", [0, 3, ROW - 1])
def test_damage_in_a_row_is_found_as_it_is_alone(place: int, is_waiting: bool) -> None:
    """Wherever it stands, in front of a state with orders too; nothing of a damaged row is folded by columns."""
    transitions = played([("seat", 1, True)] * (12 + ROW + 1)).transitions
    first = 14 if is_waiting else 2
    before, row = transitions[:first], transitions[first : first + ROW]
    state = fold(EventState(EVENT_ID), before)
    found = {}
    for name, strange in strange_ones(row[place], (before + row)[first + place - 1]):
        damaged = [*row[:place], strange, *row[place + 1 :]]
        found[name] = outcome(state, damaged, in_rows=True)
        assert found[name] == outcome(state, damaged, in_rows=False), name
        assert outcome(EventState(EVENT_ID), before + damaged, in_rows=True) == found[name], name
    harmless = {"a refusal", "refused bookings", "two orders"}  # nobody asks about these fields of a booking
    harmless.add("{'quantity': 1000}" if is_waiting else "the other type's status")
    assert {name for name, what in found.items() if not isinstance(what, str)} == harmless


@pytest.mark.parametrize("damage", [{"quantity": 10}, {"user_id": "user 0"}])
def test_a_row_that_fits_in_itself_may_contradict_the_state(damage: dict[str, Any]) -> None:
    """Its columns are in order, what was before it speaks against them."""
    transitions = played([("seat", 1, False)] * 10).transitions
    row = [*transitions[2:-1], with_order(transitions[-1], **damage)]
    assert columns_of(row) is not None
    with pytest.raises(LedgerContradiction, match=f"transition {row[-1].version} "):
        fold(fold(EventState(EVENT_ID), transitions[:2]), row)
