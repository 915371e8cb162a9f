"""Segments: what long ledgers say once more, by columns, for workers that meet a crowded event for the first time.

A commit is made to be appended. It holds a few bookings, each a document in a document, and to take these apart is
most of what a worker does that reads hundreds of thousands. A segment holds the transitions of many commits in a row:

    {"_id": "concert-2027:000000002003", "format": 1, "event_id": "concert-2027", "first": 1, "last": 2003,
     "commits": [the checksum of each of its commits],
     "parts": [the transitions, see columns.py],
     "checksum": Binary(4 bytes)}

Nothing rests on it. It counts as long as the ledger has just the commits that it was made of, by their checksums:
whoever reads it looks, and where one is missing, is another by now or has come between them, the segment goes, and the
ledger is read. So it need not be backed up, and may be removed at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError

from ..clock import TURN_S, Clock
from ..domain.model import Transition
from ..domain.rows import Row, transitions_in, versions_of
from ..errors import StorageUnavailable
from .ahead import Ahead
from .checksums import CHECKSUM, CODEC_OPTIONS, find_checked, sealed
from .columns import part_documents, parts_of
from .documents import NOT_A_COMMIT, ledger_id
from .pages import Range, read_page
from .retries import attempt, retried
from .rows import rows_of
from .users import durable

if TYPE_CHECKING:
    from pymongo.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")
Document = dict[str, Any]

COLLECTION = "segments"
FORMAT = 1  # another one wherever a transition gets a field: who does not know it writes segments without it

# Of 1,000 bookings, as `_size` counts: nobody else has a turn while one is made or decoded. It ends with a commit, so
# it may be larger by one: far below MongoDB's 16 MB.
SEGMENT_SIZE = 2_000
EVENT_SIZE = 150  # an event's details take up to 20 KB
PAGE_SIZE = 400  # is read at once to make one

# The part of the time in which a worker makes them. There is no hurry: with a half it kept others waiting, and made a
# seventh fewer cancellations meanwhile.
SHARE = 0.1


class Segment(NamedTuple):
    """The transitions of an event up to a version."""

    last: int
    parts: Sequence[Transition | Row]


def segment_collection(database: Database[Document]) -> Collection[Document]:
    """The segments, where a majority has them."""
    return durable(database, COLLECTION).with_options(codec_options=CODEC_OPTIONS)


class Segments:
    """The segments of all events. Safe to share between threads.

    A `deadline` is a time on the clock's `monotonic()`. Past it every method raises `StorageUnavailable`. `share` is
    the part of the time in which it makes them, while others wait: 1 where nobody does.
    """

    def __init__(
        self, collection: Collection[Document], ledger: Collection[Document], clock: Clock, share: float = SHARE
    ) -> None:
        self._collection = collection
        self._ledger = ledger
        self._clock = clock
        self._share = share

    def after(self, event_id: str, version: int, after_id: str, deadline: float) -> Iterator[Segment]:
        """What follows a version, a segment at a time, as far as there are any that count.

        `after_id` is that of the commit which ends with the version: behind it nobody has looked yet.
        """
        segment = self._next(event_id, version, after_id, deadline)
        while segment is not None:
            place = (event_id, segment.last, ledger_id(event_id, segment.last))
            following = Ahead(self._clock, partial(self._next, *place, deadline))
            yield segment
            self._clock.sleep(TURN_S)
            segment = following.get(deadline)

    def extend(self, event_id: str, deadline: float) -> bool:
        """Write the next one of an event. False: the ledger has not enough for it, or none is to be made of it.

        Where the ledger is damaged all of the event go, so that whoever reads it meets the damage.
        """
        end = self._end(event_id, deadline)
        try:
            commits = self._commits_after(event_id, end, deadline)
            if not commits or not all(CHECKSUM in commit for commit in commits):  # those of earlier versions have none
                return False
            document = _segment_document(event_id, end, commits)
        except NOT_A_COMMIT as error:
            log.warning("no segment of a damaged ledger", extra={"event_id": event_id, "finding": repr(error)})
            with suppress(StorageUnavailable):  # whoever reads the ledger up to there meets the damage and removes them
                self.remove(event_id, deadline)
            return False
        with suppress(DuplicateKeyError):  # another worker was faster
            self._retried(partial(self._collection.insert_one, document), deadline)
        # Names may have been erased from the commits since they were read, and segments removed before this one came.
        if not self._retried(partial(self._counts, event_id, document), deadline):
            self.remove(event_id, deadline, after=end)
            return False
        return True

    def remove(self, event_id: str, deadline: float, after: int = 0) -> None:
        """Remove those of an event that go beyond a version."""
        self._retried(partial(self._collection.delete_many, Range.of(event_id, after).query), deadline)

    def _next(self, event_id: str, version: int, after_id: str, deadline: float) -> Segment | None:
        """The one that goes on from a version, tried once: without it the ledger is read, which has it all."""
        try:
            with attempt(self._clock, deadline):
                return self._read_next(event_id, version, after_id)
        except PyMongoError as error:
            log.warning("segment not read", extra={"event_id": event_id, "error": type(error).__name__})
            return None

    def _read_next(self, event_id: str, version: int, after_id: str) -> Segment | None:
        """The same; and where there is one that does not count, it goes, with those behind it."""
        query = Range.of(event_id, version).query
        try:
            found = find_checked(self._collection, query, 1)
            if not found:
                return None
            (segment,) = found
            if segment["first"] <= version + 1 and self._counts(event_id, segment, after_id):
                return Segment(segment["last"], _parts_after(version, parts_of(segment["parts"])))
            finding = "it is of other commits"
        except NOT_A_COMMIT as error:
            finding = repr(error)
        log.warning("segment removed", extra={"event_id": event_id, "after": version, "finding": finding})
        self._collection.delete_many(query)
        return None

    def _counts(self, event_id: str, segment: Mapping[str, Any], after_id: str | None = None) -> bool:
        """Whether the ledger has just the commits that it was made of, and no other from there, or from an id, on."""
        is_ours = CHECKSUM in segment and segment["format"] == FORMAT
        if not is_ours or segment["_id"] != ledger_id(event_id, segment["last"]):
            return False
        begin_id = Range.of(event_id, segment["first"] - 1).after_id
        wanted = {"_id": {"$gt": min(begin_id, after_id or begin_id), "$lte": segment["_id"]}}
        count = len(segment["commits"]) + 1  # if there is one too many it is seen
        found = self._ledger.find(wanted, {"_id": False, CHECKSUM: True}).sort("_id", 1)
        checksums = [commit.get(CHECKSUM) for commit in found.limit(count).batch_size(count)]
        return bool(segment["commits"] == checksums)

    def _end(self, event_id: str, deadline: float) -> int:
        """The version that those of an event come to. Where the last one does not count, it goes."""
        fields = {"parts": False}
        read = partial(self._collection.find_one, Range.of(event_id, 0).query, fields, sort=[("_id", -1)])
        try:
            while (last := self._retried(read, deadline)) is not None:
                if self._retried(partial(self._counts, event_id, last), deadline):
                    return int(last["last"])
                self._retried(partial(self._collection.delete_many, {"_id": last["_id"]}), deadline)
        except NOT_A_COMMIT:
            self.remove(event_id, deadline)
        return 0

    def _commits_after(self, event_id: str, version: int, deadline: float) -> list[Document]:
        """As many commits as a segment takes, or none. Raises what `find_checked` raises for one that is damaged."""
        commits: list[Document] = []
        size, count, left = 0, 1, Range.of(event_id, version)
        while size < SEGMENT_SIZE:
            began_s = self._clock.monotonic()
            page = self._retried(partial(read_page, self._ledger, left, count), deadline)
            if not page:
                return []
            for commit in page:
                if size < SEGMENT_SIZE:
                    commits.append(commit)
                    size += sum(map(_size, commit["transitions"]))
            left = left.after(page[-1])
            # As many as have room in a page, and in what is left, when they hold as much as those so far.
            count = min(2 * count, 1 + min(PAGE_SIZE, SEGMENT_SIZE - size) * len(commits) // size)
            self._clock.sleep(max(TURN_S, (self._clock.monotonic() - began_s) * (1 / self._share - 1)))
        return commits

    def _retried(self, call: Callable[[], T], deadline: float) -> T:
        return retried(self._clock, deadline, call, "segment")


def _segment_document(event_id: str, after: int, commits: Sequence[Document]) -> RawBSONDocument:
    """The segment of these commits, which follow a version. Raises one of `NOT_A_COMMIT` where they do not."""
    first, last = after + 1, commits[-1]["last"]
    versions = [transition["version"] for commit in commits for transition in commit["transitions"]]
    if versions != [*range(first, last + 1)]:
        raise ValueError("versions out of turn")
    checksums = [commit[CHECKSUM] for commit in commits]
    return sealed(
        {
            "_id": ledger_id(event_id, last),
            "format": FORMAT,
            "event_id": event_id,
            "first": first,
            "last": last,
            "commits": checksums,
            "parts": part_documents(rows_of(commits)),
        }
    )


def _size(transition: Document) -> int:
    """How much room it takes, counted in orders of some 150 bytes."""
    refused = transition.get("refusal", {}).get("details", {}).get("refused", ())
    lists = (transition.get("orders", ()), transition.get("refused", ()), refused)
    return 1 + sum(map(len, lists)) + (EVENT_SIZE if "event" in transition else 0)


def _parts_after(version: int, parts: Sequence[Transition | Row]) -> Sequence[Transition | Row]:
    """Without what somebody has already who comes to this version."""
    if versions_of(parts[0])[0] > version:
        return parts
    return [transition for transition in transitions_in(parts) if transition.version > version]
