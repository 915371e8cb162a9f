"""The rules once more, as naively as they can be said: lists, loops, and nothing kept that can be counted.

Written from the promises, not from the code. It shares nothing with `ticketing.domain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Outcome = dict[str, Any]


@dataclass
class NaiveOrder:
    """One order, in a list that is in order of arrival."""

    order_id: str
    user_id: str
    quantity: int
    status: str


class NaiveBoxOffice:
    """An event with its orders. Each action returns what the client is to be told."""

    def __init__(self) -> None:
        self.total = 0
        self.maximum = 0
        self.orders: list[NaiveOrder] = []
        self.remembered: dict[str, tuple[object, Outcome]] = {}

    # What can be asked.

    def initialize(self, total: int, maximum: int) -> Outcome:
        if self.total:
            return {"refused": "event_exists"}
        self.total, self.maximum = total, maximum
        return {"opened": total}

    def book(self, order_id: str, user_id: str, quantity: int) -> Outcome:
        if not self.total:
            return {"refused": "event_not_found"}
        for order in self.orders:
            if order.user_id == user_id and order.status != "cancelled":
                return {"refused": "already_booked", "order_id": order.order_id}
        if quantity > self.maximum:
            return {"refused": "exceeds_max_tickets_per_order"}
        if quantity > self.total:
            return {"refused": "exceeds_total_tickets"}
        fits = quantity <= self.free() and not self.line()
        order = NaiveOrder(order_id, user_id, quantity, "confirmed" if fits else "waiting")
        self.orders.append(order)
        return self.told(order, [])

    def cancel(self, order_id: str | None, user_id: str | None) -> Outcome:
        if not self.total and user_id is not None:
            return {"refused": "event_not_found"}
        for order in self.orders:
            if order.order_id == order_id or (order.user_id == user_id and order.status != "cancelled"):
                if order.status == "cancelled":
                    return self.told(order, [])
                order.status = "cancelled"
                return self.told(order, self.serve())
        return {"refused": "order_not_found"}

    def keyed(self, key: str, body: object, outcome: Outcome) -> Outcome:
        """Keep an outcome for its key. Nothing is kept before the event exists."""
        if self.total:
            self.remembered[key] = (body, outcome)
        return outcome

    # What follows.

    def serve(self) -> list[str]:
        """Confirm from the head of the line as long as the first one fits."""
        served = []
        while self.line() and self.line()[0].quantity <= self.free():
            first = self.line()[0]
            first.status = "confirmed"
            served.append(first.order_id)
        return served

    # What is.

    def line(self) -> list[NaiveOrder]:
        return [order for order in self.orders if order.status == "waiting"]

    def booked(self) -> int:
        return sum(order.quantity for order in self.orders if order.status == "confirmed")

    def free(self) -> int:
        return self.total - self.booked()

    def position(self, order: NaiveOrder) -> int | None:
        for position, waiting in enumerate(self.line(), start=1):
            if waiting is order:
                return position
        return None

    def told(self, order: NaiveOrder, promoted: list[str]) -> Outcome:
        return {
            "order": (order.order_id, order.user_id, order.quantity, order.status),
            "position": self.position(order),
            "promoted": promoted,
        }
