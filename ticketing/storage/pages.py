"""The commits of an event, page by page; the first pages of several events in one command.

Most readers want what is new since a version that they know: a few commits, or none. Those of many events ask at the
same time, and share a command. Few have a long way to go: MongoDB looks for the next page while they fold this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

from bson.errors import InvalidBSON
from pymongo.collection import Collection

from ..clock import TURN_S, Clock
from .ahead import Ahead
from .checksums import find_checked
from .documents import ledger_id
from .retries import retried
from .sharing import Share, Sharing

Document = dict[str, Any]

# Transitions read at once, about. With twice as many a fold takes as long, and others wait longer for their turn.
# How many commits that is depends on what one holds, and is told by the page before.
PAGE_SIZE = 500
FIRST_PAGE_COMMITS = 50


class FirstPages:
    """What is new in events, for many readers at once. Safe to share between threads."""

    def __init__(self, collection: Collection[Document], clock: Clock) -> None:
        self._collection = collection
        self._sharing = Sharing(clock, self._read, personal=(InvalidBSON,))

    def read(self, wanted: Range, deadline: float) -> list[Document]:
        """The first page of a range.

        `deadline` is a time on the clock's `monotonic()`. Raises what the driver raises, and `InvalidBSON` for a commit
        that is not what was written.
        """
        page = self._sharing.ask(wanted, deadline)
        return read_page(self._collection, wanted, first_page_size()) if page is None else page

    def _read(self, batch: Sequence[Share[Range, list[Document]]]) -> None:
        """Give each its page; or nobody one, where a single page does not hold all that they want.

        Of two who want the same event one gets nothing: who decodes a document changes it.
        """
        size = first_page_size()
        if len(batch) == 1:
            batch[0].given = read_page(self._collection, batch[0].asked, size)
            return
        query = {"$or": [each.asked.query for each in batch]}
        page = find_checked(self._collection, query, size, in_order=False)
        if len(page) < size:
            page.sort(key=itemgetter("_id"))
            for each in {each.asked.end_id: each for each in batch}.values():
                each.given = [document for document in page if document["_id"] in each.asked]


class Pages:
    """The commits in a range, page by page, until a deadline on the clock's `monotonic()`.

    From the second page on the next one is asked for before this one is given: it comes while this one is folded.
    """

    def __init__(
        self,
        collection: Collection[Document],
        first_pages: FirstPages,
        clock: Clock,
        wanted: Range,
        deadline: float,
    ) -> None:
        self.left = wanted
        self.are_read = False
        self._collection = collection
        self._first_pages = first_pages
        self._clock = clock
        self._deadline = deadline
        self._size = first_page_size()
        self._is_first = True
        self._ahead: Ahead[list[Document]] | None = None

    def read_next(self) -> list[Document]:
        """The next page.

        Raises `StorageUnavailable` when the deadline passes, and `InvalidBSON` for what is not what was written.
        """
        page = self._ahead.get(self._deadline) if self._ahead else self._read()
        self.are_read = len(page) < self._size
        if not self.are_read:
            self.left = self.left.after(page[-1])
            transitions = sum(len(each["transitions"]) for each in page)
            self._size = max(1, PAGE_SIZE * len(page) // max(len(page), transitions))
            if not self._is_first:  # one page is enough for most readers
                self._ahead = Ahead(self._clock, self._read)
            self._is_first = False
            self._clock.sleep(TURN_S)  # it is sent now, and others have their turn
        return page

    def _read(self) -> list[Document]:
        if self._is_first:
            read = partial(self._first_pages.read, self.left, self._deadline)
        else:
            read = partial(read_page, self._collection, self.left, self._size)
        return retried(self._clock, self._deadline, read, "ledger read")


@dataclass(frozen=True, slots=True)
class Range:
    """A part of the ledger: the commits of one event behind an `_id`."""

    after_id: str
    end_id: str

    @classmethod
    def of(cls, event_id: str, version: int) -> Range:
        """The commits of an event after a version; after none also what stands before the first, which is damage."""
        # ';' follows ':', so the range holds the ids of this event and of no other.
        return cls(ledger_id(event_id, version) if version else f"{event_id}:", f"{event_id};")

    def after(self, document: Document) -> Range:
        """What is left of it behind a commit."""
        return Range(document["_id"], self.end_id)

    @property
    def query(self) -> Document:
        """How MongoDB is asked for it."""
        return {"_id": {"$gt": self.after_id, "$lt": self.end_id}}

    def __contains__(self, commit_id: str) -> bool:
        return self.after_id < commit_id < self.end_id


def read_page(collection: Collection[Document], wanted: Range, size: int) -> list[Document]:
    """The first `size` commits of a range."""
    return find_checked(collection, wanted.query, size)


def first_page_size() -> int:
    """In commits."""
    return min(FIRST_PAGE_COMMITS, PAGE_SIZE)
