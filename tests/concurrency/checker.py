"""Test support: what a crowd saw, held against the ledger. Every broken promise is a line in the result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pymongo.database import Database

from ticketing.audit import audit
from ticketing.clock import SystemClock
from ticketing.domain.commands import Cancel
from ticketing.domain.fold import LedgerContradiction, fold
from ticketing.domain.model import EventState, Transition
from ticketing.domain.rows import transitions_in
from ticketing.storage.ledger import Ledger, ledger_collection

from .crowd import Seen

EXPECTED_REFUSALS = {"already_booked"}


def broken_promises(database: Database[dict[str, Any]], event_id: str, seen: list[Seen]) -> list[str]:
    """Everything that is wrong with an event and with what was said about it. Empty when all is well."""
    news = [s for s in seen if _version(s) and not _is_told_again(s, seen)]
    return [
        *_audit_findings(database, event_id),
        *_unexpected_errors(seen),
        *_times_out_of_order(news),
        *_answers_unlike_the_ledger(_transitions(database, event_id), event_id, news),
    ]


def _version(s: Seen) -> int:
    """The version that a request saw: that of the event for a read, of its own transition for a command."""
    if s.counts is not None:
        return s.counts[0]
    return s.answer.order.version if s.answer is not None and s.answer.order is not None else 0


def _is_told_again(s: Seen, seen: list[Seen]) -> bool:
    """The second cancellation of an order is told of the first, which was by the same thread."""
    return isinstance(s.command, Cancel) and any(
        other.command == s.command and other.ended_s <= s.began_s for other in seen if other.who == s.who
    )


def _audit_findings(database: Database[dict[str, Any]], event_id: str) -> list[str]:
    (report,) = audit(database, event_id)
    return report.findings


def _unexpected_errors(seen: list[Seen]) -> list[str]:
    return [f"{s.who} got {s.error}" for s in seen if s.error and s.error not in EXPECTED_REFUSALS]


def _times_out_of_order(news: list[Seen]) -> Iterator[str]:
    """Nobody sees an older version than before, nor than what anybody was told before the request began."""
    answered = sorted((s.ended_s, _version(s)) for s in news)
    newest_answered, at = 0, 0
    newest_of: dict[tuple[int, int], int] = defaultdict(int)
    for s in sorted(news, key=lambda s: s.began_s):
        while at < len(answered) and answered[at][0] < s.began_s:
            newest_answered = max(newest_answered, answered[at][1])
            at += 1
        if _version(s) < newest_answered:
            yield f"{s.who} saw version {_version(s)} after somebody was told of {newest_answered}"
        if _version(s) < newest_of[s.who]:
            yield f"{s.who} went back from version {newest_of[s.who]} to {_version(s)}"
        newest_of[s.who] = _version(s)


def _answers_unlike_the_ledger(
    transitions: list[Transition], event_id: str, news: list[Seen]
) -> Iterator[str]:
    """Each answer is held against the state at its version, and each transition was told to exactly one."""
    seen_at: dict[int, list[Seen]] = defaultdict(list)
    for s in news:
        seen_at[_version(s)].append(s)
    state = EventState(event_id)
    try:
        for transition in transitions:
            state = fold(state, [transition])
            if state.waiting_list_count and state.booked_tickets != state.total_tickets:
                yield f"version {state.version}: somebody waits, and {state.booked_tickets} are booked"
            for s in seen_at[state.version]:
                yield from _wrong_read(state, s) if s.command is None else _wrong_answer(state, transition, s)
    except LedgerContradiction as contradiction:
        yield f"contradiction: {contradiction}"
    told = sorted(_version(s) for s in news if s.command is not None)
    if told != list(range(2, len(transitions) + 1)):
        yield f"{len(told)} answers for {len(transitions) - 1} transitions"


def _wrong_read(state: EventState, s: Seen) -> Iterator[str]:
    if s.counts != (state.version, state.booked_tickets, state.waiting_list_count):
        yield f"{s.who} read {s.counts}, which is not the state at that version"


def _wrong_answer(state: EventState, transition: Transition, s: Seen) -> Iterator[str]:
    assert s.answer is not None
    assert s.answer.order is not None
    order = s.answer.order
    if order != state.order(order.order_id):
        yield f"{s.who} was told {order}, but the ledger has {state.order(order.order_id)}"
    if s.answer.waiting_position != state.waiting_position(order):
        yield f"{s.who} was told position {s.answer.waiting_position} at version {state.version}"
    if s.answer.promoted != tuple(state.order(change["order_id"]) for change in transition.orders[1:]):
        yield f"{s.who} was told of promotions {s.answer.promoted} at version {state.version}"


def _transitions(database: Database[dict[str, Any]], event_id: str) -> list[Transition]:
    clock = SystemClock()
    ledger = Ledger(ledger_collection(database), clock)
    return [part for page in ledger.read(event_id, 0, clock.monotonic() + 60) for part in transitions_in(page)]
