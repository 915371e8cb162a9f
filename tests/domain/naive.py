"""The rules once more, as naively as they can be said: lists, loops, and nothing kept that can be counted.

Written from the promises, not from the code. It shares nothing with `ticketing.domain`. Times are whole seconds,
prices are texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

Outcome = dict[str, Any]
Booking = tuple[str, str, int, str | None]  # order id, user id, quantity, ticket type

NOT_FINAL = "sales_not_open"  # may come out otherwise later, so no key keeps it


@dataclass
class NaiveType:
    """One kind of ticket."""

    code: str
    total: int
    price: str


@dataclass
class NaiveOrder:
    """One order, in a list that is in order of arrival."""

    order_id: str
    user_id: str
    quantity: int
    status: str
    ticket_type: str
    price: str


class NaiveBoxOffice:
    """An event with its orders. Each action returns what the client is to be told."""

    def __init__(self) -> None:
        self.types: list[NaiveType] = []
        self.limits: dict[str, int | None] = {}
        self.times: dict[str, int | None] = {}
        self.organizer: str | None = None
        self.is_cancelled = False
        self.orders: list[NaiveOrder] = []
        self.version = 0
        self.remembered: dict[str, Outcome] = {}

    def ask(self, key: str | None, action: Callable[[], Outcome]) -> Outcome:
        """Act, and keep the outcome for its key. Nothing is kept before the event exists."""
        version = self.version
        outcome = action()
        if key is not None and self.types and outcome.get("refused") != NOT_FINAL:
            if self.version == version:
                self.version += 1  # remembered
            self.remembered[key] = outcome
        return outcome

    # What can be asked.

    def initialize(self, types: list[NaiveType], limits: dict[str, Any], times: dict[str, Any], by: str) -> Outcome:
        if self.types:
            return {"refused": "event_exists"}
        if contradict(times):
            return {"refused": "invalid_schedule"}
        self.types, self.limits, self.times, self.organizer = types, dict(limits), dict(times), by
        self.version += 1
        return self.told_event([])

    def update(
        self, types: list[Outcome], limits: dict[str, Any], times: dict[str, Any], version: int | None, now: int
    ) -> Outcome:
        """`types` holds changes: a code, and a total, a price or both."""
        if not self.types:
            return {"refused": "event_not_found"}
        if version is not None and version != self.version:
            return {"refused": "precondition_failed", "version": self.version}
        if self.is_cancelled:
            return {"refused": "event_cancelled"}
        wanted = self.types_after(types)
        if not wanted:
            return {"refused": "invalid_ticket_types"}
        wanted_limits, wanted_times = {**self.limits, **limits}, {**self.times, **times}
        if (wanted, wanted_limits, wanted_times) == (self.types, self.limits, self.times):
            return self.told_event([])
        if contradict(wanted_times):
            return {"refused": "invalid_schedule"}
        for before, after in zip(self.types, wanted, strict=False):
            minimum = self.booked(before.code) + (self.free(before.code) if self.line(before.code) else 0)
            if after.total < minimum:
                return {"refused": "below_booked_tickets", "minimum": minimum, "ticket_type": before.code}
        self.types, self.limits, self.times = wanted, wanted_limits, wanted_times
        self.version += 1
        return self.told_event(self.serve(now))

    def cancel_event(self) -> Outcome:
        if not self.types:
            return {"refused": "event_not_found"}
        if not self.is_cancelled:
            self.is_cancelled = True
            self.version += 1
        return self.told_event([])

    def book(self, booking: Booking, now: int) -> Outcome:
        refused = self.not_sold(now) or self.not_for(booking)
        if refused:
            return refused
        self.version += 1
        return self.told(self.join(booking), [])

    def book_many(self, bookings: list[Booking], all_or_none: bool, now: int) -> Outcome:
        refused = self.not_sold(now)
        if refused:
            return refused
        made: list[NaiveOrder] = []
        results: list[Outcome] = []
        for booking in bookings:
            result = self.not_for(booking)
            if not result and all_or_none and not self.fits(booking):
                result = {"refused": "not_enough_tickets", "available_tickets": self.available(self.code_of(booking))}
            if not result:
                made.append(self.join(booking))
                result = self.told(made[-1], [])
            results.append(result)
        if all_or_none and len(made) < len(bookings):
            self.orders = [order for order in self.orders if order not in made]
            failures = [(place, result) for place, result in enumerate(results) if "refused" in result]
            return {"refused": "bulk_refused", "failures": failures, "count": len(bookings)}
        self.version += bool(made)
        return {"results": results}

    def cancel(self, order_id: str | None, user_id: str | None, quantity: int | None, now: int) -> Outcome:
        if not self.types and user_id is not None:
            return {"refused": "event_not_found"}
        for order in self.orders:
            if order.order_id == order_id or (order.user_id == user_id and order.status != "cancelled"):
                if order.status == "cancelled":
                    return self.told(order, [])
                if quantity is not None and quantity > order.quantity:
                    return {"refused": "exceeds_order_quantity", "maximum": order.quantity}
                take(order, quantity)
                self.version += 1
                served = self.serve(now)
                return self.told(order, served)
        return {"refused": "order_not_found"}

    def transfer(self, order_id: str, new_order_id: str, to: str, quantity: int | None, now: int) -> Outcome:
        for order in self.orders:
            if order.order_id == order_id:
                break
        else:
            return {"refused": "order_not_found"}
        if self.is_cancelled:
            return {"refused": "event_cancelled"}
        end = self.times["transfer_close_at"]
        if end is None:
            end = self.times["starts_at"]
        if end is not None and end <= now:
            return {"refused": "transfer_closed"}
        if order.status != "confirmed":
            return {"refused": "order_not_confirmed", "order_status": order.status}
        given = order.quantity if quantity is None else quantity
        if given > order.quantity:
            return {"refused": "exceeds_order_quantity", "maximum": order.quantity}
        refused = self.over_the_limits(to, given)
        if "order_id" in refused:
            refused["order_id"] = None  # the sender does not learn the recipient's order
        if refused:
            return refused
        take(order, given)
        received = NaiveOrder(new_order_id, to, given, "confirmed", order.ticket_type, order.price)
        self.orders.append(received)
        self.version += 1
        return {**self.told(received, []), "sender": asdict(order)}

    def erase(self, user_id: str, pseudonym: str) -> Outcome:
        """The name goes, also from all that is remembered."""
        if not self.types:
            return {"refused": "event_not_found"}
        mine = [order for order in self.orders if order.user_id == user_id]
        if not mine and self.organizer != user_id:
            return self.told_event([])
        for order in mine:
            order.user_id = pseudonym
        if self.organizer == user_id:
            self.organizer = pseudonym
        for outcome in self.remembered.values():
            for told in orders_told(outcome):
                if told["order_id"] in [order.order_id for order in mine]:
                    told["user_id"] = pseudonym
        self.version += 1
        return self.told_event([])

    def come_back(self, now: int) -> list[Outcome]:
        """Before anything else: if sales have opened meanwhile, the line goes on where it was."""
        served = self.serve(now)
        self.version += bool(served)
        return served

    # What follows.

    def types_after(self, changes: list[Outcome]) -> list[NaiveType]:
        """Empty where they cannot be: a new type without a total."""
        wanted = [NaiveType(each.code, each.total, each.price) for each in self.types]
        for change in changes:
            if change["code"] not in [each.code for each in wanted]:
                if "total" not in change:
                    return []
                wanted.append(NaiveType(change["code"], change["total"], "0.00"))
            for each in wanted:
                if each.code == change["code"]:
                    each.total, each.price = change.get("total", each.total), change.get("price", each.price)
        return wanted

    def not_sold(self, now: int) -> Outcome:
        if not self.types:
            return {"refused": "event_not_found"}
        if self.is_cancelled:
            return {"refused": "event_cancelled"}
        for name in ("sales_close_at", "ends_at"):
            end = self.times[name]
            if end is not None and end <= now:
                return {"refused": "sales_closed"}
        begin = self.times["sales_open_at"]
        if begin is not None and now < begin:
            return {"refused": "sales_not_open", "retry_after_s": begin - now}
        return {}

    def not_for(self, booking: Booking) -> Outcome:
        _, user_id, quantity, code = booking
        if code is None and len(self.types) > 1:
            return {"refused": "ticket_type_required"}
        if code is not None and code not in [each.code for each in self.types]:
            return {"refused": "unknown_ticket_type", "ticket_type": code}
        total = self.type_of(self.code_of(booking)).total
        refused = self.over_the_limits(user_id, quantity)
        if not refused and quantity > total:
            return {"refused": "exceeds_total_tickets", "maximum": total}
        return refused

    def over_the_limits(self, user_id: str, quantity: int) -> Outcome:
        for order in self.orders:
            if order.user_id == user_id and order.status != "cancelled":
                return {"refused": "already_booked", "order_id": order.order_id}
        for name in ("max_tickets_per_order", "max_tickets_per_user"):
            maximum = self.limits[name]
            if maximum is not None and quantity > maximum:
                return {"refused": f"exceeds_{name}", "maximum": maximum}
        return {}

    def join(self, booking: Booking) -> NaiveOrder:
        order_id, user_id, quantity, _ = booking
        kind = self.type_of(self.code_of(booking))
        status = "confirmed" if self.fits(booking) else "waiting"
        order = NaiveOrder(order_id, user_id, quantity, status, kind.code, kind.price)
        self.orders.append(order)
        return order

    def serve(self, now: int) -> list[Outcome]:
        """While tickets are sold: confirm from the head of each line as long as the first one fits."""
        served: list[Outcome] = []
        if self.not_sold(now):
            return served
        for kind in self.types:
            while self.line(kind.code) and self.line(kind.code)[0].quantity <= self.free(kind.code):
                first = self.line(kind.code)[0]
                first.status = "confirmed"
                served.append(asdict(first))
        return served

    # What is.

    def code_of(self, booking: Booking) -> str:
        return booking[3] or self.types[0].code

    def type_of(self, code: str) -> NaiveType:
        (found,) = [each for each in self.types if each.code == code]
        return found

    def fits(self, booking: Booking) -> bool:
        return booking[2] <= self.available(self.code_of(booking))

    def line(self, code: str) -> list[NaiveOrder]:
        return [order for order in self.orders if order.status == "waiting" and order.ticket_type == code]

    def booked(self, code: str) -> int:
        return sum(o.quantity for o in self.orders if o.status == "confirmed" and o.ticket_type == code)

    def free(self, code: str) -> int:
        return self.type_of(code).total - self.booked(code)

    def available(self, code: str) -> int:
        return 0 if self.line(code) else self.free(code)

    def position(self, order: NaiveOrder) -> int | None:
        for position, waiting in enumerate(self.line(order.ticket_type), start=1):
            if waiting is order:
                return position
        return None

    def told(self, order: NaiveOrder, promoted: list[Outcome]) -> Outcome:
        return {"order": asdict(order), "position": self.position(order), "promoted": promoted}

    def told_event(self, promoted: list[Outcome]) -> Outcome:
        return {"event": self.seen(), "promoted": promoted}

    def seen(self) -> Outcome:
        """The event as a whole."""
        return {
            "types": [(each.code, each.total, each.price) for each in self.types],
            "limits": dict(self.limits),
            "times": dict(self.times),
            "is_cancelled": self.is_cancelled,
            "stocks": [
                (self.booked(each.code), self.available(each.code), self.free(each.code), len(self.line(each.code)))
                for each in self.types
            ],
        }


def take(order: NaiveOrder, quantity: int | None) -> None:
    """So many tickets away from an order. One that has none left is cancelled, and keeps its number."""
    if quantity is None or quantity == order.quantity:
        order.status = "cancelled"
    else:
        order.quantity -= quantity


def contradict(times: dict[str, int | None]) -> bool:
    """Whether something ends before it begins."""
    for first, last in (("starts_at", "ends_at"), ("sales_open_at", "sales_close_at")):
        begin, end = times[first], times[last]
        if begin is not None and end is not None and end <= begin:
            return True
    return False


def orders_told(outcome: Outcome) -> Iterator[Outcome]:
    """All orders that an outcome speaks of."""
    yield from outcome.get("promoted", [])
    yield from (outcome[name] for name in ("order", "sender") if name in outcome)
    for result in outcome.get("results", []):
        yield from orders_told(result)
