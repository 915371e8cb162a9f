"""Whether a refusal was true when it was decided.

Shares no code with the domain. What a refusal says of an order, a total or a schedule is looked up in the event as it
was then (replay.py), never in the refusal itself nor in what was asked alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from .history import Attempt
from .replay import LIMITS, Document, Moment, Replay, is_on_sale, sales_are_over, transfers_are_over


class Refusal:
    """A refusal, and the event as it may have been when it was decided.

    `least` is the version of which somebody had been told before it was asked for, `began` what the time 0 of the
    attempts is on the clock of the service, where that is known.
    """

    def __init__(self, attempt: Attempt, least: int, replay: Replay, began: datetime | None) -> None:
        self.attempt, self.asked, self.told, self.replay = attempt, attempt.asked, attempt.told, replay
        self.code = attempt.outcome.removeprefix("refused:")
        kept = self._kept_at()
        self.is_kept = kept is not None
        if kept is not None:  # it was decided on the version before it, then and there
            self.since = range(kept - 1, kept)
            self.times = [replay.transitions[kept]["at"]]
        else:
            self.since = range(least, replay.last_before(attempt.returned or 0) + 1)
            self.times = [] if began is None else _bounds(attempt, began)

    def _kept_at(self) -> int | None:
        """The version of the transition that keeps this refusal for its Idempotency-Key, if one does."""
        version = self.replay.keys.get(self.attempt.key or b"")
        transition = self.replay.transitions[version or 0]
        says = transition.get("refusal", {}).get("code", "bulk" if "refused" in transition else None)
        return version if says == self.code else None

    def was_true(self) -> bool:
        """At one moment at least; and it is one that this request can get."""
        truth = TRUTHS.get(self.code)
        return (
            truth is not None
            and self.code in MAY_BE_REFUSED[self.attempt.kind]
            and any(truth(self, then) for then in self.since)
        )

    # Each truth is about the event right after the transition `then`.

    def _event(self, then: int) -> Document:
        return self.replay.moments[then].event

    def event_not_found(self, then: int) -> bool:
        return not self._event(then)

    def event_exists(self, then: int) -> bool:
        return bool(self._event(then))

    def event_cancelled(self, then: int) -> bool:
        return self._event(then).get("cancelled_at") is not None

    def already_booked(self, then: int) -> bool:
        is_transfer = self.attempt.kind == "transfer"
        order = self.replay.active_at(self.asked["to_user_id" if is_transfer else "user_id"], then)
        # Who hands tickets on does not learn the recipient's order.
        return order is not None and self.told.get("order_id", "") == (None if is_transfer else order)

    def order_not_found(self, then: int) -> bool:
        if "order_id" in self.asked:
            return self.replay.order_at(self.asked["order_id"], then) is None
        return bool(self._event(then)) and self.replay.active_at(self.asked["user_id"], then) is None

    def exceeds_total_tickets(self, then: int) -> bool:
        total = self.replay.moments[then].total(self.asked.get("ticket_type"))
        return bool(self.asked["quantity"] > total == self.told.get("maximum"))

    def exceeds_max_tickets_per_order(self, then: int) -> bool:
        return self._is_over("max_tickets_per_order", then)

    def exceeds_max_tickets_per_user(self, then: int) -> bool:
        """A user has one active order of an event, so his tickets are those of this one."""
        return self._is_over("max_tickets_per_user", then)

    def _is_over(self, limit: str, then: int) -> bool:
        moment = self.replay.moments[then]
        return moment.is_over(limit, self._wanted(then)) and moment.event[limit] == self.told.get("maximum")

    def _wanted(self, then: int) -> int:
        """The tickets of the order that there would have been; of a transfer without a number, all that there were."""
        _, quantity = self.replay.order_at(self.asked.get("order_id", ""), then) or ("none", 0)
        return self.asked["quantity"] or quantity

    def ticket_type_required(self, then: int) -> bool:
        return self.asked.get("ticket_type") is None and len(self.replay.moments[then].totals) > 1

    def unknown_ticket_type(self, then: int) -> bool:
        code, totals = self.asked.get("ticket_type"), self.replay.moments[then].totals
        return bool(totals) and code is not None and code not in totals and code == self.told.get("ticket_type")

    def invalid_ticket_types(self, then: int) -> bool:
        """The number of tickets was to be that of one of several types, or a new type was to have none."""
        totals = self.replay.moments[then].totals
        if self.told.get("field") == "total_tickets":
            return "total_tickets" in self.asked and len(totals) > 1
        new = [each for each in self.asked.get("ticket_types", ()) if each["code"] not in totals]
        return self.told.get("field") == "ticket_types" and any("total_tickets" not in each for each in new)

    def exceeds_order_quantity(self, then: int) -> bool:
        order_id = self.asked.get("order_id") or self.replay.active_at(self.asked["user_id"], then)
        status, quantity = self.replay.order_at(order_id or "", then) or ("none", 0)
        may_lose_some = status == "confirmed" or (status == "waiting" and self.attempt.kind == "cancel")
        return bool(may_lose_some and (self.asked["quantity"] or 0) > quantity == self.told.get("maximum"))

    def order_not_confirmed(self, then: int) -> bool:
        status, _ = self.replay.order_at(self.asked["order_id"], then) or ("none", 0)
        return status in ("waiting", "cancelled") and status == self.told.get("order_status")

    def below_booked_tickets(self, then: int) -> bool:
        """It was asked for less than was booked of a type, or held for its line."""
        moment, code = self.replay.moments[then], self.told.get("ticket_type")
        wanted = {each["code"]: each.get("total_tickets") for each in self.asked.get("ticket_types", ())}
        total = wanted.get(code, self.asked.get("total_tickets"))
        if total is None or code not in moment.totals:
            return False
        minimum = moment.totals[code] - moment.available(code)
        return bool(total < minimum == self.told.get("minimum") and total < moment.totals[code])

    def precondition_failed(self, then: int) -> bool:
        return self.asked["version"] not in (None, then) and self.told.get("version") == then

    def invalid_schedule(self, then: int) -> bool:
        """With what was to be set, something would have ended before it began."""
        event, ends = {**self._event(then), **self.asked}, self.told.get("field")
        begins = {"ends_at": "starts_at", "sales_close_at": "sales_open_at"}.get(str(ends))
        first, last = event.get(begins or ""), event.get(ends or "")
        return first is not None and last is not None and last <= first

    def sales_closed(self, then: int) -> bool:
        event = self._event(then)
        return not self.event_cancelled(then) and any(sales_are_over(event, at) for at in self.times)

    def sales_not_open(self, then: int) -> bool:
        """They were to open later, and when is what was said."""
        event, opens = self._event(then), self._event(then).get("sales_open_at")
        waits = [at for at in self.times if not is_on_sale(event, at) and not sales_are_over(event, at)]
        if not waits:
            return False
        longest_s, least_s = (math.ceil((opens - at).total_seconds()) for at in (min(self.times), max(self.times)))
        says_when = _instant(str(self.told.get("sales_open_at"))) == opens
        return says_when and least_s <= self.told.get("retry_after_s", -1) <= longest_s

    def transfer_closed(self, then: int) -> bool:
        event = self._event(then)
        return not self.event_cancelled(then) and any(transfers_are_over(event, at) for at in self.times)

    def bulk_refused(self, then: int) -> bool:
        """Not all would have been confirmed, and why is what was said of each."""
        refused = self.asked["all_or_none"] and bookings_refused(self.attempt, self.replay, then)
        return bool(refused) and says_so(self.told["refused"], refused)

    def all_refused(self, then: int) -> bool:
        """Many bookings one by one, and none of them was to be had."""
        return says_so(refused_of(self.told["results"]), bookings_refused(self.attempt, self.replay, then))


TRUTHS: dict[str, Callable[[Refusal, int], bool]] = {
    "already_booked": Refusal.already_booked,
    "below_booked_tickets": Refusal.below_booked_tickets,
    "bulk": Refusal.all_refused,
    "bulk_refused": Refusal.bulk_refused,
    "event_cancelled": Refusal.event_cancelled,
    "event_exists": Refusal.event_exists,
    "event_not_found": Refusal.event_not_found,
    "exceeds_max_tickets_per_order": Refusal.exceeds_max_tickets_per_order,
    "exceeds_max_tickets_per_user": Refusal.exceeds_max_tickets_per_user,
    "exceeds_order_quantity": Refusal.exceeds_order_quantity,
    "exceeds_total_tickets": Refusal.exceeds_total_tickets,
    "invalid_schedule": Refusal.invalid_schedule,
    "invalid_ticket_types": Refusal.invalid_ticket_types,
    "order_not_confirmed": Refusal.order_not_confirmed,
    "order_not_found": Refusal.order_not_found,
    "precondition_failed": Refusal.precondition_failed,
    "sales_closed": Refusal.sales_closed,
    "sales_not_open": Refusal.sales_not_open,
    "ticket_type_required": Refusal.ticket_type_required,
    "transfer_closed": Refusal.transfer_closed,
    "unknown_ticket_type": Refusal.unknown_ticket_type,
}

OF_SALES = {"event_not_found", "event_cancelled", "sales_closed", "sales_not_open"}
OF_USERS = {"already_booked", "exceeds_max_tickets_per_order", "exceeds_max_tickets_per_user"}
OF_TYPES = {"ticket_type_required", "unknown_ticket_type", "exceeds_total_tickets"}
MAY_BE_REFUSED: dict[str, set[str]] = {
    "initialize": {"event_exists", "invalid_schedule"},
    "book": {*OF_SALES, *OF_TYPES, *OF_USERS},
    "bulk": {*OF_SALES, "bulk_refused", "bulk"},
    "cancel": {"event_not_found", "order_not_found", "exceeds_order_quantity"},
    "transfer": {
        "order_not_found",
        "event_cancelled",
        "transfer_closed",
        "order_not_confirmed",
        "exceeds_order_quantity",
        *OF_USERS,
    },
    "update": {
        "event_not_found",
        "precondition_failed",
        "event_cancelled",
        "invalid_ticket_types",
        "invalid_schedule",
        "below_booked_tickets",
    },
    "end": {"event_not_found"},
    "erase": {"event_not_found"},
    "read": {"event_not_found"},
}


# Many bookings at once.


def bookings_refused(attempt: Attempt, replay: Replay, then: int) -> list[Document]:
    """Those of many bookings that are refused, one after the other on the event as it was after the transition `then`.

    Each is `{"index": its place from 0, "code", "details"}`.
    """
    moment, refused = replay.moments[then], []
    made: dict[str, Document] = {}
    taken: Counter[str] = Counter()
    for index, (user, quantity, code) in enumerate(attempt.asked["orders"]):
        left = moment.available(code) - taken[moment.named(code)]
        order_id = replay.active_at(user, then)
        if not moment.named(code):
            refused.append(_without_type(index, code))
        elif user in made or order_id is not None:
            refused.append(_refused(index, "already_booked", made.get(user, {"order_id": order_id})))
        elif (too_many := _too_many(moment, quantity, code)) is not None:
            refused.append(_refused(index, *too_many))
        elif attempt.asked["all_or_none"] and quantity > left:
            refused.append(_refused(index, "not_enough_tickets", {"available_tickets": left}))
        else:
            made[user] = _made(attempt, index)
            taken[moment.named(code)] += quantity
    return refused


def _without_type(index: int, code: str | None) -> Document:
    """A booking that names no type of several, or one that there is not."""
    if code is None:
        return _refused(index, "ticket_type_required", {})
    return _refused(index, "unknown_ticket_type", {"ticket_type": code})


def _too_many(moment: Moment, quantity: int, code: str | None) -> tuple[str, Document] | None:
    """Which limit of a new order so many tickets exceed, the first of them, and what it is."""
    for limit in LIMITS:
        if moment.is_over(limit, quantity):
            return f"exceeds_{limit}", {"maximum": moment.event[limit]}
    if quantity > (total := moment.total(code)):
        return "exceeds_total_tickets", {"maximum": total}
    return None


def _refused(index: int, code: str, details: Document) -> Document:
    return {"index": index, "code": code, "details": details}


def _made(attempt: Attempt, index: int) -> Document:
    """Which order a booking has led to, if the answer tells of it."""
    results = attempt.told.get("results", ())
    order = results[index].get("order") if index < len(results) else None
    return {} if order is None else {"order_id": order["order_id"]}


def refused_of(results: list[Document]) -> list[Document]:
    """The refused ones among the results of many bookings, in the same form."""
    return [
        _refused(index, each["refused"], {name: value for name, value in each.items() if name != "refused"})
        for index, each in enumerate(results)
        if "refused" in each
    ]


def says_so(told: list[Document], true: list[Document]) -> bool:
    """Whether what was told of refused bookings is true, with as many details as were told and are known."""
    return [(each["index"], each["code"]) for each in told] == [(each["index"], each["code"]) for each in true] and all(
        said.get("details", {}).get(name, value) == value
        for said, each in zip(told, true, strict=True)
        for name, value in each["details"].items()
    )


# Time.


def _bounds(attempt: Attempt, began: datetime) -> list[datetime]:
    """When it was sent and answered, as the service counts: its clock stands still for a part of a millisecond."""
    assert attempt.returned_s is not None
    return [began + timedelta(milliseconds=int(each * 1000)) for each in (attempt.invoked_s, attempt.returned_s)]


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
