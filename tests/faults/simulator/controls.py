"""The real code with one protection taken out each. A simulator that does not notice proves nothing.

Each control names the violation by which it must be noticed: a control that merely breaks down would show nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NoReturn

from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from ticketing.clock import tries
from ticketing.domain import decide
from ticketing.domain.commands import Book, BookMany, Cancel, Command, Transfer, Update
from ticketing.domain.decide import _check_limits, _check_sales, _taken_from
from ticketing.domain.fold import fold
from ticketing.domain.model import (
    Answer,
    Event,
    EventState,
    Order,
    OrderChange,
    OrderStatus,
    Transition,
    TransitionType,
)
from ticketing.domain.ranked import RankedSet
from ticketing.errors import (
    AlreadyBooked,
    BelowBookedTickets,
    BulkRefused,
    ExceedsMaxTicketsPerOrder,
    ExceedsMaxTicketsPerUser,
    ExceedsOrderQuantity,
    ExceedsTotalTickets,
    InvalidSchedule,
    LedgerDamaged,
    OrderNotConfirmed,
    OrderNotFound,
    SalesClosed,
    SalesNotOpen,
    StorageUnavailable,
    TransferClosed,
)
from ticketing.manager import TicketManager
from ticketing.storage import recent
from ticketing.storage.checksums import sealed
from ticketing.storage.documents import commit_document
from ticketing.storage.inserts import SharedInserts
from ticketing.storage.ledger import Ledger
from ticketing.storage.pages import FirstPages
from ticketing.storage.recent import RecentCommits
from ticketing.storage.segments import Segments

from .collection import ReplicaSet, SimulatedCollection
from .world import NothingWasDone, Parts


class WithoutCompareAndSet(Ledger):
    """Each commit gets an id that nobody else has: whoever decided on stale knowledge writes all the same."""

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        document = commit_document(state.event_id, transitions, self._new_nonce())
        document["_id"] += "-" + document["nonce"].hex()
        for _ in tries(self._clock, deadline):
            try:
                with self._attempt(deadline):
                    self._collection.insert_one(sealed(document))
                return True
            except DuplicateKeyError:
                return True
            except PyMongoError:
                continue
        raise StorageUnavailable


class ReadingLocally(SimulatedCollection):
    """Read concern local: shows what a failover may take back."""

    read_documents = staticmethod(ReplicaSet.all_documents)


class AmbiguousMeansFailed(Ledger):
    """An error of a write is taken for "it did not happen": the client is told that nothing was done."""

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        document = commit_document(state.event_id, transitions, self._new_nonce())
        try:
            with self._attempt(deadline):
                self._collection.insert_one(sealed(document))
            return True
        except DuplicateKeyError:
            return False
        except PyMongoError as error:
            raise NothingWasDone from error


class WithoutNonce(Ledger):
    """After an ambiguous write, a duplicate key is taken for one's own document."""

    def _nonce_at(self, commit_id: str, deadline: float) -> bytes | None:
        return self._nonce

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        self._nonce = self._new_nonce()
        original, self._new_nonce = self._new_nonce, lambda: self._nonce
        try:
            return super().append(state, transitions, deadline)
        finally:
            self._new_nonce = original


class TakingAFullPageForNoNews(Ledger):
    """Readers of several events whose news do not fit into one page are told that there are none."""

    def __init__(self, collection: Any, clock: Any, *others: Any) -> None:
        super().__init__(collection, clock, *others)
        self._first_pages = _FirstPagesOrNothing(collection, clock)


class _FirstPagesOrNothing(FirstPages):
    def _read(self, batch: Any) -> None:
        super()._read(batch)
        for each in batch:
            each.given = each.given or []


class NotTellingWhosePlaceWasTaken(Ledger):
    """Whoever inserts together with others hears nothing of a place that was taken."""

    def __init__(self, collection: Any, clock: Any, *others: Any) -> None:
        super().__init__(collection, clock, *others)
        self._inserts = _SilentInserts(collection, clock)


class _SilentInserts(SharedInserts):
    def _insert(self, batch: Any) -> None:
        super()._insert(batch)
        if len(batch) > 1:
            for each in batch:
                each.error = None


class LeavingCopiesTooEarly(Ledger):
    """A copy is left before a majority has the commit: of one that may never be in, too."""

    def _insert(self, commit: RawBSONDocument, deadline: float) -> bool:
        self._recent_commits.leave(commit["event_id"], commit["first"], commit["last"], bytes(commit.raw))
        return super()._insert(commit, deadline)


class SegmentsOfWhatNoMajorityHas(Segments):
    """They are made of commits that a failover may take back, and nobody looks whether these are there still."""

    def __init__(self, collection: Any, ledger: Any, clock: Any) -> None:
        local: Any = ReadingLocally(ledger._set, ledger._scheduler)
        super().__init__(collection, local, clock)

    def _counts(self, *_: Any) -> bool:
        return True


