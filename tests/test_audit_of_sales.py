"""The audit of events that are changed, closed, opened again and cancelled: each damage has a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.domain import rehearsal
from tests.domain.rehearsal import EVENT_ID, OPENING, Rehearsal
from ticketing.audit import audit_event
from ticketing.domain.commands import CancelEvent, Update
from ticketing.domain.decide import promote_due
from ticketing.domain.fold import fold
from ticketing.storage.documents import commit_document

Document = dict[str, Any]


NEW = {"order_id": f"{EVENT_ID}.new", "user_id": "zoe", "quantity": 1, "status": "waiting"}


def season() -> list[Document]:
    """The transitions as they are stored. Versions 2 to 5 book, 6 closes, 7 cancels an order, 8 opens again
    and promotes, 9 brings a ticket and opens later, 10 promotes when the clock has come there, 12 cancels the event,
    13 an order."""
    play = Rehearsal(2)
    for user in ("ada", "bob", "cyd", "dan"):
        play.book(user)
    play.play(Update(event_id=EVENT_ID, fields={"sales_close_at": OPENING}))
    play.cancel("ada")
    play.play(Update(event_id=EVENT_ID, fields={"sales_close_at": None, "venue": "City Hall"}))
    later = OPENING + timedelta(hours=1)
    play.play(Update(event_id=EVENT_ID, fields={"sales_open_at": later, "total_tickets": 3}))
    due = promote_due(play.state, later)
    assert due is not None
    play.transitions.append(due)
    play.state = fold(play.state, [due])
    play.play(Update(event_id=EVENT_ID, fields={"sales_open_at": None}))
    play.play(CancelEvent(event_id=EVENT_ID))
    play.cancel("bob")
    transitions: list[Document] = commit_document(EVENT_ID, play.transitions, b"n" * 16)["transitions"]
    return transitions


def findings(transitions: list[Document]) -> str:
    """What the audit says of these, as one commit."""
    document = {
        "_id": f"{EVENT_ID}:{1:012d}",
        "event_id": EVENT_ID,
        "first": 1,
        "last": len(transitions),
        "nonce": b"n" * 16,
        "transitions": transitions,
    }
    return "\n".join(audit_event(EVENT_ID, [document]).findings)


def test_a_sound_season_has_no_findings() -> None:
    """Closed and opened again, by a change and by the clock, and cancelled at last."""
    assert [part["type"] for part in season()[5:]] == [
        "updated", "cancelled", "updated", "updated", "promoted", "updated", "event_cancelled", "cancelled",
    ]  # fmt: skip
    assert findings(season()) == ""


def test_a_line_that_moves_up_in_several_transitions_has_no_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one holds: the first is full, and the next goes on. One that is not full must leave nobody."""
    monkeypatch.setattr("ticketing.domain.decide.PROMOTIONS_MAX", 2)
    play = Rehearsal(3)
    for user in ("ada", "bob", "cyd", "dan", "eve", "fay"):
        play.book(user)
    play.play(Update(event_id=EVENT_ID, fields={"sales_open_at": OPENING + timedelta(hours=1)}))
    for user in ("ada", "bob", "cyd"):
        play.cancel(user)
    while (due := promote_due(play.state, OPENING + timedelta(hours=1))) is not None:
        play.transitions.append(due)
        play.state = fold(play.state, [due])
    parts = commit_document(EVENT_ID, play.transitions, b"n" * 16)["transitions"]
    assert [len(part["orders"]) for part in parts if part["type"] == "promoted"] == [2, 1]
    assert re.search("leaves .* first in line, with 1 free", findings(parts))
    monkeypatch.setattr("ticketing.audit._PROMOTED_AT_ONCE", 2)
    assert findings(parts) == ""


