"""The real code with one protection taken out each. A simulator that does not notice proves nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError

from ticketing.clock import tries
from ticketing.domain import decide
from ticketing.domain.commands import Transfer
from ticketing.domain.fold import fold
from ticketing.domain.model import EventState, OrderChange, OrderStatus, Transition
from ticketing.errors import StorageUnavailable
from ticketing.manager import TicketManager
from ticketing.storage.documents import commit_document
from ticketing.storage.inserts import SharedInserts
from ticketing.storage.ledger import Ledger
from ticketing.storage.pages import FirstPages

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
                    self._collection.insert_one(document)
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
                self._collection.insert_one(document)
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


class KeepingUnsettledState(TicketManager):
    """After a write whose end is unknown, goes on from the state that it would have led to."""

    def _append(self, queue: Any, batch: Any, deadline: float) -> bool:
        try:
            return super()._append(queue, batch, deadline)
        except StorageUnavailable:
            self._keep(queue, batch.state)
            queue.is_settled = True
            raise


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
    """A part of an order goes, and the sender keeps one ticket of it."""
    transition = decide._transfer(state, command, at)
    given, received = transition.orders
    if "quantity" not in given or command.quantity == 1:
        return transition
    return transition._replace(orders=({**given, "quantity": given["quantity"] + 1}, received))


CONTROLS = {
    "without the compare-and-set": Parts(ledger=WithoutCompareAndSet),
    "with read concern local": Parts(collection=ReadingLocally),
    "an ambiguous write taken for a failed one": Parts(ledger=AmbiguousMeansFailed),
    "without the nonce": Parts(ledger=WithoutNonce),
    "taking a full page for no news": Parts(ledger=TakingAFullPageForNoNews),
    "not telling whose place was taken": Parts(ledger=NotTellingWhosePlaceWasTaken),
    "keeping state after an unsettled write": Parts(manager=KeepingUnsettledState),
    "one waiting list for all ticket types": Parts(rules={"_promotions": promotions_in_one_line}),
    "moving up while nothing is sold": Parts(rules={"_serving_the_line": serving_whether_sold_or_not}),
    "a transfer that takes too few": Parts(rules={"_RULES": {**decide._RULES, Transfer: transfer_that_takes_too_few}}),
}