class BelievingTornCopies(RecentCommits):
    """A copy is taken as it stands, whatever its digest."""

    def _read(self, memory: Any, place: int) -> recent._Copy | None:
        start = self._start_of(place)
        head = memory[start : start + recent._COPY.size]
        if len(head) < recent._COPY.size:
            return None
        name, place, previous, first, last, size = recent._COPY.unpack(head)
        start += recent._COPY.size + recent._DIGEST_BYTES
        return recent._Copy(name, place, previous, first, last, bytes(memory[start : start + size]))


class TakingCopiesForAllThatIsNew(TicketManager):
    """Whoever looks is shown what the workers of this host have left, as if no other host wrote."""

    def _catch_up(self, queue: Any, deadline: float, at_least: int = 0) -> bool:
        if not queue.is_settled or at_least:
            return super()._catch_up(queue, deadline, at_least)
        before = queue.state.version
        self._follow(queue, before)
        return bool(queue.state.version != before)


class KeepingUnsettledState(TicketManager):
    """After a write whose end is unknown, goes on from the state that it would have led to."""

    def _append(self, queue: Any, batch: Any, deadline: float) -> bool:
        try:
            return super()._append(queue, batch, deadline)
        except StorageUnavailable:
            self._keep(queue, batch.state)
            queue.is_settled = True
            raise


class HangingNowAndThen(TicketManager):
    """Each fifth answer comes after 200 s, when nobody waits for it any more."""

    _requests = 0

    def _submit(self, request: Any) -> Any:
        answered = super()._submit(request)
        self._requests += 1
        if self._requests % 5 == 0:
            self._clock.sleep(200.0)
        return answered


class CallingASoundLedgerDamaged(TicketManager):
    """Each fifth command meets a ledger that contradicts itself, where there is none."""

    _commands = 0

    def execute(self, command: Command, *, within_s: float | None = None) -> Answer:
        self._commands += 1
        if self._commands % 5 == 0:
            raise LedgerDamaged(command.event_id, "nothing")
        return super().execute(command, within_s=within_s)


class NotTellingWhoMovedUp(TicketManager):
    """Whoever cancels hears nothing of those who got the tickets."""

    def execute(self, command: Command, *, within_s: float | None = None) -> Answer:
        answer = super().execute(command, within_s=within_s)
        return answer._replace(promoted=()) if isinstance(command, Cancel) else answer


# Rules of the domain, one of them wrong each.


def promotions_in_one_line(state: EventState) -> Iterator[OrderChange]:
    """Who waits for one ticket type holds up those who wait for another."""
    free = {stock.ticket_type.code: stock.free_tickets for stock in state.stocks}
    for order in state.waiting_orders():
        if order.quantity > free[order.ticket_type]:
            return
        free[order.ticket_type] -= order.quantity
        yield {"order_id": order.order_id, "status": OrderStatus.CONFIRMED}


def serving_whether_sold_or_not(state: EventState, transition: Transition) -> Transition:
    """Who waits moves up while sales are closed."""
    after = fold(state, (transition._replace(request=None),))
    promoted = tuple(decide._promotions(after))
    assert after.event is not None
    closed = not after.event.is_on_sale(transition.at)
    return transition._replace(orders=transition.orders + promoted, sales_closed=closed)


def transfer_that_takes_too_few(state: EventState, command: Transfer, at: datetime) -> Transition:
    """A part of an order goes, and the sender keeps one ticket of it. The fold says no where that would oversell."""
    transition = decide._transfer(state, command, at)
    given, received = transition.orders
    if "quantity" not in given or command.quantity == 1:
        return transition
    return transition._replace(orders=({**given, "quantity": given["quantity"] + 1}, received))


def transfer_that_loses_a_ticket(state: EventState, command: Transfer, at: datetime) -> Transition:
    """Who is handed several tickets gets one less than was given."""
    transition = decide._transfer(state, command, at)
    given, received = transition.orders
    if received["quantity"] == 1:
        return transition
    return transition._replace(orders=(given, {**received, "quantity": received["quantity"] - 1}))


def transfer_at_another_price(state: EventState, command: Transfer, at: datetime) -> Transition:
    """Whoever is handed a ticket has it at the price of today."""
    transition = decide._transfer(state, command, at)
    given, received = transition.orders
    today = state.stock(received.get("ticket_type", "general")).ticket_type.price
    return transition._replace(orders=(given, {**received, "unit_price": today}))


WITHOUT_LIMITS = {"max_tickets_per_order": 1_000, "max_tickets_per_user": None}


def _as_if(state: EventState, **fields: Any) -> EventState:
    """The event as it would be if its organizer had said that of it."""
    assert state.event is not None
    return state._replace(event=replace(state.event, **fields))


