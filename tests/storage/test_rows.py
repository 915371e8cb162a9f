"""Bookings folded by columns: nothing comes out that one by one would not, whatever the ledger holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from ticketing.domain.changes import fold_and_tell
from ticketing.domain.fold import Folding, LedgerContradiction, fold
from ticketing.domain.model import EventState, Transition
from ticketing.domain.rows import Row, transitions_in
from ticketing.domain.tickets import TicketType
from ticketing.storage.documents import commit_document, transitions_of
from ticketing.storage.rows import rows_of

from ..domain.rehearsal import EVENT_ID, Rehearsal, observed, request

SEAT = TicketType("seat", "Seat", 12, Decimal("25.00"), "EUR")
FREE_SEAT = SEAT._replace(price=Decimal(0), currency=None)
BOX = TicketType("box", "Box", 3, Decimal("90.00"), "EUR")
BOOKING = st.tuples(st.sampled_from(["seat", "seat", "box"]), st.integers(1, 3), st.booleans(), st.booleans())
BOOKINGS = st.lists(BOOKING, max_size=25)
COMMIT = 3  # transitions a commit: rows reach over several
READ = CodecOptions[dict[str, Any]](tz_aware=False)

Part = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def short_rows() -> Iterator[None]:
    """Two in a row are enough, so that a few bookings try all that many would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ticketing.storage.rows.ROW_MIN", 2)
        yield


def played(bookings: Sequence[tuple[str, int, bool, bool]], types: Sequence[TicketType] = (SEAT, BOX)) -> list[Part]:
    """What a ledger holds after bookings, each of another user.

    Each is a ticket type, a quantity, whether it came with a key, and whether with credentials.
    """
    play = Rehearsal(total_tickets=sum(each.total_tickets for each in types), ticket_types=tuple(types))
    for place, (code, quantity, is_keyed, _) in enumerate(bookings):
        play.book(f"user {place}", quantity, code, request=request(str(place)) if is_keyed else None)
    opening, *parts = read_again(commit_document(EVENT_ID, play.transitions, b"n" * 16))["transitions"]
    with_callers = zip(parts, bookings, strict=True)
    return [opening, *(part | ({"by": "staff"} if booking[3] else {}) for part, booking in with_callers)]


def read_again(document: Part) -> Part:
    """A document as the driver gives it: made for its reader alone, who may change it."""
    return bson.decode(bson.encode(document), READ)


def in_rows(parts: Sequence[Part]) -> list[Transition | Row]:
    """As the ledger gives them to a fold."""
    commits = [parts[first : first + COMMIT] for first in range(0, len(parts), COMMIT)]
    return rows_of([read_again({"transitions": commit}) for commit in commits])


def alone(parts: Sequence[Part]) -> list[Transition]:
    """As they would be without rows."""
    return transitions_of(read_again({"transitions": parts})["transitions"])


def outcome(state: EventState, *pages: Sequence[Part], by_rows: bool) -> Any:
    """All that can be seen of the state, or what is wrong with the ledger."""
    folding = Folding(state)
    try:
        for page in pages:
            folding.add((in_rows if by_rows else alone)(page))
    except LedgerContradiction as contradiction:
        return str(contradiction)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return repr(error)
    return observed(folding.state())


@given(BOOKINGS, st.integers(0, 25))
def test_rows_lead_where_one_by_one_leads(bookings: list[tuple[str, int, bool, bool]], split: int) -> None:
    """From nothing, and from any state in between, whose tables are not empty any more."""
    parts = played(bookings)
    expected = fold(EventState(EVENT_ID), alone(parts))
    half = fold(EventState(EVENT_ID), in_rows(parts[:split]))
    for state in (fold(EventState(EVENT_ID), in_rows(parts)), fold(half, in_rows(parts[split:]))):
        assert observed(state) == observed(expected)
        assert dict(state.keys) == dict(expected.keys)


@given(BOOKINGS)
def test_a_row_one_by_one_leads_there_too(bookings: list[tuple[str, int, bool, bool]]) -> None:
    parts = played(bookings)
    state = fold(EventState(EVENT_ID), transitions_in(in_rows(parts)))
    assert observed(state) == observed(fold(EventState(EVENT_ID), alone(parts)))


@given(BOOKINGS, st.integers(0, 27))
def test_rows_are_told_as_one_by_one_are(bookings: list[tuple[str, int, bool, bool]], after: int) -> None:
    """From any version on: the fold of what comes before it need not be told."""
    parts = played(bookings)
    every = list(fold_and_tell(Folding(EventState(EVENT_ID)), alone(parts)))
    assert [change.version for change in every] == list(range(1, len(parts) + 1))
    folding = Folding(EventState(EVENT_ID))
    assert list(fold_and_tell(folding, in_rows(parts), after)) == every[after:]
    assert folding.version == len(parts)


