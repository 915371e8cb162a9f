"""A refused command changes nothing: the state after it is the very same object."""

from __future__ import annotations

import pytest

from ticketing.domain.commands import Cancel, Command, Initialize
from ticketing.domain.decide import decide
from ticketing.errors import Refusal

from .rehearsal import EVENT_ID, OPENING, Rehearsal


def played() -> Rehearsal:
    """Three tickets, two orders confirmed, one waits, one is cancelled."""
    play = Rehearsal(3, max_tickets_per_order=4)
    for user_id, quantity in (("ada", 1), ("bob", 1), ("cyd", 3), ("dan", 1)):
        play.book(user_id, quantity)
    play.cancel("dan")
    return play


REFUSED: dict[str, Command] = {
    "event_exists": Initialize(event_id=EVENT_ID, name="Again", total_tickets=9),
    "already_booked": played().booking("ada"),
    "exceeds_max_tickets_per_order": played().booking("eve", 5),
    "exceeds_total_tickets": played().booking("eve", 4),
    "order_not_found": Cancel(event_id=EVENT_ID, user_id="dan"),
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_refused_command_changes_nothing(code: str) -> None:
    """No transition is written, and the state is the same object as before."""
    play = played()
    decision = decide(play.state, REFUSED[code], OPENING)
    assert decision.answer.refusal is not None
    assert decision.answer.refusal.code == code
    assert decision.transition is None
    assert decision.state is play.state


def test_a_second_cancellation_changes_nothing() -> None:
    """It is answered, not refused, and the state is the same object as before all the same."""
    play = played()
    (order_id,) = (o.order_id for o in play.state.orders_by_arrival() if o.user_id == "dan")
    decision = decide(play.state, Cancel(event_id=EVENT_ID, order_id=order_id), OPENING)
    assert decision.answer.order is not None
    assert decision.transition is None
    assert decision.state is play.state


def test_a_decision_leaves_the_state_it_was_made_on_as_it_is() -> None:
    """States are values: who holds the older one goes on seeing what was."""
    play = played()
    before, line, version = play.state, play.line(), play.state.version
    play.cancel("ada")
    play.book("eve")
    assert [order.user_id for order in before.waiting_orders()] == line
    assert before.version == version
    assert before.active_order_of("eve") is None
    assert before.active_order_of("ada") is not None


def test_every_refusal_can_be_made_anew_from_its_details() -> None:
    """This is how the ledger brings one back: same code, same details, same message, no traceback."""
    for decision in (decide(played().state, command, OPENING) for command in REFUSED.values()):
        refusal = decision.answer.refusal
        assert isinstance(refusal, Refusal)
        anew = refusal.anew()
        assert (anew.code, anew.details, anew.message) == (refusal.code, refusal.details, refusal.message)
        assert refusal.__traceback__ is None
