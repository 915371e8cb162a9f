"""What must be true after a run, read from the ledger's raw documents and the clients' histories.

Shares no code with the domain: plain lists and dictionaries, replayed the slow way. Every violation is a
sentence. What a client was told is compared with the event as it was right after the transition that the answer
names, so an answer must be true, and must stay so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from .history import Attempt, History

NOT_REMEMBERED = ("unavailable", "failed", "refused:event_not_found")
ANSWERS = ("confirmed", "waiting", "cancelled", "initialized")


def violations(history: History) -> list[str]:
    """All that is not as promised; empty when everything is."""
    found: list[str] = []
    attempts = [attempt for attempt in history.attempts if attempt.returned is not None]
    replays: list[Replay] = []
    for event_id in sorted({attempt.event_id for attempt in history.attempts}):
        documents = [document for document in history.ledger if document["event_id"] == event_id]
        mine = [attempt for attempt in attempts if attempt.event_id == event_id]
        replay = Replay(event_id, found)
        replay.play(documents, mine)
        _check_order_in_time(mine, replay, found)
        replays.append(replay)
    for attempt in attempts:
        _check_end(attempt, history.longest_s, found)
    _check_keys(attempts, replays, found)
    _check_failures(attempts, replays, found)
    return found


class Replay:
    """One event, transition by transition."""

    def __init__(self, event_id: str, found: list[str]) -> None:
        self.event_id = event_id
        self.transitions: list[dict[str, Any]] = [{}]  # so that a version is a place
        self.total = 0
        self.statuses: dict[str, str] = {}
        self.quantities: dict[str, int] = {}
        self.users: dict[str, str] = {}
        self.line: list[str] = []
        # By user: [first version, first version after it, order] of each active order.
        self.active: dict[str, list[list[Any]]] = defaultdict(list)
        self._booked = 0
        self._found = found

    @property
    def last(self) -> int:
        """The version of the last transition."""
        return len(self.transitions) - 1

    def play(self, documents: list[dict[str, Any]], attempts: list[Attempt]) -> None:
        """Apply all transitions, and check at each what clients were told of it."""
        told: dict[int, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            if attempt.outcome in (*ANSWERS, "read"):
                told[attempt.version or 0].append(attempt)
        for document in documents:
            for transition in document["transitions"]:
                if transition["version"] != len(self.transitions):
                    self._wrong(f"transition {transition['version']} stands at place {len(self.transitions)}")
                    return
                self.transitions.append(transition)
                if transition["type"] != "remembered":
                    self._apply(transition)
                for attempt in told.pop(self.last, ()):
                    self._check_answer(attempt)
        for version in told:
            self._wrong(f"clients were told of version {version}, the ledger ends at {self.last}")

    def active_at(self, user: str, version: int) -> str | None:
        """The active order that a user had after the transition `version`."""
        for first, after, order in self.active[user]:
            if first <= version and (after is None or version < after):
                return str(order)
        return None

    def _apply(self, transition: dict[str, Any]) -> None:
        if "event" in transition:
            self.total = transition["event"]["total_tickets"]
        line_before, free_before = list(self.line), self.total - self._booked
        promoted = []
        for change in transition.get("orders", ()):
            order, status = change["order_id"], change["status"]
            before = self.statuses.get(order)
            if before is None:
                self._enter(change, line_before, free_before)
            elif status == "cancelled":
                self._leave(order, before)
            else:
                promoted.append(order)
            if status == "confirmed" and before != "confirmed":
                self._booked += self.quantities[order]
            if before == "waiting" and order in self.line:
                self.line.remove(order)
            if status == "waiting":
                self.line.append(order)
            self.statuses[order] = status
        in_line = [order for order in line_before if self.statuses[order] != "cancelled"]
        if promoted != in_line[: len(promoted)]:
            self._wrong(f"promoted {promoted}, the line was {in_line}")
        if self._booked > self.total:
            self._wrong(f"oversold, {self._booked} of {self.total}")
        if self.line and self.quantities[self.line[0]] <= self.total - self._booked:
            self._wrong(f"{self.line[0]} is first in line and fits, and still waits")

    def _enter(self, change: dict[str, Any], line: list[str], free: int) -> None:
        order, user = change["order_id"], change["user_id"]
        if self.active_at(user, self.last) is not None:
            self._wrong(f"a second active order of {user}")
        self.quantities[order], self.users[order] = change["quantity"], user
        self.active[user].append([self.last, None, order])
        fits = not line and change["quantity"] <= free
        if fits != (change["status"] == "confirmed"):
            self._wrong(f"{order} is {change['status']}, with {free} free and {len(line)} in line")

    def _leave(self, order: str, before: str) -> None:
        if before == "cancelled":
            self._wrong(f"{order} is cancelled twice")
            return
        if before == "confirmed":
            self._booked -= self.quantities[order]
        for span in self.active[self.users[order]]:
            if span[2] == order:
                span[1] = self.last

    def _check_answer(self, attempt: Attempt) -> None:
        """The answer says what the ledger says at its version."""
        if attempt.outcome == "read":
            self._check_read(attempt)
            return
        if attempt.outcome == "initialized":
            return
        order = attempt.order_id or ""
        place = self.line.index(order) + 1 if order in self.line else None
        named = [change["order_id"] for change in self.transitions[-1].get("orders", ())]
        if attempt.kind == "book" and named[:1] != [order]:
            self._wrong(f"{name(attempt)}: {order} is not what happened")
        if attempt.promoted and attempt.promoted != named[1:]:
            self._wrong(f"{name(attempt)}: told of {attempt.promoted}, promoted were {named[1:]}")
        told, true = (attempt.outcome, attempt.position), (self.statuses.get(order), place)
        if told != true:
            self._wrong(f"{name(attempt)}: told {told}, the ledger says {true}")

    def _check_read(self, attempt: Attempt) -> None:
        free = self.total - self._booked
        expected = {
            "total": self.total,
            "booked": self._booked,
            "available": 0 if self.line else free,
            "held": free if self.line else 0,
            "waiting": self.line,
            "positions": list(range(1, len(self.line) + 1)),
            "statuses": self.statuses,
        }
        for what, seen in attempt.seen.items():
            if seen != expected[what]:
                self._wrong(f"{name(attempt)}: saw {what} {seen}, the ledger says {expected[what]}")

    def _wrong(self, sentence: str) -> None:
        self._found.append(f"{self.event_id} at {self.last}: {sentence}")


def _check_end(attempt: Attempt, longest_s: float, found: list[str]) -> None:
    """Every request ends in an answer or a 503, in time."""
    assert attempt.returned_s is not None
    took_s = attempt.returned_s - attempt.invoked_s
    if took_s > longest_s:
        found.append(f"{name(attempt)}: took {took_s:.2f} s")
    if attempt.outcome.startswith("error:"):
        found.append(f"{name(attempt)}: {attempt.outcome}")


def _check_order_in_time(attempts: list[Attempt], replay: Replay, found: list[str]) -> None:
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
        if attempt.outcome == "read" and version < least:
            found.append(f"{name(attempt)}: sees version {version} after {least} had been answered")
        if attempt.outcome in ANSWERS and not attempt.replayed and not _is_second_cancellation(attempt, replay):
            if version <= least:
                found.append(f"{name(attempt)}: happened at {version}, after {least} had been answered")
        if attempt.outcome.startswith("refused:") and not attempt.replayed:
            _check_refusal(attempt, least, replay, found)
        if attempt.client == "observer" and version != replay.last:
            found.append(f"{name(attempt)}: sees {version} of {replay.last} when all is quiet")
        known = max(known, version)


def _is_second_cancellation(attempt: Attempt, replay: Replay) -> bool:
    """Cancelling a cancelled order by its id answers with the order as it has been since then."""
    if attempt.kind != "cancel" or "order_id" not in attempt.asked:
        return False
    version = attempt.version or 0
    transition = replay.transitions[version] if version <= replay.last else {}
    return attempt.key is None or transition.get("request", {}).get("key") != attempt.key


def _check_refusal(attempt: Attempt, least: int, replay: Replay, found: list[str]) -> None:
    """A refusal was true at some moment not before the request."""
    user, order = attempt.asked.get("user_id", ""), attempt.order_id
    since = range(least, replay.last + 1)
    truths: dict[str, Callable[[], bool]] = {
        "refused:already_booked": lambda: any(replay.active_at(user, then) == order for then in since),
        "refused:order_not_found": lambda: any(replay.active_at(user, then) is None for then in since),
        "refused:exceeds_total_tickets": lambda: attempt.asked["quantity"] > replay.total,
        "refused:event_not_found": lambda: least == 0,
        "refused:event_exists": lambda: replay.last > 0,
    }
    if not truths[attempt.outcome]():
        found.append(f"{name(attempt)}: {attempt.outcome} {order or ''} was not true")


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
        told = {(a.outcome, a.order_id, a.version, a.position, tuple(a.promoted)) for a in group}
        if len(told) > 1:
            found.append(f"key {key.hex()[:6]} had {len(told)} answers: {sorted(map(str, told))}")
        if sum(not attempt.replayed for attempt in group) > 1:
            found.append(f"key {key.hex()[:6]} was carried out more than once")


def _check_failures(attempts: list[Attempt], replays: list[Replay], found: list[str]) -> None:
    """Whoever was told that nothing was done finds nothing in the ledger."""
    orders = {order for replay in replays for order in replay.statuses}
    for attempt in attempts:
        if attempt.outcome == "failed" and attempt.new_order_id in orders:
            found.append(f"{name(attempt)}: told that nothing was done, {attempt.new_order_id} is in the ledger")


def name(attempt: Attempt) -> str:
    """How a violation speaks of a request."""
    return f"{attempt.client} {attempt.kind} {attempt.event_id} {attempt.asked} (sent {attempt.invoked})"