def floor_without_held(state: EventState, command: Update, at: datetime) -> Transition:
    """Tickets that are held for those in line may be taken away."""
    try:
        return decide._update(state, command, at)
    except BelowBookedTickets:
        nobody_waits = dict.fromkeys(state.lines, RankedSet())
        return decide._update(state._replace(lines=nobody_waits), command, at)


def limits_without(name: str) -> Callable[[EventState, str, int], None]:
    """One of the limits of new orders is not looked at."""

    def checked(state: EventState, user_id: str, quantity: int) -> None:
        _check_limits(_as_if(state, **{name: WITHOUT_LIMITS[name]}), user_id, quantity)

    return checked


def transfer_without_limits(state: EventState, command: Transfer, at: datetime) -> Transition:
    """Who is handed tickets may have more of them than who books."""
    try:
        return decide._transfer(state, command, at)
    except (ExceedsMaxTicketsPerOrder, ExceedsMaxTicketsPerUser):
        return decide._transfer(_as_if(state, **WITHOUT_LIMITS), command, at)


def transfer_at_any_time(state: EventState, command: Transfer, at: datetime) -> Transition:
    """Tickets change hands after the event has begun."""
    try:
        return decide._transfer(state, command, at)
    except TransferClosed:
        return decide._transfer(_as_if(state, transfer_close_at=None, starts_at=None), command, at)


def waiting_for_more_than_there_are(state: EventState, command: Book, at: datetime) -> Transition:
    """Whoever wants more than there are joins the line, and holds it up for ever."""
    try:
        return decide._book(state, command, at)
    except ExceedsTotalTickets:
        transition = decide._book(state, replace(command, quantity=1), at)
        (order,) = transition.orders
        waiting: OrderChange = {**order, "quantity": command.quantity, "status": OrderStatus.WAITING}
        return transition._replace(type=TransitionType.WAITLISTED, orders=(waiting,))


# Refusals that are not true.


def order_said_to_wait(state: EventState, command: Transfer, at: datetime) -> Transition:
    """No order that is confirmed can be handed on."""
    decide._transfer(state, command, at)
    raise OrderNotConfirmed("waiting")


def order_said_to_have_fewer_tickets(order: Order, quantity: int | None) -> OrderChange:
    """Whoever names all his tickets is told that he has one less."""
    if quantity == order.quantity:
        raise ExceedsOrderQuantity(quantity - 1)
    return _taken_from(order, quantity)


def schedule_said_to_contradict_itself(event: Event) -> None:
    """Sales must not have an end."""
    if event.sales_close_at is not None:
        raise InvalidSchedule("sales_close_at", "sales_close_at must be after sales_open_at.")


def sales_said_to_be_over(event: Event, at: datetime) -> None:
    """Sales that have not begun are over."""
    try:
        _check_sales(event, at)
    except SalesNotOpen as refusal:
        raise SalesClosed from refusal


def sales_said_to_open_later(event: Event, at: datetime) -> None:
    """Whoever comes too early shall come back in an hour."""
    try:
        _check_sales(event, at)
    except SalesNotOpen as refusal:
        raise SalesNotOpen(refusal.details["sales_open_at"], 3600) from refusal


def order_said_to_be_there(state: EventState, user_id: str, quantity: int) -> None:
    """Whoever wants three tickets has an order already, nobody knows which."""
    _check_limits(state, user_id, quantity)
    if quantity == 3:
        raise AlreadyBooked(None)


def total_said_to_be_less(state: EventState, command: Book, at: datetime) -> Transition:
    """Whoever wants more than there are is told a wrong number."""
    try:
        return decide._book(state, command, at)
    except ExceedsTotalTickets as refusal:
        raise ExceedsTotalTickets(refusal.details["maximum"] - 1) from refusal


def booking_that_finds_no_order(state: EventState, command: Book, at: datetime) -> NoReturn:
    """A booking is refused with what is true, and said of something else."""
    decide._book(state, command, at)
    raise OrderNotFound


def bulk_refused_without_reasons(state: EventState, command: BookMany, at: datetime) -> Transition:
    """All or none: which of them cannot be confirmed is not told."""
    try:
        return decide._book_many(state, command, at)
    except BulkRefused as refusal:
        raise BulkRefused(refusal.details["count"], []) from refusal


def bulk_with_another_refusal(state: EventState, command: BookMany, at: datetime) -> Transition:
    """Whoever cannot have an order of many is told that he has one."""
    transition = decide._book_many(state, command, at)
    return transition._replace(refused=tuple((place, AlreadyBooked(None)) for place, _ in transition.refused))


@dataclass(frozen=True)
class Control:
    """Parts of which one lacks its protection, and the violation by which that must be noticed, or a part of it."""

    noticed_by: str
    parts: Parts

    def notices(self, found: Sequence[str]) -> str | None:
        """The violation that it is about, among those found. An error that nobody foresaw is none, whatever it says."""
        is_error = self.noticed_by.startswith("error:")
        mine = (each for each in found if self.noticed_by in each)
        return next((each for each in mine if is_error or "error:" not in each), None)


