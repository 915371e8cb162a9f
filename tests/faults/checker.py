"""What must be true after a run, read from the ledger's raw documents and the clients' histories.

Shares no code with the domain: plain lists and dictionaries, replayed the slow way (replay.py). Every violation is a
sentence. What a client was told is compared with the event as it was right after the transition that the answer
names, so an answer must be true, and must stay so.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from .history import Attempt, History
from .replay import Document, Replay
from .truths import Refusal, bookings_refused, refused_of, says_so

NOT_REMEMBERED = ("unavailable", "failed", "refused:event_not_found", "refused:sales_not_open")
ABOUT_ORDERS = ("confirmed", "waiting", "cancelled", "bulk")
ANSWERS = (*ABOUT_ORDERS, "initialized", "updated")


def violations(history: History) -> list[str]:
    """All that is not as promised; empty when everything is."""
    found: list[str] = []
    attempts = [attempt for attempt in history.attempts if attempt.returned is not None]
    erased = [attempt.asked for attempt in history.attempts if attempt.kind == "erase"]
    aliases = {asked["pseudonym"]: asked["user_id"] for asked in erased}
    sent = {attempt.key: attempt.invoked for attempt in reversed(history.attempts) if attempt.key is not None}
    replays: list[Replay] = []
    for event_id in sorted({attempt.event_id for attempt in history.attempts}):
        documents = [document for document in history.ledger if document["event_id"] == event_id]
        mine = [attempt for attempt in attempts if attempt.event_id == event_id]
        replay = Replay(event_id, aliases, found, sent)
        _play(replay, documents, mine)
        _check_order_in_time(mine, replay, history.began, found)
        replays.append(replay)
    for attempt in history.attempts:
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
        if attempt.kind == "transfer" and attempt.told.get("sender", {}).get("order_id") not in named[:1]:
            replay.wrong(f"{name(attempt)}: told of the sender's order {attempt.told.get('sender')}")
        told = attempt.outcome, attempt.position
        true = replay.orders.get(order, {}).get("status"), replay.place(order)
        if told != true:
            replay.wrong(f"{name(attempt)}: told {told}, the ledger says {true}")
        for each in ("order", "sender"):
            _check_order(attempt, attempt.told.get(each), replay)
    if attempt.outcome in ANSWERS:
        _check_promoted(attempt, transition, replay)


def _check_promoted(attempt: Attempt, transition: Document, replay: Replay) -> None:
    """The sender of a change is told of those who moved up by it; who finds it done already is told of none."""
    changes = transition.get("orders", ())
    promoted = [each["order_id"] for each in changes if each.get("status") == "confirmed" and "user_id" not in each]
    may_be_told = {True: [promoted], False: [[]], None: [[], promoted]}[_is_its_own(attempt, transition)]
    if attempt.promoted not in may_be_told:
        replay.wrong(f"{name(attempt)}: told of {attempt.promoted}, promoted were {promoted}")


def _is_its_own(attempt: Attempt, transition: Document) -> bool | None:
    """Whether this request has led to the transition that its answer names; None: nobody can tell."""
    if attempt.kind == "cancel" and "user_id" in attempt.asked:
        return True  # a user's order is found only as long as it can be cancelled
    key = transition.get("request", {}).get("key")
    return None if key is None and attempt.key is None else key == attempt.key


def _check_bulk(attempt: Attempt, replay: Replay, named: list[str]) -> None:
    """All orders of many bookings are of one transition, in their turn."""
    results, bookings = attempt.told["results"], attempt.asked["orders"]
    made = [each["order"]["order_id"] for each in results if "order" in each]
    if made != named or len(results) != len(bookings):
        replay.wrong(f"{name(attempt)}: told of {made}, made were {named}")
    if attempt.asked["all_or_none"] and {each.get("order", each).get("status") for each in results} != {"confirmed"}:
        replay.wrong(f"{name(attempt)}: neither all nor none: {results}")
    if not says_so(refused_of(results), bookings_refused(attempt, replay, replay.last - 1)):
        replay.wrong(f"{name(attempt)}: told of refusals that were not true: {results}")
    for each in results:
        _check_order(attempt, each.get("order"), replay)
        if "order" in each and each["position"] != replay.place(each["order"]["order_id"]):
            replay.wrong(f"{name(attempt)}: told position {each['position']} of {each['order']['order_id']}")


def _check_order(attempt: Attempt, told: Document | None, replay: Replay) -> None:
    """What an answer says of an order is so: whose, how many tickets of which type, at which price."""
    if told is None:
        return
    true = replay.orders.get(told["order_id"], {"user_id": ""})
    if replay.person(told["user_id"]) != replay.person(true["user_id"]):  # names may be erased
        replay.wrong(f"{name(attempt)}: told {told['order_id']} is of {told['user_id']}, it is of {true['user_id']}")
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
    """Every request ends in an answer or a 503, in time. Whoever is cut off by a crash has not waited longer either."""
    ended_s = attempt.gave_up_s if attempt.returned_s is None else attempt.returned_s
    if ended_s is not None and (took_s := ended_s - attempt.invoked_s) > longest_s:
        found.append(f"{name(attempt)}: {'no answer within' if attempt.returned is None else 'took'} {took_s:.2f} s")
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
        if _is_refused(attempt):
            refusal = Refusal(attempt, least, replay, began)
            if (refusal.is_kept or not attempt.replayed) and not refusal.was_true():
                found.append(f"{name(attempt)}: {attempt.outcome} {attempt.told} was not true")
        if attempt.client == "observer" and version != replay.last:
            found.append(f"{name(attempt)}: sees {version} of {replay.last} when all is quiet")
        known = max(known, version)


def _is_refused(attempt: Attempt) -> bool:
    """Whether nothing was done because of the event's rules. Many bookings that were all refused name no version."""
    return attempt.outcome.startswith("refused:") or (attempt.outcome == "bulk" and attempt.version is None)


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
