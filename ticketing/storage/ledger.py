"""The ledger in MongoDB: append a commit as a compare-and-set, read what came after a version.

The `_id` of a commit names its event and its first version, so inserting it is the compare-and-set: whoever
decided on stale knowledge meets a duplicate key, and nothing was written. Writes wait for a majority and its
journals, reads see only what a majority has, from the primary: what this module says has happened stays so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from ..clock import Clock, tries
from ..domain.fold import LedgerContradiction
from ..domain.model import EventState, Transition, TransitionType
from ..domain.rows import Row, versions_of
from ..domain.summary import summary_of
from ..errors import StorageUnavailable
from .checksums import CODEC_OPTIONS, sealed
from .documents import NOT_A_COMMIT, commit_document, ledger_id
from .inserts import SharedInserts
from .keys import KnownKeys
from .pages import FirstPages, Pages, Range
from .recent import RecentCommits
from .retries import attempt, log_retry, retried
from .rows import rows_of
from .segments import Segments

if TYPE_CHECKING:
    from pymongo.database import Database

T = TypeVar("T")
COLLECTION = "ledger"


def ledger_collection(database: Database[dict[str, Any]]) -> Collection[dict[str, Any]]:
    """The ledger with the concerns that its promises need, whatever the URI says."""
    return database.get_collection(
        COLLECTION,
        codec_options=CODEC_OPTIONS,
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
        recent_commits: RecentCommits | None = None,
        segments: Segments | None = None,
    ) -> None:
        self._collection = collection
        self._inserts = SharedInserts(collection, clock)
        self._first_pages = FirstPages(collection, clock)
        self._known_keys = KnownKeys(collection, clock)
        self._clock = clock
        self._new_nonce = new_nonce
        self._recent_commits = recent_commits or RecentCommits()
        self._segments = segments

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        """Write one commit of `transitions`, which lead to `state`.

        True: it is in, for good. False: the place is taken, nothing was written.
        Raises `StorageUnavailable` when neither is known before the deadline: the commit may still arrive.
        """
        commit = sealed(commit_document(state.event_id, transitions, self._new_nonce(), summary_of(state)))
        is_in = self._insert(commit, deadline)
        if is_in:
            self._leave_copy(state.event_id, transitions, bytes(commit.raw))
        return is_in

    def recent(self, event_id: str, after: int) -> Sequence[Transition | Row]:
        """What other workers of this host have appended after version `after`, as far as that is at hand.

        Without MongoDB, and without a word on what else there may be. Raises what `read` raises.
        """
        commits = self._recent_commits.after(event_id, after)
        with _told_as_contradiction(event_id, ledger_id(event_id, after)):
            return rows_of([bson.decode(commit, CODEC_OPTIONS) for commit in commits])

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[Sequence[Transition | Row]]:
        """The transitions of an event after version `after`, in order, a page at a time; long rows of bookings as such.

        Raises `LedgerContradiction` for a document that is no commit, or not what was written.
        """
        for page in self._pages(event_id, Range.of(event_id, after), deadline):
            if _erases_a_name(page):
                self._recent_commits.forget()  # whoever wrote it may have died before he could
            yield page

    def distrust(self, event_id: str, deadline: float) -> None:
        """Let what follows be read from the commits of an event alone: what else says the same is removed."""
        if self._segments is not None:
            self._segments.remove(event_id, deadline)

    def _pages(self, event_id: str, wanted: Range, deadline: float) -> Iterator[Sequence[Transition | Row]]:
        """Most readers want one page. Who has a long way to go is given what there is of it in segments."""
        pages = Pages(self._collection, self._first_pages, self._clock, wanted, deadline)
        page = _next_of(pages, event_id)
        yield page
        if self._segments is not None and not pages.are_read:
            version = versions_of(page[-1])[-1]
            for segment in self._segments.after(event_id, version, pages.left.after_id, deadline):
                yield segment.parts
                behind = Range.of(event_id, segment.last)
                pages = Pages(self._collection, self._first_pages, self._clock, behind, deadline)
        while not pages.are_read:
            yield _next_of(pages, event_id)

    def events_with_keys(self, keys: Iterable[bytes], deadline: float) -> dict[bytes, set[str]]:
        """Which of these Idempotency-Keys were used, and in the ledgers of which events."""
        wanted = frozenset(keys)
        return self._retried(lambda: self._known_keys.events_with(wanted, deadline), deadline)

    def _insert(self, commit: RawBSONDocument, deadline: float) -> bool:
        """Whether the commit is in, for good; see `append`."""
        unsettled = False  # an earlier try of ours may have arrived, or may still arrive
        for _ in tries(self._clock, deadline):
            try:
                with self._attempt(deadline):
                    self._inserts.insert_one(commit, deadline)
                return True
            except DuplicateKeyError:
                if not unsettled:
                    return False
                holder = self._nonce_at(commit["_id"], deadline)
                if holder is not None:
                    return bool(holder == commit["nonce"])
            except PyMongoError as error:
                unsettled = True
                log_retry("ledger append", error)
        raise StorageUnavailable

    def _leave_copy(self, event_id: str, transitions: Sequence[Transition], commit: bytes) -> None:
        """For the other workers of this host; but none with the name of a user who has been erased."""
        if _erases_a_name(transitions):
            self._recent_commits.forget()
        else:
            self._recent_commits.leave(event_id, transitions[0].version, transitions[-1].version, commit)

    def _nonce_at(self, commit_id: str, deadline: float) -> bytes | None:
        """Who holds the place. None when a majority does not have it yet: ask again a little later."""
        found = self._retried(lambda: self._collection.find_one({"_id": commit_id}, {"nonce": 1}), deadline)
        return None if found is None else found.get("nonce", b"")  # without one it is damaged, and not ours

    def _retried(self, read: Callable[[], T], deadline: float) -> T:
        return retried(self._clock, deadline, read, "ledger read")

    def _attempt(self, deadline: float) -> Any:
        return attempt(self._clock, deadline)


def _next_of(pages: Pages, event_id: str) -> Sequence[Transition | Row]:
    with _told_as_contradiction(event_id, pages.left.after_id):
        return rows_of(pages.read_next())


def _erases_a_name(parts: Iterable[Transition | Row]) -> bool:
    return any(part.type is TransitionType.PSEUDONYMIZED for part in parts)


@contextmanager
def _told_as_contradiction(event_id: str, after_id: str) -> Iterator[None]:
    """What is no commit, behind an id, is told as `LedgerContradiction`."""
    try:
        yield
    except NOT_A_COMMIT as error:
        raise LedgerContradiction(f"event {event_id!r}: no commit after {after_id}: {error!r}") from error
