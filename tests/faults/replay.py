"""One event's ledger once more, transition by transition, the slow way; and what must hold at each of them.

Shares no code with the domain: plain lists and dictionaries over the raw documents. Every violation is a sentence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

Document = dict[str, Any]

# What a transition may do to orders: make new ones, take tickets away, let somebody move up, give them another name.
EFFECTS: dict[str, tuple[str, ...]] = {
    "initialized": (),
    "booked": ("new",),
    "waitlisted": ("new",),
    "bulk_booked": ("new",),
    "cancelled": ("less", "promoted"),
    "transferred": ("less", "new"),
    "promoted": ("promoted",),
    "updated": ("promoted",),
    "event_cancelled": (),
    "pseudonymized": ("renamed",),
}
PROMOTED_AT_ONCE = 10_000  # by one transition; the next one goes on
PROMOTES_MANY = ("promoted", "updated")
SOLD_OR_NOT = ("initialized", "transferred", "pseudonymized")  # may be whether tickets are sold or not
LIMITS = ("max_tickets_per_order", "max_tickets_per_user")  # of a new order; a user has one active order an event


class Moment:
    """The event as it was right after one transition, as far as refusals are about it."""

    def __init__(self, replay: Replay) -> None:
        self.event = replay.event
        self.totals = dict(replay.totals)
        self.free = {code: replay.free(code) for code in replay.totals}
        self.lines = {code: len(line) for code, line in replay.lines.items()}

    def named(self, code: str | None) -> str:
        """The type of this code, or the only one; an empty text where there is none such."""
        if code is None and len(self.totals) == 1:
            return next(iter(self.totals))
        return code if code in self.totals and code is not None else ""

    def available(self, code: str | None) -> int:
        """What a booking of this type, or the only one, could get."""
        code = self.named(code)
        return 0 if self.lines.get(code) else self.free.get(code, 0)

    def total(self, code: str | None) -> int:
        """All tickets of this type, or the only one."""
        return self.totals.get(self.named(code), 0)

    def is_over(self, limit: str, quantity: int) -> bool:
        """Whether so many tickets are more than the event's field `limit` allows."""
        return is_over(self.event, limit, quantity)


