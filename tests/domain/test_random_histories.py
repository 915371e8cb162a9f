"""Random commands against a naive model of the rules, with the promises checked after each of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ticketing.domain.commands import Book, Cancel, Command, Initialize
from ticketing.domain.decide import decide
from ticketing.domain.fold import fold
from ticketing.domain.model import Answer, EventState, RequestKey, Transition

from .naive import NaiveBoxOffice, Outcome
from .rehearsal import EVENT_ID, OPENING, observed, observed_answer, request

USERS = st.sampled_from(["ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal"])
QUANTITIES = st.integers(1, 7)
MAYBE_KEYED = st.booleans()


class RandomHistory(RuleBasedStateMachine):
    """One event, played twice: by the domain, and by lists and loops."""

    def __init__(self) -> None:
        super().__init__()
        self.state = EventState(EVENT_ID)
        self.naive = NaiveBoxOffice()
        self.transitions: list[Transition] = []
        self.sent: list[tuple[Callable[[RequestKey], Command], str]] = []
        self.counter = 0

    # Commands. Each is played on both sides, and both must tell the client the same.

    @initialize(total=st.integers(1, 8), maximum=st.integers(1, 6), open_first=st.booleans())
    def open_event(self, total: int, maximum: int, open_first: bool) -> None:
        if open_first:
            self.initialize_event(total, maximum, keyed=True)

    @rule(total=st.integers(1, 8), maximum=st.integers(1, 6), keyed=MAYBE_KEYED)
    def initialize_event(self, total: int, maximum: int, keyed: bool) -> None:
        def command(key: RequestKey | None) -> Command:
            return Initialize(
                event_id=EVENT_ID, request=key, name="E", total_tickets=total, max_tickets_per_order=maximum
            )

        self.play(command, lambda: self.naive.initialize(total, maximum), keyed)

    @rule(user_id=USERS, quantity=QUANTITIES, keyed=MAYBE_KEYED)
    def book(self, user_id: str, quantity: int, keyed: bool) -> None:
        order_id = f"{EVENT_ID}.{self.counter}"

        def command(key: RequestKey | None) -> Command:
            return Book(event_id=EVENT_ID, request=key, order_id=order_id, user_id=user_id, quantity=quantity)

        self.play(command, lambda: self.naive.book(order_id, user_id, quantity), keyed)

    @rule(user_id=USERS, keyed=MAYBE_KEYED)
    def cancel_of_user(self, user_id: str, keyed: bool) -> None:
        self.cancel(None, user_id, keyed)

    @rule(number=st.integers(0, 60), keyed=MAYBE_KEYED)
    def cancel_by_id(self, number: int, keyed: bool) -> None:
        self.cancel(f"{EVENT_ID}.{number}", None, keyed)

    def cancel(self, order_id: str | None, user_id: str | None, keyed: bool) -> None:
        def command(key: RequestKey | None) -> Command:
            return Cancel(event_id=EVENT_ID, request=key, order_id=order_id, user_id=user_id)

        self.play(command, lambda: self.naive.cancel(order_id, user_id), keyed)

    @rule(data=st.data(), same_body=st.booleans())
    def repeat_a_key(self, data: st.DataObject, same_body: bool) -> None:
        remembered = [sent for sent in self.sent if sent[1] in self.naive.remembered]
        if not remembered:
            return
        command, key = data.draw(st.sampled_from(remembered))
        decision = decide(self.state, command(request(key, "body" if same_body else "other")), OPENING)
        assert decision.transition is None
        assert decision.state is self.state
        if same_body:
            assert decision.answer.replayed
            assert told(decision.answer) == self.naive.remembered[key][1]
        else:
            assert told(decision.answer) == {"refused": "idempotency_key_reused"}

    def play(
        self, command: Callable[[RequestKey | None], Command], naively: Callable[[], Outcome], keyed: bool
    ) -> None:
        self.counter += 1
        key = f"key {self.counter}"
        before, seen_before = self.state, observed(self.state)
        at = OPENING + timedelta(seconds=self.counter)
        decision = decide(before, command(request(key, "body") if keyed else None), at)
        outcome = naively()
        if keyed:
            self.sent.append((command, key))
            self.naive.keyed(key, "body", outcome)
        assert told(decision.answer) == outcome
        assert observed(before) == seen_before
        if decision.transition is None:
            assert decision.state is before
        else:
            self.transitions.append(decision.transition)
            assert observed(fold(before, [decision.transition])) == observed(decision.state)
        if "refused" in outcome:
            assert effects(decision.state) == effects(before)
        self.state = decision.state

    # Promises.

    @invariant()
    def tickets_add_up(self) -> None:
        state = self.state
        parts = (state.booked_tickets, state.available_tickets, state.held_tickets)
        assert sum(parts) == state.total_tickets
        assert min(parts) >= 0
        assert state.booked_tickets == self.naive.booked()

    @invariant()
    def the_line_is_in_order_of_arrival(self) -> None:
        line = [order.order_id for order in self.state.waiting_orders()]
        assert line == [order.order_id for order in self.naive.line()]
        for position, order in enumerate(self.state.waiting_orders(), start=1):
            assert self.state.waiting_position(order) == position
        assert self.state.waiting_list_count == len(line)

    @invariant()
    def nobody_whom_the_free_tickets_fit_is_first_in_line(self) -> None:
        first = next(self.state.waiting_orders(), None)
        assert first is None or first.quantity > self.state.stock("general").free_tickets

    @invariant()
    def a_user_has_one_active_order(self) -> None:
        active = [order for order in self.state.orders_by_arrival() if order.is_active]
        assert len({order.user_id for order in active}) == len(active)
        for order in active:
            assert self.state.active_order_of(order.user_id) == order
            assert self.state.order(order.order_id) == order

    @invariant()
    def orders_are_those_of_the_model(self) -> None:
        orders = [(o.order_id, o.user_id, o.quantity, o.status) for o in self.state.orders_by_arrival()]
        assert orders == [(o.order_id, o.user_id, o.quantity, o.status) for o in self.naive.orders]

    @invariant()
    def the_ledger_leads_to_the_same_state(self) -> None:
        versions = [transition.version for transition in self.transitions]
        assert versions == list(range(1, self.state.version + 1))
        assert observed(fold(EventState(EVENT_ID), self.transitions)) == observed(self.state)

    @invariant()
    def remembered_answers_stay_what_they_were(self) -> None:
        kept = {key: told(kept.answer) for key, kept in self.state.keys.items()}
        assert kept == {request(key).key: outcome for key, (_, outcome) in self.naive.remembered.items()}


def told(answer: Answer) -> Outcome:
    """An answer of the domain in the words of the naive model."""
    if answer.refusal is not None:
        details = answer.refusal.details
        return {"refused": answer.refusal.code} | (
            {"order_id": details["order_id"]} if "order_id" in details else {}
        )
    if answer.event is not None:
        assert observed_answer(answer)["event"]["version"] == 1
        return {"opened": answer.event.total_tickets}
    assert answer.order is not None
    order = answer.order
    return {
        "order": (order.order_id, order.user_id, order.quantity, order.status),
        "position": answer.waiting_position,
        "promoted": [promoted.order_id for promoted in answer.promoted],
    }


def effects(state: EventState) -> dict[str, Any]:
    """All of a state but what a remembered refusal changes: version and keys, and the weight with them."""
    seen = observed(state)
    return {name: seen[name] for name in seen if name not in ("version", "keys", "weight")}


TestRandomHistory = RandomHistory.TestCase
TestRandomHistory.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
