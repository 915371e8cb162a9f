"""The real code with one protection taken out each. A simulator that does not notice proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError

from ticketing.clock import tries
from ticketing.domain.model import EventState, Transition
from ticketing.errors import StorageUnavailable
from ticketing.manager import TicketManager
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import Ledger

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


class KeepingUnsettledState(TicketManager):
    """After a write whose end is unknown, goes on from the state that it would have led to."""

    def _append(self, queue: Any, batch: Any, deadline: float) -> bool:
        try:
            return super()._append(queue, batch, deadline)
        except StorageUnavailable:
            self._keep(queue, batch.state)
            queue.is_settled = True
            raise


CONTROLS = {
    "without the compare-and-set": Parts(ledger=WithoutCompareAndSet),
    "with read concern local": Parts(collection=ReadingLocally),
    "an ambiguous write taken for a failed one": Parts(ledger=AmbiguousMeansFailed),
    "without the nonce": Parts(ledger=WithoutNonce),
    "keeping state after an unsettled write": Parts(manager=KeepingUnsettledState),
}
