"""Which notices a change leads to."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ticketing.domain.changes import Change, ChangedOrder, fold_and_tell
from ticketing.domain.fold import Folding
from ticketing.domain.model import EventState, OrderStatus, TransitionType
from ticketing.domain.notices import NoticeType, notices_of

from .rehearsal import EVENT_ID, OPENING, Rehearsal


def told(rehearsal: Rehearsal) -> list[list[tuple[str, str | None]]]:
    """For each transition of a rehearsal what is told, and of whom."""
    changes = fold_and_tell(Folding(EventState(EVENT_ID)), rehearsal.transitions)
    return [
        [(notice.type.value, notice.changed and notice.changed.order.user_id) for notice in notices_of(change)]
        for change in changes
    ]


def test_what_becomes_of_orders() -> None:
    """Each step of an order's life is a notice; a cancellation tells of those that it promotes, after itself."""
    rehearsal = Rehearsal(2)
    rehearsal.book("ada", 2)
    for user in ("ben", "cleo", "dan"):
        rehearsal.book(user)
    rehearsal.cancel("dan")
    rehearsal.cancel("ada")
    assert told(rehearsal) == [
        [],
        [("order.confirmed", "ada")],
        [("order.waitlisted", "ben")],
        [("order.waitlisted", "cleo")],
        [("order.waitlisted", "dan")],
        [("order.cancelled", "dan")],
        [("order.cancelled", "ada"), ("order.promoted", "ben"), ("order.promoted", "cleo")],
    ]


def test_notices_are_numbered() -> None:
    """So that each has an id of its own, the same whenever it is told."""
    rehearsal = Rehearsal(1)
    for user in ("ada", "ben"):
        rehearsal.book(user)
    rehearsal.cancel("ada")
    *_, change = fold_and_tell(Folding(EventState(EVENT_ID)), rehearsal.transitions)
    assert [notice.number for notice in notices_of(change)] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "steps", "notices"),
    [
        ("updated", [], ["event.updated"]),
        ("updated", [("waiting", "confirmed")], ["event.updated", "order.promoted"]),
        ("event_cancelled", [("confirmed", "cancelled")], ["event.cancelled", "order.cancelled"]),
        ("transferred", [("confirmed", "cancelled"), (None, "confirmed")], ["order.transferred"] * 2),
        ("cancelled", [("confirmed", "confirmed"), ("waiting", "confirmed")], ["order.updated", "order.promoted"]),
        ("cancelled", [("waiting", "waiting")], ["order.updated"]),
        ("pseudonymized", [("confirmed", "confirmed")], []),
        ("bulk_booked", [(None, "confirmed"), (None, "waiting")], ["order.confirmed", "order.waitlisted"]),
    ],
)
def test_by_what_happened(kind: str, steps: list[tuple[str | None, str]], notices: list[str]) -> None:
    """Events by the type of the transition, orders by their status before and after, whatever the type is."""
    rehearsal = Rehearsal(1)
    order = rehearsal.book("ada").order
    assert order is not None
    changed: list[Any] = [
        (order._replace(status=OrderStatus(after)), None, before and OrderStatus(before)) for before, after in steps
    ]
    orders = tuple(ChangedOrder(*each) for each in changed)
    change = Change(2, cast(TransitionType, kind), OPENING, None, orders)
    assert [notice.type.value for notice in notices_of(change)] == notices


def test_every_type_can_be_told() -> None:
    """None is promised that no change leads to."""
    assert {kind.value for kind in NoticeType} == {
        "order.confirmed",
        "order.waitlisted",
        "order.promoted",
        "order.updated",
        "order.cancelled",
        "order.transferred",
        "event.updated",
        "event.cancelled",
    }
