"""`ledger verify`: reads the ledgers again, naively, and says where the promises were broken.

It shares no code with the rules that it checks: plain dicts and loops over the documents as they are stored,
so a mistake in deciding or folding cannot hide itself. Whatever a document holds, wrong types included, is a
finding and never an exception. A broken rule is noted, and the replay goes on with the ledger's word. Where
something is missing or cannot be read, what follows cannot be judged: from there on only numbers and keys.

    the commits     contiguous from 1; `_id`, `event_id`, `first`, `last` and the versions inside agree; no fields that
                    readers do not know
    the tickets     never more booked of a type than there are; quantities within the event's limits
    the orders      waiting or confirmed, then cancelled; one active order a user; ids of this event; fewer tickets,
                    never more, and what one order loses by a transfer another gets
    the prices      those of the ticket type when the order was made, or of the order that it was transferred from
    fairness        for each type: confirmed at once only if nobody waits and it fits, waiting only if not; promoted
                    from the head of the line in order, and nobody left at its head whom the free tickets fit, but
                    by a change or a promotion of as many as a transition holds, after which the next one goes on
    the sales       nobody joins or moves up while nothing is sold, by the times of the event and the transition's
    the keys        each Idempotency-Key once
    the summaries   what a commit says of the event after it is what its transitions lead to
    the checksums   a commit is what was written, which its last field says; earlier versions wrote none
    the segments    those that count say what their commits say; see audit_segments.py
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, TypeGuard

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.collection import Collection
from pymongo.database import Database

from .audit_segments import SegmentsAudit
from .storage.ledger import ledger_collection
from .storage.segments import segment_collection

Document = dict[str, Any]

# A ledger that is wrong all over must not fill the memory, nor hide one kind of finding behind another.
FINDINGS_MAX = 1_000  # an event
FINDINGS_OF_A_KIND_MAX = 20
_QUOTED = re.compile(r"'[^']*'|\d+")  # what differs between two findings of a kind
_BATCH_SIZE = 200  # documents fetched at once
_BULK_MAX = 500  # bookings of one request
_PROMOTED_AT_ONCE = 10_000  # where more may move up, they do so in several transitions, one right after the other
_PROMOTES_MANY = ("promoted", "updated")

# Dates beyond Python's years and broken UTF-8 are to be found, and not to end the reading.
_READ_ANYTHING = CodecOptions[Document](
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)


@dataclass
class EventReport:
    """What the ledger of one event holds, and what is wrong with it. Findings name version and document."""

    event_id: str
    transitions: int = 0
    orders: int = 0
    booked: int = 0
    waiting: int = 0
    findings: list[str] = field(default_factory=list)
    findings_left_out: int = 0


def audit(
    database: Database[Document],
    event_id: str | None = None,
    watched: Callable[[Iterable[Document]], Iterable[Document]] = iter,
) -> Iterator[EventReport]:
    """A report for each event (or the one), in the order of their ids, while the service may go on.

    `watched` passes the commits on, and may tell how far the reading is. Holds one event in memory at a time. Raises
    the driver's `PyMongoError` when the storage does not answer.
    """
    # ';' follows ':', so the range holds the ids of this event and of no other.
    query = {} if event_id is None else {"_id": {"$gte": f"{event_id}:", "$lt": f"{event_id};"}}
    ledger = ledger_collection(database).with_options(codec_options=_READ_ANYTHING)
    segments = segment_collection(database).with_options(codec_options=_READ_ANYTHING)
    with_segments = {_owner(segment) for segment in segments.find(query, {"_id": True})}
    with ledger.find(query, batch_size=_BATCH_SIZE).sort("_id", 1) as documents:
        for owner, commits in groupby(watched(documents), _owner):
            segments_audit = SegmentsAudit(_segments_of(owner, segments) if owner in with_segments else ())
            report = audit_event(owner, segments_audit.watched(commits))
            report.findings += segments_audit.findings
            yield report


def audit_event(event_id: str, documents: Iterable[Document]) -> EventReport:
    """The report of one event from its documents, sorted by `_id`."""
    replay = _Replay(event_id)
    for document in documents:
        replay.commit(document)
    return replay.close()


def _segments_of(event_id: str, segments: Collection[Document]) -> Iterator[Document]:
    """Those that are what was written: others are read by nobody."""
    for segment in segments.find({"_id": {"$gte": f"{event_id}:", "$lt": f"{event_id};"}}).sort("_id", 1):
        if _agrees_with_checksum(segment):
            yield segment


def _owner(document: Document) -> str:
    """The event that an `_id` stands under, and for one of another form the `_id` itself."""
    commit_id = document.get("_id")
    return commit_id.partition(":")[0] if isinstance(commit_id, str) else repr(commit_id)


class _Order:
    """One order as the ledger left it."""

    __slots__ = ("price", "quantity", "status", "ticket_type", "user_id")

    def __init__(self, change: Document) -> None:
        self.user_id: str = change["user_id"]
        self.quantity: int = change["quantity"]
        self.status = "cancelled"
        self.ticket_type: str = change.get("ticket_type", "general")
        self.price = _price_of(change)


class _Replay:
    """The event so far, and what was found on the way."""

    def __init__(self, event_id: str) -> None:
        self.report = EventReport(event_id)
        self.version = 0  # of the last transition
        self.updated_at: Any = None  # when the last transition came that was more than remembered
        self.total: int | None = None
        self.event: Document = {}  # its fields
        self.types: dict[str, int] = {}  # ticket type -> how many there are
        self.prices: dict[str, tuple[Any, Any]] = {}  # ticket type -> price and currency, as its orders say them
        self.booked: Counter[str] = Counter()  # ticket type -> how many are booked
        self.orders: dict[str, _Order] = {}
        self.active: dict[str, str] = {}  # user id -> order id
        self.lines: dict[str, OrderedDict[str, int]] = {}  # ticket type -> order id -> quantity, first come first
        self.keys: dict[bytes, int] = {}  # Idempotency-Key -> version
        self.kinds: Counter[str] = Counter()  # of findings
        self.document: Document = {}  # being read
        self.transition: Document | None = None  # being read in it
        self.is_lost = False  # something is missing: what follows cannot be judged

    def close(self) -> EventReport:
        report = self.report
        report.orders, report.booked = len(self.orders), self.booked.total()
        report.waiting = sum(len(line) for line in self.lines.values())
        return report

    def find(self, finding: str) -> None:
        """Note a finding about the transition or document that is being read."""
        kind = _QUOTED.sub("", finding)
        self.kinds[kind] += 1
        if self.kinds[kind] <= FINDINGS_OF_A_KIND_MAX and len(self.report.findings) < FINDINGS_MAX:
            self.report.findings.append(f"{self._where()}: {finding}")
        else:
            self.report.findings_left_out += 1

    def _where(self) -> str:
        where = f"document {self.document.get('_id')!r}"
        return where if self.transition is None else f"version {self.transition.get('version')!r} in {where}"

    def lose(self, finding: str) -> None:
        """Note a finding after which nobody can say what the orders are."""
        if not self.is_lost:
            finding += "; what follows cannot be judged"
        self.is_lost = True
        self.find(finding)

    # A commit: its frame, then its transitions.

    def commit(self, document: Document) -> None:
        self.document, self.transition = document, None
        transitions = document.get("transitions")
        if not isinstance(transitions, list) or not transitions:
            self.lose("holds no transitions")
            return
        self._check_frame(document, transitions)
        for transition in transitions:
            self.transition = transition if isinstance(transition, dict) else None
            if self.transition is not None:
                self._read(self.transition)
            else:
                self.lose(f"holds {_shown(transition)} in the place of a transition")
        self.transition = None
        if not self.is_lost and "after" in document:  # earlier versions wrote none
            self._check_summary(document["after"])

    def _check_frame(self, document: Document, transitions: list[Any]) -> None:
        event_id, first, last = self.report.event_id, document.get("first"), document.get("last")
        if document.get("event_id") != event_id:
            self.find(f"names the event {_shown(document.get('event_id'))}")
        if not _is_number(first) or document.get("_id") != f"{event_id}:{first:012d}":
            self.find(f"begins with {_shown(first)}, which its _id does not say")
        if not _is_number(first) or not _is_number(last) or last != first + len(transitions) - 1:
            self.find(f"ends with {_shown(last)}, which its {len(transitions)} transitions do not")
        self._check_names(document, _COMMIT)
        nonce = document.get("nonce")
        if not isinstance(nonce, bytes) or len(nonce) != 16:
            self.find("has no nonce of 16 bytes")
        if "checksum" in document and not _agrees_with_checksum(document):
            self.find("does not agree with its checksum: it is not what was written")

    def _check_names(self, fields: Document, names: set[str]) -> None:
        others = sorted(set(fields) - names)
        if others:
            self.find(f"has what no reader looks at: {_shown(others)}")

    def _check_summary(self, after: Any) -> None:
        counted = {
            "booked": self.booked.total(),
            "available": sum(self._free(code) for code, line in self.lines.items() if not line),
            "waiting": sum(len(line) for line in self.lines.values()),
            "updated_at": self.updated_at,
        }
        if after != counted or any(isinstance(value, bool | float) for value in after.values()):
            self.find(f"says {_shown(after)} of the event after it, which is {counted}")

    # A transition: its number, what it does, and what must hold after it.

    def _read(self, transition: Document) -> None:
        self.report.transitions += 1
        self._count(transition.get("version"))
        if not isinstance(transition.get("at"), datetime):
            self.find("has no time")
        if not isinstance(transition.get("by", ""), str):
            self.find("was carried out by nobody that has a name")
        self._check_key(transition.get("request"))
        self._check_names(transition, _TRANSITION)
        if not isinstance(transition.get("event", {}), dict):
            self.find("has fields of the event that are none")
        if transition.get("sales", "closed") != "closed":
            self.find(f"says that sales are {_shown(transition['sales'])}")
        if not self.is_lost:
            self._act(transition)

    def _act(self, transition: Document) -> None:
        changes = transition.get("orders", [])
        if not isinstance(changes, list) or not all(_is_change(change) for change in changes):
            self.lose("has orders that are none")
            return
        kind = transition.get("type")
        act = _ACTS.get(kind) if isinstance(kind, str) else None
        if kind not in _NAMES_EVENT and transition.get("event") is not None:
            self.find("changes the event")
        if kind != "remembered" and transition.get("refusal") is not None:
            self.find("is a refusal, and acts")
        if kind not in ("remembered", "bulk_booked") and transition.get("refused") is not None:
            self.find("refuses bookings that are not its own")
        if act is None:
            self.lose(f"is of the unknown type {_shown(kind)}")
        elif self.total is None and kind != "initialized":
            self.lose("comes before the event is initialized")
        else:
            act(self, transition, changes)
            if kind != "remembered":
                self.updated_at = transition.get("at")
            self._check_tickets()
            if kind not in ("remembered", "pseudonymized"):  # nothing changed, nobody moves up
                self._check_sales(transition)

    def _count(self, version: Any) -> None:
        expected = self.version + 1
        if not _is_number(version):
            self.lose(f"is not numbered, expected {expected}")
            version = expected
        elif version > expected:
            self.lose(f"follows {self.version}: {_versions(expected, version - 1)} missing")
        elif version < expected:
            self.find(f"follows {self.version}: it is doubled or out of turn")
        self.version = version

    def _check_key(self, request: Any) -> None:
        if request is None:
            return
        key = request.get("key") if isinstance(request, dict) else None
        if not isinstance(key, bytes) or not isinstance(request.get("fingerprint"), bytes):
            self.find("has a request without key and fingerprint")
        elif key in self.keys:
            self.find(f"has the Idempotency-Key of version {self.keys[key]} again")
        else:
            self.keys[key] = self.version

    def _check_tickets(self) -> None:
        for code, total in self.types.items():
            if self.booked[code] > total:
                self.find(f"oversold: {self.booked[code]} of {total} tickets are booked")

    def _check_sales(self, transition: Document) -> None:
        """Whether it says truly that sales were closed, and if they were not, that the line was served."""
        closed = not self._is_on_sale(transition.get("at"))
        if transition.get("type") not in _WHENEVER and (transition.get("sales") == "closed") != closed:
            self.find(f"says that sales are {'open' if closed else 'closed'}, which they are not")
        if transition.get("type") in _PROMOTES_MANY and len(transition.get("orders", ())) >= _PROMOTED_AT_ONCE:
            return  # the next one goes on
        for code, line in self.lines.items():
            first, quantity = next(iter(line.items()), (None, 0))
            if first is not None and not closed and quantity <= self._free(code):
                left = f"{quantity} tickets, first in line, with {self._free(code)} free"
                self.find(f"leaves {first!r} waiting for {left}")

    # What each type may do.

    def _initialized(self, transition: Document, changes: list[Document]) -> None:
        if self.total is not None:
            self.find("initializes the event again")
            return
        if changes:
            self.lose("opens an event with orders in it")
        self._set_event(transition.get("event"))

    def _set_event(self, fields: Any) -> None:
        fields = fields if isinstance(fields, dict) else {}
        event = self.event | fields
        total = event.get("total_tickets")
        # Whoever says one of them says both: what stood there before counts for neither.
        types = _ticket_types(fields if fields.keys() & {"total_tickets", "ticket_types"} else event)
        if not all(is_right(event.get(name)) for name, is_right in _EVENT_FIELDS.items()):
            self.lose("opens an event without name, total_tickets and max_tickets_per_order, or damages it")
        elif not set(event) <= set(_EVENT_FIELDS):
            self.lose(f"sets what events do not have: {_shown(sorted(set(event) - set(_EVENT_FIELDS)))}")
        elif types is None:
            self.lose("has ticket types that are none, or of which one is there twice, or whose total is another")
        elif not set(self.types) <= {each["code"] for each in types}:
            self.lose("takes a ticket type away")
        else:
            self.event, self.total = event, total
            self.types = {each["code"]: each["total_tickets"] for each in types}
            self.prices = {each["code"]: (each["price"], each["currency"]) for each in types}
            for code in self.types:
                self.lines.setdefault(code, OrderedDict())

    def _updated(self, transition: Document, changes: list[Document]) -> None:
        fields = transition.get("event")
        if not isinstance(fields, dict) or not fields or "cancelled_at" in fields:
            self.find("updates nothing of the event")
        if self.event.get("cancelled_at") is not None:
            self.find("updates an event that was cancelled")
        self._set_event(fields)
        self._check_lines()
        self._promote(changes)

    def _check_lines(self) -> None:
        """Whether all who wait could still get what they wait for, one day. What is free is theirs, so it cannot go."""
        for code, line in self.lines.items():
            for order_id, quantity in line.items():
                if quantity > self.types[code]:
                    left = f"{quantity} tickets, of {self.types[code]} that there are"
                    self.find(f"leaves {order_id!r} waiting for {left}")

    def _event_cancelled(self, transition: Document, changes: list[Document]) -> None:
        fields = transition.get("event")
        if changes or fields != {"cancelled_at": transition.get("at")} or self.event.get("cancelled_at"):
            self.find("cancels the event, and does more or less than that")
        self._set_event(fields)

    def _promoted(self, transition: Document, changes: list[Document]) -> None:
        if not changes:
            self.find("promotes nobody")
        self._promote(changes)

    def _promote(self, changes: list[Document]) -> None:
        for change in changes:
            self._check_promotion(change)
            self._change(change)

    def _change(self, change: Document) -> None:
        order = self.orders.get(change["order_id"])
        if order is None:
            self.lose(f"changes the order {change['order_id']!r}, which there is not")
            return
        self._check_change(change, order)
        self._set(change["order_id"], order, change.get("status"))

    def _take_tickets(self, change: Document) -> int:
        """An order that loses some of its tickets, or all: how many. 0 where that cannot be told."""
        order_id, quantity = change["order_id"], change.get("quantity")
        order = self.orders.get(order_id)
        if order is None or "quantity" not in change:
            taken = 0 if order is None else order.quantity
            self._change(change)
            return taken
        if set(change) != {"order_id", "quantity"} or not _is_number(quantity):
            self.lose(f"changes the order {order_id!r} to {_shown(quantity)} tickets")
            return 0
        if order.status == "cancelled" or quantity >= order.quantity:
            self.find(f"changes the order {order_id!r}, {order.status}, from {order.quantity} tickets to {quantity}")
        if order.status == "confirmed":
            self.booked[order.ticket_type] += quantity - order.quantity
        elif order.status == "waiting":
            self._line(order)[order_id] = quantity  # in its place
        taken, order.quantity = order.quantity - quantity, quantity
        return taken

    def _is_on_sale(self, at: Any) -> bool:
        if not isinstance(at, datetime):
            return True  # found already
        if self.event.get("cancelled_at") is not None:
            return False
        begins, ends = self.event.get("sales_open_at"), [self.event.get(name) for name in ("sales_close_at", "ends_at")]
        return (begins is None or begins <= at) and not any(end is not None and end <= at for end in ends)

    def _transfers_are_over(self, at: Any) -> bool:
        end = self.event.get("transfer_close_at") or self.event.get("starts_at")
        is_late = isinstance(at, datetime) and end is not None and end <= at
        return is_late or self.event.get("cancelled_at") is not None

    def _booked(self, transition: Document, changes: list[Document]) -> None:
        self._book_one(changes, "confirmed")

    def _waitlisted(self, transition: Document, changes: list[Document]) -> None:
        self._book_one(changes, "waiting")

    def _book_one(self, changes: list[Document], status: str) -> None:
        if len(changes) != 1 or not _is_new_order(changes[0]) or changes[0]["status"] != status:
            self.lose(f"does not hold one new order that is {status}")
        else:
            self._book(changes[0])

    def _bulk_booked(self, transition: Document, changes: list[Document]) -> None:
        if not changes or not all(_is_new_order(change) for change in changes):
            self.lose("books many, and not all of them are new orders")
            return
        if "refused" in transition and not _are_refused(transition["refused"], len(changes)):
            self.find("refuses bookings that are none")
        for change in changes:
            self._book(change)

    def _book(self, change: Document) -> None:
        """A new order, in its turn."""
        order_id, quantity, code = change["order_id"], change["quantity"], change.get("ticket_type", "general")
        if not self._is_order_of(change):
            return
        line, free = self.lines[code], self._free(code)
        if change["status"] == "waiting" and not line and quantity <= free:
            self.find(f"lets the order {order_id!r} wait, though nobody waits and it fits")
        if change["status"] == "confirmed" and line:
            self.find(f"lets the order {order_id!r} overtake {len(line)} who wait")
        if change["status"] == "confirmed" and quantity > free:
            self.find(f"confirms the order {order_id!r} of {quantity} tickets with {free} free")
        price = _price_of(change)
        if price != self.prices[code] or "transferred_from" in change:
            found, is_said = _shown(price), _shown(self.prices[code])
            self.find(f"makes the order {order_id!r} at {found}, where the price is {is_said}")
        if quantity > self.types[code]:
            self.find(f"makes the order {order_id!r} of {quantity} tickets, more than there are of its type")
        self._add(change)

    def _cancelled(self, transition: Document, changes: list[Document]) -> None:
        if not changes or not (changes[0].get("status") == "cancelled" or "quantity" in changes[0]):
            self.lose("cancels no order")
            return
        self._take_tickets(changes[0])
        self._promote(changes[1:])

    def _transferred(self, transition: Document, changes: list[Document]) -> None:
        """What one order loses a new one has, at the same price."""
        if len(changes) != 2 or not _is_new_order(changes[1]):
            self.lose("transfers no tickets to one new order")
            return
        given, received = changes
        sender = self.orders.get(given["order_id"])
        if self._transfers_are_over(transition.get("at")):
            self.find("transfers tickets when it is too late for that")
        if sender is None or sender.status != "confirmed":
            self.find(f"transfers from the order {given['order_id']!r}, which is not confirmed")
        if received.get("transferred_from") != given["order_id"] or received["status"] != "confirmed":
            self.find(f"makes the order {received['order_id']!r} of tickets that it did not get")
        taken = self._take_tickets(given)
        if taken != received["quantity"]:
            self.find(f"takes {taken} tickets and gives {received['quantity']}")
        if not self._is_order_of(received):
            return
        self._add(received)
        order = self.orders[received["order_id"]]
        if sender is not None and (order.ticket_type, order.price) != (sender.ticket_type, sender.price):
            self.find(f"changes type or price of the tickets that the order {received['order_id']!r} has")

    def _remembered(self, transition: Document, changes: list[Document]) -> None:
        """It names a cancelled order, or the event as it is, or holds refusals, and changes nothing."""
        if transition.get("request") is None:
            self.find("remembers an answer without a key")
        refusal, refused, event = (transition.get(name) for name in ("refusal", "refused", "event"))
        if refusal is not None and not _is_refusal(refusal):
            self.find("remembers a refusal that is none")
        if refused is not None and not _are_refused(refused, 0):
            self.find("remembers refused bookings that are none")
        if event is not None and event != {}:
            self.find("remembers, and changes the event")
        if sum(each is not None for each in (refusal, refused, event, *changes)) != 1:
            self.find("remembers neither one refusal nor one order")
        for change in changes:
            order = self.orders.get(change["order_id"])
            if order is None or order.status != "cancelled":
                self.find(f"remembers the order {change['order_id']!r}, which was not cancelled")
            if set(change) != {"order_id"}:
                self.find(f"remembers, and changes the order {change['order_id']!r}")

    def _pseudonymized(self, transition: Document, changes: list[Document]) -> None:
        """All orders of one user get another name, whole or not, and nothing else is changed."""
        event = transition.get("event")
        if event is not None and not (isinstance(event, dict) and set(event) == {"organizer"}):
            self.find("changes more of the event than its organizer")
        if not changes and event is None:
            self.find("gives nothing to a pseudonym")
        names, given = set(), [event.get("organizer")] if isinstance(event, dict) else []
        for change in changes:
            order, name = self.orders.get(change["order_id"]), change.get("user_id")
            if order is None or not isinstance(name, str):
                self.lose(f"gives the order {change['order_id']!r} to {_shown(name)}")
                return
            if set(change) != {"order_id", "user_id"}:
                self.find(f"changes more of the order {change['order_id']!r} than its user")
            names.add(order.user_id)
            given.append(name)
            was_active = self.active.get(order.user_id) == change["order_id"]
            if was_active:
                del self.active[order.user_id]
                if name in self.active:
                    self.find(f"gives {name!r} a second active order, {change['order_id']!r}")
                self.active[name] = change["order_id"]
            order.user_id = name
        # The name, where it has not been replaced yet: by a pseudonym, and by others where it came back with a repair.
        users = {name for name in names if not _is_pseudonym(name)}
        if len(users) > 1:
            self.find(f"gives orders of {len(users)} users away")
        if not all(_is_pseudonym(name) and name == given[0] for name in given):
            self.find(f"gives to more than one pseudonym, or to none: {_shown(given)}")

    # Orders.

    def _is_order_of(self, change: Document) -> bool:
        """Whether a new order is of a type of this event. What else is not allowed about it is noted."""
        order_id, user_id, quantity = (change[name] for name in ("order_id", "user_id", "quantity"))
        code = change.get("ticket_type", "general")
        if code not in self.types:
            self.lose(f"makes the order {order_id!r} of the unknown ticket type {_shown(code)}")
            return False
        if order_id in self.orders:
            self.find(f"makes the order {order_id!r} again")
        if not order_id.startswith(f"{self.report.event_id}."):
            self.find(f"makes the order {order_id!r}, whose id is none of this event")
        if user_id in self.active:
            self.find(f"gives {user_id!r} a second active order, {order_id!r} after {self.active[user_id]!r}")
        user_max = self.event.get("max_tickets_per_user")
        quantity_max = self.event.get("max_tickets_per_order") or 0
        if quantity > quantity_max or (user_max is not None and quantity > user_max):
            self.find(f"makes the order {order_id!r} of {quantity} tickets, more than allowed")
        return True

    def _check_change(self, change: Document, order: _Order) -> None:
        """An order goes from one status to the next, and nothing else of it changes."""
        order_id, status = change["order_id"], change.get("status")
        if set(change) != {"order_id", "status"}:
            self.find(f"changes more of the order {order_id!r} than its status")
        if status not in _NEXT[order.status]:
            self.find(f"makes the order {order_id!r}, which is {order.status}, {_shown(status)}")

    def _check_promotion(self, change: Document) -> None:
        order_id = change["order_id"]
        if change.get("status") != "confirmed":
            self.find(f"promotes the order {order_id!r} to {_shown(change.get('status'))}")
        order = self.orders.get(order_id)
        line = {} if order is None else self._line(order)
        if order is None or order_id not in line:
            return
        first, free = next(iter(line)), self._free(order.ticket_type)
        if first != order_id:
            self.find(f"promotes the order {order_id!r} before {first!r}, which is first in line")
        if order.quantity > free:
            self.find(f"promotes the order {order_id!r}, which does not fit")

    def _add(self, change: Document) -> None:
        """A new order, at the end of the line if it waits. One that is made again replaces itself."""
        again = self.orders.get(change["order_id"])
        if again is not None:
            self._leave(change["order_id"], again)
        order = self.orders[change["order_id"]] = _Order(change)
        self._set(change["order_id"], order, change["status"])

    def _set(self, order_id: str, order: _Order, status: Any) -> None:
        """Let the order be what the ledger says, allowed or not."""
        if status not in tuple(_NEXT):
            return
        self._leave(order_id, order)
        order.status = status
        if status == "confirmed":
            self.booked[order.ticket_type] += order.quantity
        elif status == "waiting":
            self._line(order)[order_id] = order.quantity
        if status != "cancelled":
            self.active[order.user_id] = order_id

    def _leave(self, order_id: str, order: _Order) -> None:
        """Take back what the order had: its tickets, its place in line, its being the active one."""
        if order.status == "confirmed":
            self.booked[order.ticket_type] -= order.quantity
        self._line(order).pop(order_id, None)
        if self.active.get(order.user_id) == order_id:
            del self.active[order.user_id]

    def _line(self, order: _Order) -> OrderedDict[str, int]:
        return self.lines[order.ticket_type]

    def _free(self, code: str) -> int:
        return self.types[code] - self.booked[code]


_ACTS = {
    "initialized": _Replay._initialized,
    "booked": _Replay._booked,
    "waitlisted": _Replay._waitlisted,
    "bulk_booked": _Replay._bulk_booked,
    "cancelled": _Replay._cancelled,
    "transferred": _Replay._transferred,
    "promoted": _Replay._promoted,
    "updated": _Replay._updated,
    "event_cancelled": _Replay._event_cancelled,
    "remembered": _Replay._remembered,
    "pseudonymized": _Replay._pseudonymized,
}

_NAMES_EVENT = ("initialized", "updated", "event_cancelled", "remembered", "pseudonymized")
_WHENEVER = ("initialized", "transferred")  # whether anything is sold does not matter to it

# What a commit and a transition have, or may have.
_COMMIT = {"_id", "event_id", "first", "last", "nonce", "transitions", "after", "checksum"}
_TRANSITION = {"version", "type", "at", "by", "event", "sales", "orders", "request", "refusal", "refused"}

# The refusals that may be remembered, and what they tell.
REFUSALS: dict[str, set[str]] = {
    "event_not_found": {"event_id"},
    "event_exists": {"event_id"},
    "order_not_found": set(),
    "already_booked": {"order_id"},
    "exceeds_max_tickets_per_order": {"maximum"},
    "exceeds_max_tickets_per_user": {"maximum"},
    "exceeds_total_tickets": {"maximum"},
    "sales_closed": set(),
    "event_cancelled": set(),
    "precondition_failed": {"version"},
    "invalid_schedule": {"field", "reason"},
    "unknown_ticket_type": {"ticket_type"},
    "ticket_type_required": set(),
    "invalid_ticket_types": {"field", "reason"},
    "exceeds_order_quantity": {"maximum"},
    "order_not_confirmed": {"order_status"},
    "transfer_closed": set(),
    "not_enough_tickets": {"available_tickets"},
    "bulk_refused": {"count", "refused"},
    "below_booked_tickets": {"minimum", "ticket_type"},
    "idempotency_key_reused": set(),
}

_NEW_ORDER = {"order_id", "user_id", "quantity", "status"}
_PRICED = {"ticket_type", "unit_price", "currency"}
_FREE = "0.00"
_PRICE = re.compile(r"[0-9]+(\.[0-9]+)?")

# What an order may become. Tuples, for whatever a damaged document holds can be looked up in them.
_NEXT = {"waiting": ("confirmed", "cancelled"), "confirmed": ("cancelled",), "cancelled": ()}


def _is_number(value: Any) -> TypeGuard[int]:
    """A count from 1 on. A bool is none, though Python takes it for an int."""
    return _is_number_or_0(value) and value >= 1


def _is_number_or_0(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _agrees_with_checksum(document: Document) -> bool:
    """Whether its last field is the CRC-32 of the BSON of all fields before it, without length and final zero."""
    *names, last_name = document
    written = bson.encode({name: document[name] for name in names})[4:-1]
    return last_name == "checksum" and bool(document["checksum"] == zlib.crc32(written).to_bytes(4))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pseudonym(value: Any) -> bool:
    return _is_text(value) and value.startswith("erased:")


def _or_none(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_right(value)


def _is_time(value: Any) -> bool:
    return isinstance(value, datetime)


# What an event has, and how its values look.
_EVENT_FIELDS: dict[str, Callable[[Any], bool]] = {
    "name": _is_text,
    "total_tickets": _is_number,
    "ticket_types": _or_none(lambda value: isinstance(value, list)),  # further down
    "max_tickets_per_order": _is_number,
    "max_tickets_per_user": _or_none(_is_number),
    "venue": _or_none(_is_text),
    "description": _or_none(_is_text),
    "timezone": _or_none(_is_text),
    "starts_at": _or_none(_is_time),
    "ends_at": _or_none(_is_time),
    "sales_open_at": _or_none(_is_time),
    "sales_close_at": _or_none(_is_time),
    "transfer_close_at": _or_none(_is_time),
    "cancelled_at": _or_none(_is_time),
}


def _is_change(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("order_id"), str)


def _price_of(change: Document) -> tuple[Any, Any]:
    """What one ticket of a new order costs. Where the order says nothing of it, it is free."""
    return change.get("unit_price", _FREE), change.get("currency")


def _is_new_order(change: Document) -> bool:
    return (
        isinstance(change.get("user_id"), str)
        and _is_number(change.get("quantity"))
        and change.get("status") in ("confirmed", "waiting")
        and _is_text(change.get("ticket_type", ""))
        and _NEW_ORDER <= set(change) <= _NEW_ORDER | _PRICED | {"transferred_from"}
    )


def _ticket_types(event: Document) -> list[Document] | None:
    """The types of an event, where it names none the one that it has then; None if they are none."""
    total = event.get("total_tickets")
    types = event.get("ticket_types")
    if total is None:
        return None
    if types is None:
        return [{"code": "general", "total_tickets": total, "price": _FREE, "currency": None}]
    if not isinstance(types, list) or not all(_is_ticket_type(each) for each in types):
        return None
    codes = {each["code"] for each in types}
    return types if len(codes) == len(types) and sum(each["total_tickets"] for each in types) == total else None


def _is_ticket_type(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"code", "name", "total_tickets", "price", "currency"}
        and _is_text(value["code"])
        and _is_text(value["name"])
        and _is_number(value["total_tickets"])
        and _is_text(value["price"])
        and _PRICE.fullmatch(value["price"]) is not None
        and (value["currency"] is None or _is_text(value["currency"]))
    )


def _are_refused(value: Any, booked: int) -> bool:
    """Whether these are refused bookings among so many that were not: each in its place, and none twice."""
    if not isinstance(value, list) or not value or not all(_is_refusal(each) for each in value):
        return False
    places = [each.get("index") for each in value]
    count = booked + len(places)
    return all(map(_is_number_or_0, places)) and len(set(places)) == len(places) and max(places) < count


def _is_refusal(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("details"), dict):
        return False
    code, details = value.get("code"), value["details"]
    if not isinstance(code, str) or code not in REFUSALS or set(details) != REFUSALS[code]:
        return False
    if not all(_DETAILS.get(name, _is_text)(detail) for name, detail in details.items()):
        return False
    refused = details.get("refused", [])
    return code != "bulk_refused" or _are_refused(refused, details["count"] - len(refused))


# How a refusal's details look, but for texts.
_DETAILS: dict[str, Callable[[Any], bool]] = {
    "order_id": _or_none(_is_text),
    "maximum": _is_number,
    "minimum": _is_number,
    "count": lambda value: _is_number(value) and value <= _BULK_MAX,
    "version": _is_number,
    "available_tickets": _is_number_or_0,
    "refused": lambda value: isinstance(value, list),  # further up
}


def _versions(first: int, last: int) -> str:
    return f"version {first} is" if first == last else f"versions {first} to {last} are"


def _shown(value: Any) -> str:
    """A value of any kind, short enough for a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