def test_rows_that_are_not_told_are_folded_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that goes on from far behind need not see each of them."""
    opening, row, *_ = in_rows(played([("seat", 1, True, True)] * 12))
    assert isinstance(row, Row)
    folding = Folding(EventState(EVENT_ID))
    folding.add([opening])
    monkeypatch.setattr(Folding, "_apply", None)
    assert list(fold_and_tell(folding, [row], 13)) == []
    assert folding.version == 13


@pytest.mark.parametrize("orders", [["text"], [{"user_id": "ada"}], [{"order_id": ["ada"]}], None])
def test_damage_is_no_error_of_the_teller(orders: Any) -> None:
    """It is a contradiction, as it is for the fold."""
    parts = played([("seat", 1, True, True)])
    (damaged,) = alone([parts[1]])
    folding = Folding(fold(EventState(EVENT_ID), alone(parts[:1])))
    with pytest.raises(LedgerContradiction, match="is damaged"):
        list(fold_and_tell(folding, [damaged._replace(orders=orders)]))


@pytest.mark.parametrize("types", [(SEAT, BOX), (FREE_SEAT,)], ids=["sold", "free"])
@pytest.mark.parametrize("is_keyed", [False, True], ids=["without keys", "with keys"])
def test_most_bookings_stand_in_rows(
    types: Sequence[TicketType], is_keyed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing here would try them. All but the first are folded without a step for each."""
    parts = played([("seat", 2, is_keyed, is_keyed)] * 12, types)
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
        {"version": float(usual["version"])},
        {"version": Int64(usual["version"])},
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
        {"request": {"key": b"", "fingerprint": b""}},
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
        {"quantity": True},
        {"quantity": Int64(1)},
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
    "{'quantity': 1}",
    "{'by': None}",
    "{'by': 'ada'}",
    "{'refusal': " + str(REFUSAL) + "}",
    "{'refused': [" + str(REFUSAL | {"index": 0}) + "]}",
    "{'sales': 'closed'}",
    "{'sold': True}",
    "{'request': None}",
    "{'request': {'key': None, 'fingerprint': None}}",
    "{'request': {'key': 'text', 'fingerprint': b''}}",
    "{'request': {'key': b'', 'fingerprint': b''}}",
    "{'status': 'waiting'}",
    "{'unit_price': '26.00'}",
    "{'transferred_from': 'another'}",
}
ROW = 8


@pytest.mark.parametrize("is_waiting", [False, True], ids=["confirmed", "waiting"])
@pytest.mark.parametrize("is_keyed", [False, True], ids=["without keys", "with keys"])
@pytest.mark.parametrize("place", [0, 3, ROW - 1])
def test_damage_in_a_row_is_found_as_it_is_alone(place: int, is_keyed: bool, is_waiting: bool) -> None:
    """Wherever it stands in a row, in front of a state with orders too, and as the last of a page before a row."""
    parts = played([("seat", 1, is_keyed, True)] * (12 + ROW + 4))
    first = 14 if is_waiting else 2
    before, row, rest = parts[:first], parts[first : first + ROW], parts[first + ROW :]
    state = fold(EventState(EVENT_ID), alone(before))
    found = {}
    for name, strange in strange_ones(row[place], (before + row)[first + place - 1]):
        damaged = [*row[:place], strange, *row[place + 1 :]]
        found[name] = outcome(state, damaged, by_rows=True)
        assert found[name] == outcome(state, damaged, by_rows=False), name
        assert outcome(EventState(EVENT_ID), before + damaged, by_rows=True) == found[name], name
        pages = damaged[: place + 1], damaged[place + 1 :] + rest
        assert outcome(state, *pages, by_rows=True) == outcome(state, *pages, by_rows=False), name
    harmless = HARMLESS | {"{'quantity': 1000}" if is_waiting else "{'status': 'confirmed'}"}
    harmless |= {f"{{'version': {row[place]['version']}}}"}
    harmless |= set() if is_keyed else {"no orders", "{'orders': []}"}  # then there is no answer to keep
    assert {name for name, what in found.items() if not isinstance(what, str)} == harmless


@pytest.mark.parametrize("damage", [{"quantity": 10}, {"user_id": "user 0"}])
def test_a_row_that_fits_in_itself_may_contradict_the_state(damage: dict[str, Any]) -> None:
    """Its columns are in order, what was before it speaks against them."""
    parts = played([("seat", 1, False, False)] * 10)
    (row,) = in_rows([*parts[2:-1], with_order(parts[-1], **damage)])
    assert isinstance(row, Row)
    assert row.is_usual
    with pytest.raises(LedgerContradiction, match=f"transition {row.versions[-1]} "):
        fold(fold(EventState(EVENT_ID), alone(parts[:2])), [row])
