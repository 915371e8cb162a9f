"""A repeated Idempotency-Key: one effect and one answer, however much has happened since."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ticketing.domain.model import Answer, TransitionType

from .rehearsal import Rehearsal, observed, observed_answer, refusal_of, request

KEY = request("key", "body")
OTHER_BODY = request("key", "other body")


def waited_for() -> Rehearsal:
    """One ticket, `ada` has it, `bob` waits; `zoe` has cancelled."""
    play = Rehearsal(1, max_tickets_per_order=2)
    for user_id in ("ada", "bob", "zoe"):
        play.book(user_id)
    play.cancel("zoe")
    return play


def cancelled_order_id(play: Rehearsal) -> str:
    """The id of zoe's order."""
    return next(order.order_id for order in play.state.orders_by_arrival() if order.user_id == "zoe")


COMMANDS: dict[str, Callable[[Rehearsal], Answer]] = {
    "a booking": lambda play: play.book("cyd", request=KEY),
    "a booking refused for its user": lambda play: play.book("ada", request=KEY),
    "a booking refused for its quantity": lambda play: play.book("cyd", 3, request=KEY),
    "a booking refused for the total": lambda play: play.book("cyd", 2, request=KEY),
    "a cancellation": lambda play: play.cancel("ada", request=KEY),
    "a second cancellation": lambda play: play.cancel(order_id=cancelled_order_id(play), request=KEY),
    "a cancellation of nothing": lambda play: play.cancel("nobody", request=KEY),
    "a second initialize": lambda play: play.initialize(7, request=KEY),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_request_again_gets_the_same_answer(name: str) -> None:
    """Also after everything that it speaks of has changed; only `replayed` tells the two apart."""
    play = waited_for()
    first = COMMANDS[name](play)
    for user_id in ("ada", "bob", "cyd"):
        play.cancel(user_id)
    state = play.state
    again = COMMANDS[name](play)
    assert not first.replayed
    assert again.replayed
    assert observed_answer(again) == observed_answer(first)
    assert play.state is state


@pytest.mark.parametrize("name", COMMANDS)
def test_an_answer_with_a_key_is_written_down(name: str) -> None:
    """Whatever it was, one transition carries the key: it holds on other workers and after a restart."""
    play = waited_for()
    COMMANDS[name](play)
    assert play.transitions[-1].request == KEY


@pytest.mark.parametrize("name", [name for name in COMMANDS if "refused" in name or "of nothing" in name])
def test_a_refusal_with_a_key_changes_nothing_but_the_key(name: str) -> None:
    """The transition that keeps it counts as a version; all else stays, `updated_at` too."""
    play = waited_for()
    before = observed(play.state)
    assert COMMANDS[name](play).refusal is not None
    assert play.transitions[-1].type is TransitionType.REMEMBERED
    after = observed(play.state)
    assert {name for name in after if after[name] != before[name]} == {"version", "keys", "weight"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_key_is_good_for_one_request(name: str) -> None:
    """With another body it is refused, and nothing happens."""
    play = waited_for()
    COMMANDS[name](play)
    state = play.state
    assert refusal_of(play.book("someone", request=OTHER_BODY)) == "idempotency_key_reused"
    assert refusal_of(play.cancel("ada", request=OTHER_BODY)) == "idempotency_key_reused"
    assert play.state is state


def test_the_key_of_initialize_is_remembered() -> None:
    """The repeat gets the event as it was when it was opened, not as it is now."""
    play = Rehearsal()
    first = play.initialize(2, request=KEY)
    play.book("ada")
    again = play.initialize(2, request=KEY)
    assert again.replayed
    assert observed_answer(again) == observed_answer(first)
    assert again.event is not None
    assert again.event.available_tickets == 2


def test_a_key_of_an_event_that_does_not_exist_is_not_remembered() -> None:
    """There is no ledger to keep it in: the event may be opened later, and then the booking succeeds."""
    play = Rehearsal()
    assert refusal_of(play.book("ada", request=KEY)) == "event_not_found"
    play.initialize(1)
    assert play.book("ada", request=KEY).order is not None


def test_different_keys_are_different_requests() -> None:
    """The second booking of the same user is refused by the rules, not answered by the key."""
    play = Rehearsal(5)
    assert play.book("ada", request=request("one")).order is not None
    assert refusal_of(play.book("ada", request=request("two"))) == "already_booked"


def test_a_kept_position_is_the_position_of_then() -> None:
    """Second in line when it was asked, first now: the repeat says second."""
    play = waited_for()
    assert play.book("cyd", request=KEY).waiting_position == 2
    play.cancel("bob")
    assert play.state.waiting_position(play.order_of("cyd")) == 1
    assert play.book("cyd", request=KEY).waiting_position == 2