class Replay:
    """One event, transition by transition. `aliases` are the names that pseudonyms stand for.

    `sent` holds by Idempotency-Key the place of the first request with it, in the order of all that clients send and
    get: what came of it did not happen before.
    """

    def __init__(
        self, event_id: str, aliases: dict[str, str], found: list[str], sent: Mapping[bytes, int] | None = None
    ) -> None:
        self.event_id = event_id
        self.transitions: list[Document] = [{}]  # so that a version is a place
        self.keys: dict[bytes, int] = {}  # the version of the transition with this Idempotency-Key
        self.moments: list[Moment] = []  # one for each of `transitions`
        self.event: Document = {}
        self.totals: dict[str, int] = {}
        self.prices: dict[str, tuple[str, str | None]] = {}
        self.orders: dict[str, Document] = {}
        self.lines: dict[str, list[str]] = {}
        # By user: [first version, first version after it, order] of each active order.
        self.active: dict[str, list[list[Any]]] = defaultdict(list)
        self._aliases = aliases
        self._found = found
        self._sent = sent or {}
        self._not_before = [0]  # of each of `transitions`: it happened after what stands at this place
        # By order: [version, status, quantity] of each transition that changed it.
        self._standings: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        self.moments.append(Moment(self))

    @property
    def last(self) -> int:
        """The version of the last transition."""
        return len(self.transitions) - 1

    @property
    def total(self) -> int:
        """All tickets."""
        return sum(self.totals.values())

    @property
    def booked(self) -> int:
        """All tickets of confirmed orders."""
        return self.total - sum(self.free(code) for code in self.totals)

    def free(self, code: str) -> int:
        """Tickets of a type that nobody has."""
        mine = [order for order in self.orders.values() if order["ticket_type"] == code]
        return self.totals[code] - sum(order["quantity"] for order in mine if order["status"] == "confirmed")

    def place(self, order_id: str) -> int | None:
        """The place in line of an order that waits."""
        for line in self.lines.values():
            if order_id in line:
                return line.index(order_id) + 1
        return None

    def active_at(self, user: str, version: int) -> str | None:
        """The active order that a user had after the transition `version`."""
        for first, after, order in self.active[user]:
            if first <= version and (after is None or version < after):
                return str(order)
        return None

    def order_at(self, order_id: str, version: int) -> tuple[str, int] | None:
        """Status and quantity that an order had after the transition `version`; None where there was none yet."""
        known = self._standings.get(order_id, [])
        place = bisect_left(known, version + 1, key=lambda standing: standing[0])
        return known[place - 1][1:] if place else None

    def last_before(self, place: int) -> int:
        """The last version that there can have been at this place in the order of all that clients send and get."""
        return bisect_left(self._not_before, place) - 1

    def person(self, name: str) -> str:
        """Who that is, also when the name is a pseudonym by now."""
        return self._aliases.get(name, name)

    def add(self, transition: Document) -> bool:
        """Apply the next transition. False: it is not the next one."""
        if transition["version"] != len(self.transitions):
            self.wrong(f"transition {transition['version']} stands at place {len(self.transitions)}")
            return False
        self.transitions.append(transition)
        key = transition.get("request", {}).get("key")
        if key is not None:
            self.keys.setdefault(key, self.last)
        self._not_before.append(max(self._not_before[-1], self._sent.get(key, 0)))
        if transition["type"] != "remembered":
            self._apply(transition)
        self.moments.append(Moment(self))
        return True

    def wrong(self, sentence: str) -> None:
        """Note a violation."""
        self._found.append(f"{self.event_id} at {self.last}: {sentence}")

    # What a transition does.

    def _apply(self, transition: Document) -> None:
        kind = transition["type"]
        if kind == "updated":
            self._check_floors(transition.get("event", {}))
        if kind != "pseudonymized":
            self._set_event(transition.get("event", {}))
        closed = not is_on_sale(self.event, transition["at"])
        if kind not in SOLD_OR_NOT and (transition.get("sales") == "closed") != closed:
            self.wrong(f"{kind} says of sales {transition.get('sales')}, they are {'closed' if closed else 'open'}")
        effects = [self._change(change, transition, closed) for change in transition.get("orders", ())]
        self._note_standings(transition)
        self._check_effects(kind, effects, transition)
        is_full = kind in PROMOTES_MANY and len(effects) >= PROMOTED_AT_ONCE
        for code, line in self.lines.items():
            free = self.free(code)
            if free < 0:
                self.wrong(f"oversold, {self.totals[code] - free} of {self.totals[code]} {code}")
            if line and not closed and not is_full and self.orders[line[0]]["quantity"] <= free:
                self.wrong(f"{line[0]} is first in line and fits, and still waits")
            for order_id in line:
                if (quantity := self.orders[order_id]["quantity"]) > self.totals[code]:
                    self.wrong(f"{order_id} waits for more than there are, {quantity} of {self.totals[code]} {code}")

    def _note_standings(self, transition: Document) -> None:
        for change in transition.get("orders", ()):
            order = self.orders.get(change["order_id"])
            if order is not None:
                self._standings[order["order_id"]].append((self.last, order["status"], order["quantity"]))

    def _check_floors(self, fields: Document) -> None:
        """No type loses tickets that are booked, nor free ones that are held for its line."""
        totals = {each["code"]: each["total_tickets"] for each in _types({**self.event, **fields})}
        for code, total in self.totals.items():
            floor = total if self.lines[code] else total - self.free(code)
            if totals.get(code, 0) < floor:
                self.wrong(f"leaves {totals.get(code, 0)} {code}, {floor} were booked or held")

    def _set_event(self, fields: Document) -> None:
        self.event = {**self.event, **fields}
        types = _types(self.event)
        self.totals = {each["code"]: each["total_tickets"] for each in types}
        self.prices = {each["code"]: (each["price"], each["currency"]) for each in types}
        for code in self.totals:
            self.lines.setdefault(code, [])

    def _check_effects(self, kind: str, effects: list[str], transition: Document) -> None:
        allowed = EFFECTS[kind]
        if not set(effects) <= set(allowed) or "less" in effects[1:] or ("less" in allowed and effects[:1] != ["less"]):
            self.wrong(f"{kind} does {effects}")
        if kind in ("booked", "waitlisted", "promoted", "bulk_booked") and not effects:
            self.wrong(f"{kind} does nothing")
        if kind in ("booked", "waitlisted") and len(effects) > 1:
            self.wrong(f"{kind} makes {len(effects)} orders")
        if kind == "transferred" and effects != ["less", "new"]:
            self.wrong(f"transferred does {effects}")
        elif kind == "transferred":
            self._check_transfer(transition)

    def _check_transfer(self, transition: Document) -> None:
        sender, received = (self.orders[change["order_id"]] for change in transition["orders"])
        if received["transferred_from"] != sender["order_id"] or sender["taken"] != received["quantity"]:
            self.wrong(f"{received} is not what {sender} has given")
        for name in ("ticket_type", "unit_price", "currency"):
            if sender[name] != received[name]:
                self.wrong(f"the {name} of {received['order_id']} is not that of {sender['order_id']}")
        if sender["was"] != "confirmed":
            self.wrong(f"transfers an order that is {sender['was']}")
        if transfers_are_over(self.event, transition["at"]):
            self.wrong("transfers tickets too late")

    def _change(self, change: Document, transition: Document, closed: bool) -> str:
        order = self.orders.get(change["order_id"])
        if order is None and "user_id" not in change:
            self.wrong(f"changes {change['order_id']}, which there is not")
            return "nothing"
        if order is None:
            self._enter(change, transition, closed)
            return "new"
        if "user_id" in change:
            self._rename(order, change["user_id"])
            return "renamed"
        if change.get("status") == "confirmed":
            self._promote(order, closed)
            return "promoted"
        self._take(order, change)
        return "less"

    def _enter(self, change: Document, transition: Document, closed: bool) -> None:
        user = str(self._aliases.get(change["user_id"], change["user_id"]))
        order: Document = {
            "ticket_type": "general",
            "unit_price": "0.00",
            "currency": None,
            "transferred_from": None,
            **change,
            "user_id": user,
            "status": "new",
        }
        self.orders[order["order_id"]] = order
        code, quantity, status = order["ticket_type"], order["quantity"], change["status"]
        if self.active_at(user, self.last) is not None:
            self.wrong(f"a second active order of {user}")
        self._check_limits(order, transition["type"])
        self.active[user].append([self.last, None, order["order_id"]])
        if transition["type"] != "transferred":
            fits = not self.lines[code] and quantity <= self.free(code)
            if fits != (status == "confirmed"):
                line = len(self.lines[code])
                self.wrong(f"{order['order_id']} is {status}, with {self.free(code)} free and {line} in line")
            if closed:
                self.wrong(f"{order['order_id']} joins while nothing is sold")
            if (order["unit_price"], order["currency"]) != self.prices[code]:
                self.wrong(f"{order['order_id']} costs {order['unit_price']}, the price is {self.prices[code]}")
        order["status"] = status
        if status == "waiting":
            self.lines[code].append(order["order_id"])

    def _check_limits(self, order: Document, kind: str) -> None:
        """Whoever is handed tickets may have no more of them than who books."""
        for limit in LIMITS:
            if is_over(self.event, limit, order["quantity"]):
                gives = f"{kind} gives {order['order_id']} {order['quantity']} tickets"
                self.wrong(f"{gives}, the {limit} is {self.event[limit]}")

    def _take(self, order: Document, change: Document) -> None:
        """Some tickets, or all. One that waits and has some left keeps its place."""
        order["was"] = order["status"]
        left = change.get("quantity", 0)
        order["taken"] = order["quantity"] - left
        if order["status"] == "cancelled":
            self.wrong(f"{order['order_id']} is cancelled twice")
        if order["taken"] < 1:
            self.wrong(f"{order['order_id']} does not lose any of its tickets")
        if left:
            order["quantity"] = left
            return
        order["status"] = "cancelled"
        if order["was"] == "waiting":
            self.lines[order["ticket_type"]].remove(order["order_id"])
        self._end(order)

    def _promote(self, order: Document, closed: bool) -> None:
        line = self.lines[order["ticket_type"]]
        if line[:1] != [order["order_id"]]:
            self.wrong(f"promoted {order['order_id']}, the line was {line}")
        if closed:
            self.wrong(f"promoted {order['order_id']} while nothing is sold")
        order["status"] = "confirmed"
        if order["order_id"] in line:
            line.remove(order["order_id"])

    def _rename(self, order: Document, pseudonym: str) -> None:
        if self._aliases.get(pseudonym) != order["user_id"]:
            self.wrong(f"gives {order['order_id']} of {order['user_id']} to {pseudonym}")
        if order["status"] != "cancelled":
            self._end(order)
            self.active[pseudonym].append([self.last, None, order["order_id"]])
        order["user_id"] = pseudonym

    def _end(self, order: Document) -> None:
        for span in self.active[order["user_id"]]:
            if span[2] == order["order_id"] and span[1] is None:
                span[1] = self.last


def _types(event: Document) -> list[Document]:
    """The ticket types of an event: one that is free, where it says nothing of them."""
    general = {"code": "general", "total_tickets": event["total_tickets"], "price": "0.00", "currency": None}
    return event.get("ticket_types") or [general]


def is_over(event: Document, limit: str, quantity: int) -> bool:
    """Whether so many tickets are more than the field `limit` of an event allows; None allows any number."""
    most = event.get(limit)
    return most is not None and quantity > most


def is_on_sale(event: Document, at: datetime) -> bool:
    """Whether tickets were sold then, by what the event says."""
    if event.get("cancelled_at") is not None:
        return False
    begin = event.get("sales_open_at")
    return (begin is None or begin <= at) and not sales_are_over(event, at)


def sales_are_over(event: Document, at: datetime) -> bool:
    """Whether their end had come then, by what the event says of times."""
    return any(end is not None and end <= at for end in (event.get("sales_close_at"), event.get("ends_at")))


def transfers_are_over(event: Document, at: datetime) -> bool:
    """Whether it was too late to hand tickets on."""
    end = event.get("transfer_close_at") or event.get("starts_at")
    return event.get("cancelled_at") is not None or (end is not None and end <= at)
