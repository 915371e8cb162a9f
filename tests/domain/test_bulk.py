"""Many bookings in one transition: each gets what it would have got alone, in their order; or all, or none."""

from __future__ import annotations

from datetime import timedelta

from ticketing.domain.fold import fold
from ticketing.domain.model import Answer, EventState, OrderStatus, TransitionType

from .rehearsal import EVENT_ID, OPENING, Rehearsal, observed, refusal_of, request


def results(answer: Answer) -> list[str | None]:
    """What became of each booking: the status of its order, or the code of its refusal."""
    return [refusal_of(each) if each.order is None else each.order.status.value for each in answer.bulk]


def test_each_is_decided_in_its_turn() -> None:
    """Confirmed while there are tickets, then waiting; the same user twice is refused the second time."""
    play = Rehearsal(2)
    answer = play.book_many(("ada",), ("bob",), ("ada",), ("cyd",), ("dan", 99))
    assert results(answer) == [
        "confirmed",
        "confirmed",
        "already_booked",
        "waiting",
        "exceeds_max_tickets_per_order",
    ]
    assert [each.waiting_position for each in answer.bulk] == [None, None, None, 1, None]
    assert play.state.version == 2
    assert play.transitions[-1].type is TransitionType.BULK_BOOKED
    assert (play.state.booked_tickets, play.line()) == (2, ["cyd"])


def test_nobody_in_line_is_overtaken() -> None:
    """One who needs more than is free waits, and so do those after it."""
    play = Rehearsal(3)
    assert results(play.book_many(("ada", 2), ("bob", 2), ("cyd",))) == ["confirmed", "waiting", "waiting"]
    assert play.line() == ["bob", "cyd"]


def test_all_or_none_means_confirmed() -> None:
    """One that cannot be confirmed at once, for whatever reason, and nothing is done."""
    play = Rehearsal(2)
    refused = play.book_many(("ada",), ("bob",), ("cyd",), ("ada",), all_or_none=True).refusal
    assert refused is not None
    assert (refused.code, refused.details["refused"]) == (
        "bulk_refused",
        [
            {"index": 2, "code": "not_enough_tickets", "details": {"available_tickets": 0}},
            {
                "index": 3,
                "code": "already_booked",
                "details": {"order_id": f"{EVENT_ID}.{2:022d}"},
            },
        ],
    )
    assert play.state.version == 1
    assert results(play.book_many(("ada",), ("bob",), all_or_none=True)) == ["confirmed", "confirmed"]


def test_where_all_are_refused_nothing_is_written() -> None:
    """Unless a key wants the answer to stay the answer."""
    play = Rehearsal(2)
    play.book("ada", 2)
    assert results(play.book_many(("ada",), ("ada", 99))) == ["already_booked", "already_booked"]
    assert play.state.version == 2
    first = play.book_many(("ada",), ("ada", 99), request=request("all"))
    assert (results(first), play.state.version) == (["already_booked", "already_booked"], 3)
    play.cancel("ada")
    again = play.book_many(("ada",), ("ada", 99), request=request("all"))
    assert again.replayed and results(again) == results(first)


def test_a_repeat_gets_the_same_results() -> None:
    """With the same order ids and the same refusals, however the event has changed; and so from the ledger."""
    play = Rehearsal(2)
    first = play.book_many(("ada",), ("ada",), ("bob",), ("cyd",), request=request("bulk"))
    play.cancel("ada")
    again = play.book_many(("ada",), ("ada",), ("bob",), ("cyd",), request=request("bulk"))
    assert again.replayed
    assert results(again) == results(first) == ["confirmed", "already_booked", "confirmed", "waiting"]
    assert [each.order for each in again.bulk] == [each.order for each in first.bulk]
    folded = fold(EventState(EVENT_ID), play.transitions)
    assert observed(folded) == observed(play.state)
    assert [each.order for each in folded.keys[request("bulk").key].answer.bulk] == [each.order for each in first.bulk]


def test_while_nothing_is_sold_all_is_refused_at_once() -> None:
    """As a booking would be."""
    play = Rehearsal(2, details={"sales_close_at": OPENING + timedelta(seconds=1)})
    assert refusal_of(play.book_many(("ada",))) == "sales_closed"
    assert refusal_of(Rehearsal().book_many(("ada",))) == "event_not_found"


def test_types_are_named_one_by_one() -> None:
    """An unknown one is its own booking's failure."""
    play = Rehearsal(2)
    assert results(play.book_many(("ada", 1, "general"), ("bob", 1, "box"))) == ["confirmed", "unknown_ticket_type"]
    assert play.order_of("ada").status is OrderStatus.CONFIRMED
