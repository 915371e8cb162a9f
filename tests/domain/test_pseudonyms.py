"""Erasing a user from an event: his orders go to a pseudonym, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest

from ticketing.domain.commands import CancelEvent, Pseudonymize
from ticketing.domain.decide import decide
from ticketing.domain.fold import fold
from ticketing.domain.model import EventState, Transition, TransitionType

from .rehearsal import EVENT_ID, OPENING, Rehearsal, observed, observed_answer, refusal_of, request

PSEUDONYM = "erased:0"


def erase(play: Rehearsal, user_id: str, pseudonym: str = PSEUDONYM) -> Any:
    """Play the command."""
    return play.play(Pseudonymize(event_id=EVENT_ID, by=pseudonym, user_id=user_id, pseudonym=pseudonym))


def concert() -> Rehearsal:
    """Two tickets. Ada has a cancelled order and waits, ben and cyd are confirmed; all came with keys."""
    play = Rehearsal(2)
    for user_id in ("ada", "ben"):
        play.book(user_id, request=request(f"book {user_id}"))
    play.cancel("ada", request=request("cancel ada"))
    play.book("cyd", request=request("book cyd"))
    play.book("ada", request=request("book ada again"))
    play.book("ada", request=request("book ada once more"))
    return play


def scrubbed(transition: Transition, name: str) -> Transition:
    """As it is when the name has been replaced in the ledger."""
    orders = tuple(
        change | {"user_id": PSEUDONYM} if change.get("user_id") == name else change for change in transition.orders
    )
    return transition._replace(orders=orders, by=PSEUDONYM if transition.by == name else transition.by)


def test_all_orders_of_a_user_go_to_the_pseudonym() -> None:
    """Those that are over too; places, tickets and everybody else's orders stay."""
    play = concert()
    before = play.state
    decision = erase(play, "ada")
    assert decision.transition.type is TransitionType.PSEUDONYMIZED
    after = play.state
    for old, new in zip(before.orders_by_arrival(), after.orders_by_arrival(), strict=True):
        if old.user_id == "ada":
            assert new == old._replace(user_id=PSEUDONYM, updated_at=new.updated_at, version=after.version)
        else:
            assert new == old
    assert after.active_order_of("ada") is None
    assert after.active_order_of(PSEUDONYM) == after.order(f"{EVENT_ID}.{6:022d}")
    assert play.line() == [PSEUDONYM]
    assert (after.booked_tickets, after.waiting_list_count) == (before.booked_tickets, before.waiting_list_count)


@pytest.mark.parametrize("is_folded", [False, True], ids=["that grew", "folded in one go"])
def test_nothing_in_the_state_has_the_name(is_folded: bool) -> None:
    """Neither do the answers that are kept for repeated keys, nor what tables hold below their changes."""
    play = concert()
    play.book_many(("eve",), ("ada",), request=request("many"))
    play.transfer(play.order_of("ben").order_id, "fay", request=request("hand on"))
    play.cancel("fay", request=request("cancel fay"))
    for number in (1, 2):
        play.play(CancelEvent(event_id=EVENT_ID, by="ben", request=request(f"the end {number}")))
    if is_folded:
        play.state = fold(EventState(EVENT_ID), play.transitions)
    assert "'ada'" in repr(play.state)
    for name in ("ada", "cyd", "eve", "fay"):
        erase(play, name, f"erased:{name}")
        assert f"'{name}'" not in repr(play.state) and "'ben'" in repr(play.state)
    play.play(Pseudonymize(event_id=EVENT_ID, by="erased:1", user_id="ben", pseudonym="erased:1"))
    assert "'ben'" not in repr(play.state)


def test_a_repeated_key_gets_its_answer_without_the_name() -> None:
    """The same order, under the pseudonym."""
    play = concert()
    erase(play, "ada")
    answer = decide(play.state, play.booking("ada", request=request("book ada")), OPENING).answer
    assert answer.replayed and answer.order is not None and answer.order.user_id == PSEUDONYM


def test_a_repeated_erasure_says_the_same() -> None:
    """With a key, from the state that deciding led to and from the ledger."""
    play = concert()
    command = Pseudonymize(
        event_id=EVENT_ID, by=PSEUDONYM, user_id="ada", pseudonym=PSEUDONYM, request=request("erase")
    )
    answer = play.play(command).answer
    for state in (play.state, fold(EventState(EVENT_ID), play.transitions)):
        again = decide(state, command, OPENING).answer
        assert again.replayed and observed_answer(again) == observed_answer(answer)


def test_the_name_is_free_again() -> None:
    """Whoever has it next books like anybody else, and cancels his own order only."""
    play = concert()
    erase(play, "ada")
    assert refusal_of(play.cancel("ada")) == "order_not_found"
    assert play.book("ada").order is not None
    play.cancel("ada")
    assert play.line() == [PSEUDONYM]


def test_a_pseudonym_that_has_orders_gets_no_more() -> None:
    """Whether they are active or not, and whether there is anything to give: in the ledger another name may stand in
    their place already, and stands there earlier."""
    play = concert()
    erase(play, "ada")
    for user_id in ("ben", "eve", "ada"):
        assert refusal_of(erase(play, user_id).answer) == "already_booked"
    play.cancel(order_id=play.state.active_order_of(PSEUDONYM).order_id)  # type: ignore[union-attr]
    assert refusal_of(erase(play, "ben").answer) == "already_booked"


def test_an_event_of_the_user_goes_to_the_pseudonym() -> None:
    """Else it would belong to whoever has that name next."""
    play = concert()
    assert play.state.event is not None and play.state.event.organizer == "admin"
    erase(play, "admin")
    assert play.state.event is not None and play.state.event.organizer == PSEUDONYM
    assert "'admin'" not in repr(play.state)


def test_for_who_is_not_there_nothing_is_written() -> None:
    """Nothing is written for him, so a repeat writes nothing either; the answer says up to where he has nothing."""
    play = concert()
    for number, (name, is_there) in enumerate((("eve", False), ("ada", True), ("ada", False))):
        decision = erase(play, name, f"erased:{number}")
        assert (decision.transition is not None) == is_there
        assert decision.answer.event is not None
        assert decision.answer.event.version == play.state.version == len(play.transitions)
    assert refusal_of(erase(Rehearsal(), "ada").answer) == "event_not_found"


@pytest.mark.parametrize("name", ["ada", "ben", "admin"])
def test_a_ledger_reads_the_same_while_the_name_is_replaced_in_it(name: str) -> None:
    """In any part of its transitions, in all or in none; and what comes afterwards does not matter."""
    play = concert()
    erase(play, name)
    play.cancel("cyd")
    for parts in range(2 ** len(play.transitions)):
        transitions = [
            scrubbed(transition, name) if parts >> place & 1 else transition
            for place, transition in enumerate(play.transitions)
        ]
        assert observed(fold(EventState(EVENT_ID), transitions)) == observed(play.state)
