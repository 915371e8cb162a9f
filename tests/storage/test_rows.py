"""Bookings folded by columns: nothing comes out that one by one would not, whatever the ledger holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st

from ticketing.domain.changes import fold_and_tell
from ticketing.domain.fold import Folding, LedgerContradiction, fold
from ticketing.domain.model import EventState, Transition
from ticketing.domain.rows import Row, one_by_one
from ticketing.domain.tickets import TicketType
from ticketing.storage.documents import commit_document, transitions_of
from ticketing.storage.rows import rows_of

from ..domain.rehearsal import EVENT_ID, Rehearsal, observed, request

SEAT = TicketType("seat", "Seat", 12, Decimal("25.00"), "EUR")
FREE_SEAT = SEAT._replace(price=Decimal(0), currency=None)
BOX = TicketType("box", "Box", 3, Decimal("90.00"), "EUR")
BOOKINGS = st.lists(st.tuples(st.sampled_from(["seat", "seat", "box"]), st.integers(1, 3), st.booleans()), max_size=25)
READ = CodecOptions[dict[str, Any]](tz_aware=False)

Part = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def short_rows() -> Iterator[None]:
    """Two in a row are enough, so that a few bookings try all that many would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ticketing.storage.rows.ROW_MIN", 2)
        yield


def played(bookings: Sequence[tuple[str, int, bool]], types: Sequence[TicketType] = (SEAT, BOX)) -> Rehearsal:
    """Each booking is a ticket type, a quantity, and whether it came with a key; each is of another user."""
    play = Rehearsal(total_tickets=sum(each.total_tickets for each in types), ticket_types=tuple(types))
    for place, (code, quantity, is_keyed) in enumerate(bookings):
        play.book(f"user {place}", quantity, code, request=request(str(place)) if is_keyed else None)
    return play


def parts_of(transitions: Sequence[Transition]) -> list[Part]:
    """Transitions as the ledger has them."""
    document = commit_document(EVENT_ID, transitions, b"n" * 16) if transitions else {"transitions": []}
    parts: list[Part] = read_again(document)["transitions"]
    return parts


def read_again(document: Part) -> Part:
    """A document as the driver gives it: made for its reader alone, who may change it."""
    return bson.decode(bson.encode(document), READ)


def in_rows(parts: Sequence[Part]) -> list[Transition | Row]:
    """As the ledger gives them to a fold."""
    return rows_of([read_again({"transitions": parts})])


def alone(parts: Sequence[Part]) -> list[Transition]:
    """As they would be without rows."""
    return transitions_of(read_again({"transitions": parts}))


def outcome(state: EventState, parts: Sequence[Part], *, by_rows: bool) -> Any:
    """All that can be seen of the state, or what is wrong with the ledger."""
    try:
        return observed(fold(state, (in_rows if by_rows else alone)(parts)))
    except LedgerContradiction as contradiction:
        return str(contradiction)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return repr(error)


@given(BOOKINGS, st.integers(0, 25))
def test_rows_lead_where_one_by_one_leads(bookings: list[tuple[str, int, bool]], split: int) -> None:
    """From nothing, and from any state in between, whose tables are not empty any more."""
    parts = parts_of(played(bookings).transitions)
    expected = fold(EventState(EVENT_ID), alone(parts))
    half = fold(EventState(EVENT_ID), in_rows(parts[:split]))
    for state in (fold(EventState(EVENT_ID), in_rows(parts)), fold(half, in_rows(parts[split:]))):
        assert observed(state) == observed(expected)
        assert dict(state.keys) == dict(expected.keys)


@given(BOOKINGS)
def test_a_row_one_by_one_leads_there_too(bookings: list[tuple[str, int, bool]]) -> None:
    parts = parts_of(played(bookings).transitions)
    state = fold(EventState(EVENT_ID), one_by_one(in_rows(parts)))
    assert observed(state) == observed(fold(EventState(EVENT_ID), alone(parts)))


@given(BOOKINGS, st.integers(0, 27))
def test_rows_are_told_as_one_by_one_are(bookings: list[tuple[str, int, bool]], after: int) -> None:
    """From any version on: the fold of what comes before it need not be told."""
    parts = parts_of(played(bookings).transitions)
    every = list(fold_and_tell(Folding(EventState(EVENT_ID)), alone(parts)))
    assert [change.version for change in every] == list(range(1, len(parts) + 1))
    folding = Folding(EventState(EVENT_ID))
    assert list(fold_and_tell(folding, in_rows(parts), after)) == every[after:]
    assert folding.version == len(parts)


