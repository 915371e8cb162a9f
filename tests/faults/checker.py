"""What must be true after a run, read from the ledger's raw documents and the clients' histories.

Shares no code with the domain: plain lists and dictionaries, replayed the slow way (replay.py). Every violation is a
sentence. What a client was told is compared with the event as it was right after the transition that the answer
names, so an answer must be true, and must stay so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from .history import Attempt, History
from .replay import Document, Moment, Replay, is_on_sale, transfers_are_over

NOT_REMEMBERED = ("unavailable", "failed", "refused:event_not_found", "refused:sales_not_open")
ABOUT_ORDERS = ("confirmed", "waiting", "cancelled", "bulk")
ANSWERS = (*ABOUT_ORDERS, "initialized", "updated")


def violations(history: History) -> list[str]:
    """All that is not as promised; empty when everything is."""
    found: list[str] = []
    attempts = [attempt for attempt in history.attempts if attempt.returned is not None]
    erased = [attempt.asked for attempt in history.attempts if attempt.kind == "erase"]
    aliases = {asked["pseudonym"]: asked["user_id"] for asked in erased}
    replays: list[Replay] = []
    for event_id in sorted({attempt.event_id for attempt in history.attempts}):
        documents = [document for document in history.ledger if document["event_id"] == event_id]
        mine = [attempt for attempt in attempts if attempt.event_id == event_id]
        replay = Replay(event_id, aliases, found)
        _play(replay, documents, mine)
        _check_order_in_time(mine, replay, history.began, found)
        replays.append(replay)
    for attempt in attempts:
        _check_end(attempt, history.longest_s, found)
    _check_keys(attempts, replays, found)
    _check_failures(attempts, replays, found)
    _check_bulks(history.attempts, replays, found)
    return found


def _play(replay: Replay, documents: list[Document], attempts: list[Attempt]) -> None:
    """Apply all transitions, and check at each what clients were told of it."""
    told: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        if attempt.outcome in (*ANSWERS, "read") and attempt.version is not None:
            told[attempt.version].append(attempt)
    for document in documents:
        for transition in document["transitions"]:
            if not replay.add(transition):
                return
            for attempt in told.pop(replay.last, ()):
                _check_answer(attempt, replay)
    for version in told:
        replay.wrong(f"clients were told of version {version}, the ledger ends at {replay.last}")


# Answers.


def _check_answer(attempt: Attempt, replay: Replay) -> None:
    """The answer says what the ledger says at its version."""
    _check_figures(attempt, replay)
    transition = replay.transitions[-1]
    named = [change["order_id"] for change in transition.get("orders", ())]
    if attempt.outcome == "bulk":
        _check_bulk(attempt, replay, named)
    elif attempt.outcome in ABOUT_ORDERS:
        order = attempt.order_id or ""
        mine = 1 if attempt.kind == "transfer" else 0
        if attempt.kind in ("book", "transfer") and named[mine : mine + 1] != [order]:
            replay.wrong(f"{name(attempt)}: {order} is not what happened")
        if attempt.promoted and attempt.promoted != named[1:]:
            replay.wrong(f"{name(attempt)}: told of {attempt.promoted}, promoted were {named[1:]}")
        told = attempt.outcome, attempt.position
        true = replay.orders.get(order, {}).get("status"), replay.place(order)
        if told != true:
            replay.wrong(f"{name(attempt)}: told {told}, the ledger says {true}")
        for each in ("order", "sender"):
            _check_order(attempt, attempt.told.get(each), replay)
    elif attempt.kind == "update" and transition["type"] == "updated":
        if attempt.promoted not in _moved_up(attempt, transition, named):
            replay.wrong(f"{name(attempt)}: told of {attempt.promoted}, promoted were {named}")


def _moved_up(attempt: Attempt, transition: Document, named: list[str]) -> list[list[str]]:
    """What the sender of a change may be told of those who moved up, at the version of this transition: without a key,
    a change that changed nothing has the version of the transition before it."""
    key = transition.get("request", {}).get("key")
    if key is not None and key == attempt.key:
        return [named]
    return [[], named] if key is None and attempt.key is None else [[]]


def _check_bulk(attempt: Attempt, replay: Replay, named: list[str]) -> None:
    """All orders of many bookings are of one transition, in their turn."""
    results, bookings = attempt.told["results"], attempt.asked["orders"]
    made = [each["order"]["order_id"] for each in results if "order" in each]
    if made != named or len(results) != len(bookings):
        replay.wrong(f"{name(attempt)}: told of {made}, made were {named}")
    if attempt.asked["all_or_none"] and {each.get("order", each).get("status") for each in results} != {"confirmed"}:
        replay.wrong(f"{name(attempt)}: neither all nor none: {results}")
    for each in results:
        _check_order(attempt, each.get("order"), replay)
        if "order" in each and each["position"] != replay.place(each["order"]["order_id"]):
            replay.wrong(f"{name(attempt)}: told position {each['position']} of {each['order']['order_id']}")


def _check_order(attempt: Attempt, told: Document | None, replay: Replay) -> None:
    """What an answer says of an order is so: how many tickets of which type, at which price. Names may be erased."""
    if told is None:
        return
    true = replay.orders.get(told["order_id"], {})
    for field, value in told.items():
        if field != "user_id" and value != true.get(field):
            replay.wrong(f"{name(attempt)}: told {field} {value}, the ledger says {true.get(field)}")


def _check_figures(attempt: Attempt, replay: Replay) -> None:
    free = {code: replay.free(code) for code in replay.totals}
    held = sum(free[code] for code, line in replay.lines.items() if line)
    expected = {
        "total": replay.total,
        "booked": replay.booked,
        "available": sum(free.values()) - held,
        "held": held,
        "lines": replay.lines,
        "statuses": {order_id: order["status"] for order_id, order in replay.orders.items()},
        "stocks": {code: (replay.totals[code], replay.totals[code] - free[code]) for code in free},
        "prices": replay.prices,
    }
    for what, seen in attempt.seen.items():
        if seen != expected[what]:
            replay.wrong(f"{name(attempt)}: saw {what} {seen}, the ledger says {expected[what]}")


def _check_end(attempt: Attempt, longest_s: float, found: list[str]) -> None:
    """Every request ends in an answer or a 503, in time."""
    assert attempt.returned_s is not None
    took_s = attempt.returned_s - attempt.invoked_s
    if took_s > longest_s:
        found.append(f"{name(attempt)}: took {took_s:.2f} s")
    if attempt.outcome.startswith("error:"):
        found.append(f"{name(attempt)}: {attempt.outcome}")


def _check_order_in_time(
    attempts: list[Attempt], replay: Replay, began: datetime | None, found: list[str]
) -> None:
    """Whoever asks after an answer was given sees at least what it said."""
    moments = sorted(
        [(attempt.invoked, "ask", attempt) for attempt in attempts]
        + [(attempt.returned or 0, "get", attempt) for attempt in attempts],
        key=lambda moment: moment[0],
    )
    known, at_least = 0, {}
    for _, what, attempt in moments:
        if what == "ask":
            at_least[attempt.invoked] = known
            continue
        least, version = at_least[attempt.invoked], attempt.version or 0
        if attempt.outcome in ("read", "updated") and not attempt.replayed and version < least:
            found.append(f"{name(attempt)}: sees version {version} after {least} had been answered")
        if attempt.outcome in ANSWERS and not attempt.replayed and not _may_be_old(attempt, replay):
            if version <= least:
                found.append(f"{name(attempt)}: happened at {version}, after {least} had been answered")
        if attempt.outcome.startswith("refused:") and not attempt.replayed:
            if not _Refused(attempt, least, replay, began).is_true():
                found.append(f"{name(attempt)}: {attempt.outcome} {attempt.told} was not true")
        if attempt.client == "observer" and version != replay.last:
            found.append(f"{name(attempt)}: sees {version} of {replay.last} when all is quiet")
        known = max(known, version)


def _may_be_old(attempt: Attempt, replay: Replay) -> bool:
    """Whether the answer may tell of what had happened before.

    Cancelling a cancelled order by its id answers with the order as it has been since then, a change of an event that
    changes nothing with the event as it is. Many bookings that were all refused name no version.
    """
    version = attempt.version or 0
    transition = replay.transitions[version] if version <= replay.last else {}
    is_its_own = attempt.key is not None and transition.get("request", {}).get("key") == attempt.key
    is_about_event = attempt.outcome == "updated"
    is_second = attempt.kind == "cancel" and "order_id" in attempt.asked
    return not is_its_own and (is_about_event or is_second or attempt.version is None)


class _Refused:
    """A refusal was true at some moment not before the request."""

    def __init__(self, attempt: Attempt, least: int, replay: Replay, began: datetime | None) -> None:
        self.attempt, self.asked, self.told, self.replay = attempt, attempt.asked, attempt.told, replay
        self.since = range(least, replay.last + 1)
        self.moments = [replay.moments[then] for then in self.since]
        self.times: list[datetime] = []
        if began is not None:
            assert attempt.returned_s is not None
            # As the service counts them; it stands still for a part of a millisecond.
            bounds = [attempt.invoked_s, attempt.returned_s]
            self.times = [began + timedelta(milliseconds=int(each * 1000)) for each in bounds]

    def is_true(self) -> bool:
        """Whether it was."""
        return TRUTHS[self.attempt.outcome.removeprefix("refused:")](self)

    def already_booked(self) -> bool:
        if "to_user_id" in self.asked:  # who hands tickets on does not learn the recipient's order
            has_one = any(self.replay.active_at(self.asked["to_user_id"], then) for then in self.since)
            return has_one and self.told.get("order_id", "") is None
        user = self.asked.get("user_id", "")
        return any(self.replay.active_at(user, then) == self.told.get("order_id") for then in self.since)

    def order_not_found(self) -> bool:
        if "order_id" in self.asked:
            return self.asked["order_id"] not in self.replay.orders
        return any(self.replay.active_at(self.asked["user_id"], then) is None for then in self.since)

    def exceeds_total_tickets(self) -> bool:
        code = self.asked.get("ticket_type")
        return any(
            self.asked["quantity"] > moment.totals.get(code or next(iter(moment.totals)), 0)
            for moment in self.moments
            if moment.totals
        )

    def below_booked_tickets(self) -> bool:
        """It was asked for less than was booked of a type, or held for its line."""
        wanted = {each["code"]: each["total_tickets"] for each in self.asked.get("ticket_types", ())}
        code, minimum = self.told["ticket_type"], self.told["minimum"]
        wanted_total = wanted.get(code, self.asked.get("total_tickets"))
        return wanted_total is not None and wanted_total < minimum and any(
            moment.totals.get(code, 0) - moment.available(code) == minimum for moment in self.moments if moment.totals
        )

    def bulk_refused(self) -> bool:
        """Not all would have been confirmed, at one of these moments."""
        return any(not self._would_be_confirmed(then, self.replay.moments[then]) for then in self.since)

    def _would_be_confirmed(self, then: int, moment: Moment) -> bool:
        wanted: dict[str | None, int] = defaultdict(int)
        users = [user for user, _, _ in self.asked["orders"]]
        for _, quantity, code in self.asked["orders"]:
            wanted[code] += quantity
        return (
            bool(moment.totals)
            and len(set(users)) == len(users)
            and all(self.replay.active_at(user, then) is None for user in users)
            and all(quantity <= moment.available(code) for code, quantity in wanted.items())
        )

    def is_not_sold(self) -> bool:
        """By the clock at one end of the request, or by what happened between."""
        return any(not is_on_sale(moment.event, at) for moment in self.moments for at in self.times)

    def is_called_off(self) -> bool:
        return any(moment.event.get("cancelled_at") is not None for moment in self.moments)


TRUTHS: dict[str, Callable[[_Refused], bool]] = {
    "already_booked": _Refused.already_booked,
    "order_not_found": _Refused.order_not_found,
    "exceeds_total_tickets": _Refused.exceeds_total_tickets,
    "event_not_found": lambda it: it.since.start == 0,
    "event_exists": lambda it: it.replay.last > 0,
    "event_cancelled": _Refused.is_called_off,
    "sales_closed": _Refused.is_not_sold,
    "sales_not_open": _Refused.is_not_sold,
    "precondition_failed": lambda it: it.asked["version"] != it.told["version"] in it.since,
    "below_booked_tickets": _Refused.below_booked_tickets,
    "bulk_refused": _Refused.bulk_refused,
    "exceeds_order_quantity": lambda it: it.asked["quantity"] > it.told["maximum"],
    "order_not_confirmed": lambda it: it.told["order_status"] in ("waiting", "cancelled"),
    "transfer_closed": lambda it: any(
        transfers_are_over(moment.event, at) for moment in it.moments for at in it.times
    ),
    "invalid_schedule": lambda it: "sales_close_at" in it.asked or "sales_open_at" in it.asked,
}


# Effects.


def _check_keys(attempts: list[Attempt], replays: list[Replay], found: list[str]) -> None:
    """Each Idempotency-Key had one effect and one answer."""
    written: dict[bytes, int] = defaultdict(int)
    for replay in replays:
        for transition in replay.transitions:
            if "request" in transition:
                written[transition["request"]["key"]] += 1
    found.extend(f"key {key.hex()[:6]} had {count} effects" for key, count in written.items() if count > 1)
    answers: dict[bytes, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        if attempt.key is not None and attempt.outcome not in NOT_REMEMBERED:
            answers[attempt.key].append(attempt)
    for key, group in answers.items():
        told = {_without_names((a.outcome, a.order_id, a.version, a.position, a.promoted, a.told)) for a in group}
        if len(told) > 1:
            found.append(f"key {key.hex()[:6]} had {len(told)} answers: {sorted(told)}")
        if sum(not attempt.replayed for attempt in group) > 1:
            found.append(f"key {key.hex()[:6]} was carried out more than once")


def _without_names(value: Any) -> str:
    """An answer as a text, but for the users: they may be erased between two of them."""
    if isinstance(value, dict):
        return str({field: _without_names(each) for field, each in value.items() if field != "user_id"})
    if isinstance(value, list | tuple):
        return str([_without_names(each) for each in value])
    return str(value)


def _check_failures(attempts: list[Attempt], replays: list[Replay], found: list[str]) -> None:
    """Whoever was told that nothing was done finds nothing in the ledger."""
    orders = {order for replay in replays for order in replay.orders}
    for attempt in attempts:
        if attempt.outcome == "failed" and orders & set(attempt.new_order_ids):
            found.append(f"{name(attempt)}: told that nothing was done, {attempt.new_order_ids} are in the ledger")


def _check_bulks(attempts: list[Attempt], replays: list[Replay], found: list[str]) -> None:
    """Many bookings are made in one transition, answered or not, and of all or none there are all or none."""
    for attempt in attempts:
        if attempt.kind != "bulk":
            continue
        mine = set(attempt.new_order_ids)
        parts = [
            made
            for replay in replays
            for transition in replay.transitions
            if transition.get("type") == "bulk_booked"
            and (made := mine & {change["order_id"] for change in transition["orders"]})
        ]
        if len(parts) > 1 or (parts and attempt.asked["all_or_none"] and parts != [mine]):
            found.append(f"{name(attempt)}: made in parts, {parts} of {mine}")


def name(attempt: Attempt) -> str:
    """How a violation speaks of a request."""
    return f"{attempt.client} {attempt.kind} {attempt.event_id} {attempt.asked} (sent {attempt.invoked})"