def _with_rule(command: type[Command], rule: Any) -> Parts:
    return Parts(rules={"_RULES": {**decide._RULES, command: rule}})


CONTROLS = {
    "without the compare-and-set": Control("stands at place", Parts(ledger=WithoutCompareAndSet)),
    "with read concern local": Control("stands at place", Parts(collection=ReadingLocally)),
    "an ambiguous write taken for a failed one": Control(
        "told that nothing was done", Parts(ledger=AmbiguousMeansFailed)
    ),
    "without the nonce": Control("is not what happened", Parts(ledger=WithoutNonce)),
    "taking a full page for no news": Control("refused:event_not_found", Parts(ledger=TakingAFullPageForNoNews)),
    "not telling whose place was taken": Control("is not what happened", Parts(ledger=NotTellingWhosePlaceWasTaken)),
    "leaving copies before a majority has the commit": Control("stands at place", Parts(ledger=LeavingCopiesTooEarly)),
    "segments of what no majority has": Control("stands at place", Parts(segments=SegmentsOfWhatNoMajorityHas)),
    "believing torn copies": Control("refused:idempotency_key_reused", Parts(copies=BelievingTornCopies)),
    "taking copies for all that is new": Control("had been answered", Parts(manager=TakingCopiesForAllThatIsNew)),
    "keeping state after an unsettled write": Control(
        "clients were told of version", Parts(manager=KeepingUnsettledState)
    ),
    "hanging now and then": Control("no answer within", Parts(manager=HangingNowAndThen)),
    "calling a sound ledger damaged": Control("error:ledger_damaged", Parts(manager=CallingASoundLedgerDamaged)),
    "not telling who moved up": Control("told of [], promoted were", Parts(manager=NotTellingWhoMovedUp)),
    "one waiting list for all ticket types": Control(
        "is first in line and fits", Parts(rules={"_promotions": promotions_in_one_line})
    ),
    "moving up while nothing is sold": Control(
        "while nothing is sold", Parts(rules={"_serving_the_line": serving_whether_sold_or_not})
    ),
    "a transfer that takes too few": Control(
        "error:LedgerContradiction", _with_rule(Transfer, transfer_that_takes_too_few)
    ),
    "a transfer that loses a ticket": Control("has given", _with_rule(Transfer, transfer_that_loses_a_ticket)),
    "a transfer at another price": Control("the unit_price of", _with_rule(Transfer, transfer_at_another_price)),
    "floor without held": Control("were booked or held", _with_rule(Update, floor_without_held)),
    "waiting for more than there are": Control("waits for more", _with_rule(Book, waiting_for_more_than_there_are)),
    "max_tickets_per_order unchecked": Control(
        "the max_tickets_per_order is", Parts(rules={"_check_limits": limits_without("max_tickets_per_order")})
    ),
    "max_tickets_per_user unchecked": Control(
        "the max_tickets_per_user is", Parts(rules={"_check_limits": limits_without("max_tickets_per_user")})
    ),
    "a transfer without the recipient's limits": Control(
        "transferred gives", _with_rule(Transfer, transfer_without_limits)
    ),
    "transfers never close": Control("transfers tickets too late", _with_rule(Transfer, transfer_at_any_time)),
    "an order said to wait": Control("refused:order_not_confirmed", _with_rule(Transfer, order_said_to_wait)),
    "an order said to have fewer tickets": Control(
        "refused:exceeds_order_quantity", Parts(rules={"_taken_from": order_said_to_have_fewer_tickets})
    ),
    "a schedule said to contradict itself": Control(
        "refused:invalid_schedule", Parts(rules={"_check_schedule": schedule_said_to_contradict_itself})
    ),
    "sales said to be over before they begin": Control(
        "refused:sales_closed", Parts(rules={"_check_sales": sales_said_to_be_over})
    ),
    "sales said to open later": Control(
        "refused:sales_not_open", Parts(rules={"_check_sales": sales_said_to_open_later})
    ),
    "an order said to be there": Control(
        "refused:already_booked", Parts(rules={"_check_limits": order_said_to_be_there})
    ),
    "a total said to be less": Control("refused:exceeds_total_tickets", _with_rule(Book, total_said_to_be_less)),
    "a booking that finds no order": Control(
        "refused:order_not_found", _with_rule(Book, booking_that_finds_no_order)
    ),
    "many refused without reasons": Control(
        "refused:bulk_refused", _with_rule(BookMany, bulk_refused_without_reasons)
    ),
    "many with another refusal": Control(
        "refusals that were not true", _with_rule(BookMany, bulk_with_another_refusal)
    ),
}