@pytest.mark.parametrize("types", [(SEAT, BOX), (FREE_SEAT,)], ids=["sold", "free"])
@pytest.mark.parametrize("is_keyed", [False, True], ids=["without keys", "with keys"])
def test_most_bookings_stand_in_rows(
    types: Sequence[TicketType], is_keyed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing here would try them. All but the first are folded without a step for each."""
    parts = parts_of(played([("seat", 2, is_keyed)] * 12, types).transitions)
    expected = observed(fold(EventState(EVENT_ID), alone(parts)))
    opening, *rows = in_rows(parts)
    assert [len(row) for row in rows if isinstance(row, Row)] == [6, 6]
    folding = Folding(EventState(EVENT_ID))
    folding.add([opening])
    monkeypatch.setattr(Folding, "_apply", None)
    folding.add(rows)
    assert observed(folding.state()) == expected


def with_order(part: Part, **fields: Any) -> Part:
    """The same with other fields of its order."""
    return part | {"orders": [part["orders"][0] | fields]}


def without(part: Part, name: str) -> Part:
    """The same without a field."""
    return {key: value for key, value in part.items() if key != name}


REFUSAL = {"code": "order_not_found", "details": {}}


def strange_ones(usual: Part, before: Part) -> Iterator[tuple[str, Part]]:
    """What a ledger might hold in the place of a booking, damaged or not; `before` comes right before it."""
    (order,) = usual["orders"]
    for name in ("version", "type", "at", "orders"):
        yield f"no {name}", without(usual, name)
    for name in order:
        yield f"an order without {name}", usual | {"orders": [without(order, name)]}
    fields: dict[str, Any]
    for fields in (
        {"version": usual["version"] + 1},
        {"version": "1"},
        {"type": "lost"},
        {"at": "noon"},
        {"at": None},
        {"by": None},
        {"by": "ada"},
        {"event": {"venue": "Hall"}},
        {"refusal": REFUSAL},
        {"refused": [REFUSAL | {"index": 0}]},
        {"sales": "closed"},
        {"sold": True},
        {"request": None},
        {"request": {}},
        {"request": {"key": None, "fingerprint": None}},
        {"request": {"key": ["key"], "fingerprint": b""}},
        {"request": {"key": "text", "fingerprint": b""}},
        {"orders": []},
        {"orders": ["text"]},
        {"orders": None},
    ):
        yield str(fields), usual | fields
    yield "two orders", usual | {"orders": [order, order | {"order_id": "another", "user_id": "another"}]}
    for fields in (
        {"order_id": before["orders"][0]["order_id"]},
        {"order_id": 5},
        {"user_id": before["orders"][0]["user_id"]},
        {"user_id": 5},
        {"user_id": ["ada"]},
        {"quantity": 0},
        {"quantity": -1},
        {"quantity": 1.5},
        {"quantity": "1"},
        {"quantity": 1000},
        {"status": "waiting"},
        {"status": "confirmed"},
        {"status": "cancelled"},
        {"status": "lost"},
        {"ticket_type": "none"},
        {"ticket_type": None},
        {"ticket_type": ["seat"]},
        {"unit_price": 25},
        {"unit_price": "free"},
        {"unit_price": "26.00"},
        {"currency": 978},
        {"transferred_from": "another"},
    ):
        yield str(fields), with_order(usual, **fields)


# What the fold does not ask a booking about, or may well be so.
HARMLESS = {
    "an order without unit_price",
    "an order without currency",
    "two orders",
    "{'by': None}",
    "{'by': 'ada'}",
    "{'refusal': " + str(REFUSAL) + "}",
    "{'refused': [" + str(REFUSAL | {"index": 0}) + "]}",
    "{'sales': 'closed'}",
    "{'sold': True}",
    "{'request': None}",
    "{'request': {'key': None, 'fingerprint': None}}",
    "{'request': {'key': 'text', 'fingerprint': b''}}",
    "{'status': 'waiting'}",
    "{'unit_price': '26.00'}",
    "{'transferred_from': 'another'}",
}
ROW = 8


@pytest.mark.parametrize("is_waiting", [False, True], ids=["confirmed", "waiting"])
@pytest.mark.parametrize("place", [0, 3, ROW - 1])
def test_damage_in_a_row_is_found_as_it_is_alone(place: int, is_waiting: bool) -> None:
    """Wherever it stands, in front of a state with orders too; nothing of a damaged row is folded by columns."""
    parts = parts_of(played([("seat", 1, True)] * (12 + ROW + 1)).transitions)
    first = 14 if is_waiting else 2
    before, row = parts[:first], parts[first : first + ROW]
    state = fold(EventState(EVENT_ID), alone(before))
    found = {}
    for name, strange in strange_ones(row[place], (before + row)[first + place - 1]):
        damaged = [*row[:place], strange, *row[place + 1 :]]
        found[name] = outcome(state, damaged, by_rows=True)
        assert found[name] == outcome(state, damaged, by_rows=False), name
        assert outcome(EventState(EVENT_ID), before + damaged, by_rows=True) == found[name], name
    harmless = HARMLESS | {"{'quantity': 1000}" if is_waiting else "{'status': 'confirmed'}"}
    assert {name for name, what in found.items() if not isinstance(what, str)} == harmless


@pytest.mark.parametrize("damage", [{"quantity": 10}, {"user_id": "user 0"}])
def test_a_row_that_fits_in_itself_may_contradict_the_state(damage: dict[str, Any]) -> None:
    """Its columns are in order, what was before it speaks against them."""
    parts = parts_of(played([("seat", 1, False)] * 10).transitions)
    (row,) = in_rows([*parts[2:-1], with_order(parts[-1], **damage)])
    assert isinstance(row, Row)
    assert row.is_sound
    with pytest.raises(LedgerContradiction, match=f"transition {row.versions[-1]} "):
        fold(fold(EventState(EVENT_ID), alone(parts[:2])), [row])