def reopened(monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    """Sales are opened again over a line of three with three tickets, of which a transition gives away two: version 9
    updates, 10 promotes the last one."""
    monkeypatch.setattr("ticketing.domain.decide.PROMOTIONS_MAX", 2)
    monkeypatch.setattr("ticketing.audit._PROMOTED_AT_ONCE", 2)
    parts = rehearsal.reopened("bob", "cyd", "dan", "eve")
    transitions: list[Document] = commit_document(EVENT_ID, parts, b"n" * 16)["transitions"]
    return transitions


def test_a_change_may_serve_a_part_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as one transition holds: the next one goes on."""
    parts = reopened(monkeypatch)
    assert [(part["type"], len(part.get("orders", ()))) for part in parts[-2:]] == [("updated", 2), ("promoted", 1)]
    assert findings(parts) == ""


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda parts: parts[8]["orders"].pop(), "version 9 .*leaves .* first in line, with 2 free"),
        (lambda parts: parts[9].update(type="updated", event={"venue": "x"}, orders=[]), "version 10 .*leaves .*"),
        (lambda parts: parts[9].update(parts[5] | {"version": 10}), "version 10 .*leaves .* first in line"),
        (lambda parts: parts[9].update(type="waitlisted", orders=[NEW]), "version 10 .*leaves .* first in line"),
        (lambda parts: parts[9].update(type="booked", orders=[NEW | {"status": "confirmed"}]), "overtake 2 who wait"),
    ],
)
def test_what_follows_a_part_goes_on_with_the_line(
    damage: Callable[[list[Document]], object], finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is as much as one transition holds, and nothing else happens before the rest."""
    parts = reopened(monkeypatch)
    damage(parts)
    assert re.search(finding, findings(parts)), findings(parts)


def test_a_cancellation_serves_the_whole_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many move up by it: they are far fewer than one transition holds."""
    monkeypatch.setattr("ticketing.domain.decide.PROMOTIONS_MAX", 1)
    monkeypatch.setattr("ticketing.audit._PROMOTED_AT_ONCE", 1)
    play = Rehearsal(2)
    play.book("ada", 2)
    play.book("bob")
    play.book("cyd")
    play.cancel("ada")
    parts = commit_document(EVENT_ID, play.transitions, b"n" * 16)["transitions"]
    assert re.search("version 5 .*leaves .* first in line", findings(parts))


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda parts: parts[6].pop("sales"), "version 7 .*says that sales are open, which they are not"),
        (lambda parts: parts[7].update(sales="closed"), "version 8 .*says that sales are closed, which they are not"),
        (lambda parts: parts[7].pop("orders"), "version 8 .*leaves .* first in line"),
        (lambda parts: parts[0]["event"].update(sales_close_at=OPENING), "version 2 .*says that sales are open"),
        (lambda parts: parts[8].pop("event"), "version 9 .*updates nothing"),
        (lambda parts: parts[8]["event"].update(colour="red"), "version 9 .*sets what events do not have"),
        (lambda parts: parts[8]["event"].update(total_tickets="3"), "version 9 .*damages it"),
        (lambda parts: parts[8]["event"].update(total_tickets=1), "version 9 .*oversold"),
        (lambda parts: parts[8]["event"].update(cancelled_at=OPENING), "version 9 .*updates nothing"),
        (lambda parts: parts[9].pop("orders"), "version 10 .*promotes nobody"),
        (lambda parts: parts[11].pop("event"), "version 12 .*cancels the event, and does more or less"),
        (lambda parts: parts[11]["event"].update(cancelled_at=OPENING), "version 12 .*cancels the event, and does"),
        (lambda parts: parts.insert(12, {**parts[10], "version": 13}), "updates an event that was cancelled"),
        (lambda parts: parts[12].pop("sales"), "version 13 .*says that sales are open"),
        (lambda parts: parts[6].update(event={"venue": "x"}), "version 7 .*changes the event"),
        (lambda parts: parts[0]["event"].update(max_tickets_per_user=0), "version 1 .*opens an event without"),
    ],
)
def test_each_damage_is_named(damage: Callable[[list[Document]], object], finding: str) -> None:
    """With the version at which it was found."""
    parts = season()
    damage(parts)
    assert re.search(finding, findings(parts)), findings(parts)


def test_who_waits_for_more_than_there_are_is_named() -> None:
    """However it came about: no order waits for tickets that it can never get."""
    play = Rehearsal(5)
    play.book("ada", 3)
    play.book("bob", 5)
    play.play(Update(event_id=EVENT_ID, fields={"venue": "City Hall"}))
    transitions = commit_document(EVENT_ID, play.transitions, b"n" * 16)["transitions"]
    assert findings(transitions) == ""
    transitions[-1]["event"]["total_tickets"] = 4
    assert re.search("version 4 .*leaves '.*' waiting for 5 tickets, of 4 that there are", findings(transitions))
