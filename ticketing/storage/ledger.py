"""The ledger in MongoDB: append a commit as a compare-and-set, read what came after a version.

The `_id` of a commit names its event and its first version, so inserting it is the compare-and-set: whoever
decided on stale knowledge meets a duplicate key, and nothing was written. Writes wait for a majority and its
journals, reads see only what a majority has, from the primary: what this module says has happened stays so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from ..clock import Clock, tries
from ..domain.fold import LedgerContradiction
from ..domain.model import EventState, Transition
from ..domain.rows import Row
from ..domain.summary import summary_of
from ..errors import StorageUnavailable
from .documents import commit_document
from .inserts import SharedInserts
from .pages import FirstPages, Pages, Range
from .retries import attempt, log_retry, retried
from .rows import rows_of

if TYPE_CHECKING:
    from pymongo.database import Database

T = TypeVar("T")
COLLECTION = "ledger"


def ledger_collection(database: Database[dict[str, Any]]) -> Collection[dict[str, Any]]:
    """The ledger with the concerns that its promises need, whatever the URI says."""
    return database.get_collection(
        COLLECTION,
        codec_options=CodecOptions(tz_aware=False),  # see documents.py
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority", j=True),
        read_preference=ReadPreference.PRIMARY,
    )


class Ledger:
    """Commits of all events. Safe to share between threads.

    A `deadline` is a time on the clock's `monotonic()`. Past it every method raises `StorageUnavailable`.
    """

    def __init__(
        self,
        collection: Collection[dict[str, Any]],
        clock: Clock,
        new_nonce: Callable[[], bytes] = lambda: secrets.token_bytes(16),
    ) -> None:
        self._collection = collection
        self._inserts = SharedInserts(collection, clock)
        self._first_pages = FirstPages(collection, clock)
        self._clock = clock
        self._new_nonce = new_nonce

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        """Write one commit of `transitions`, which lead to `state`.

        True: it is in, for good. False: the place is taken, nothing was written.
        Raises `StorageUnavailable` when neither is known before the deadline: the commit may still arrive.
        """
        document = commit_document(state.event_id, transitions, self._new_nonce(), summary_of(state))
        unsettled = False  # an earlier try of ours may have arrived, or may still arrive
        for _ in tries(self._clock, deadline):
            try:
                with self._attempt(deadline):
                    self._inserts.insert_one(document, deadline)
                return True
            except DuplicateKeyError:
                if not unsettled:
                    return False
                holder = self._nonce_at(document["_id"], deadline)
                if holder is not None:
                    return bool(holder == document["nonce"])
            except PyMongoError as error:
                unsettled = True
                log_retry("ledger append", error)
        raise StorageUnavailable

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[Sequence[Transition | Row]]:
        """The transitions of an event after version `after`, in order, a page at a time; long rows of bookings as such.

        Raises `LedgerContradiction` for a document that is no commit.
        """
        pages = Pages(self._collection, self._first_pages, self._clock, Range.of(event_id, after), deadline)
        while not pages.are_read:
            after_id = pages.left.after_id
            try:
                page = rows_of(pages.read_next())
            except (InvalidBSON, AttributeError, KeyError, TypeError, ValueError) as error:
                raise LedgerContradiction(f"event {event_id!r}: no commit after {after_id}: {error!r}") from error
            yield page

    def events_with_keys(self, keys: Iterable[bytes], deadline: float) -> dict[bytes, set[str]]:
        """Which of these Idempotency-Keys were used, and in the ledgers of which events.

        Asked for one event, it looks into all of them: a commit of another that is damaged is no error here.
        """
        wanted = set(keys)
        query = {"transitions.request.key": {"$in": list(wanted)}}
        fields = {"transitions.request.key": 1}
        found: dict[bytes, set[str]] = {}
        for document in self._retried(lambda: list(self._collection.find(query, fields)), deadline):
            event_id = str(document["_id"]).partition(":")[0]
            for key in wanted.intersection(_binaries(document["transitions"])):
                found.setdefault(key, set()).add(event_id)
        return found

    def _nonce_at(self, commit_id: str, deadline: float) -> bytes | None:
        """Who holds the place. None when a majority does not have it yet: ask again a little later."""
        found = self._retried(lambda: self._collection.find_one({"_id": commit_id}, {"nonce": 1}), deadline)
        return None if found is None else found.get("nonce", b"")  # without one it is damaged, and not ours

    def _retried(self, read: Callable[[], T], deadline: float) -> T:
        return retried(self._clock, deadline, read, "ledger read")

    def _attempt(self, deadline: float) -> Any:
        return attempt(self._clock, deadline)


def _binaries(value: Any) -> Iterator[bytes]:
    """All binary values in a part of a document, however deep and of whatever form it is."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _binaries(part)
