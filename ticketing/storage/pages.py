"""The commits of an event, page by page; the first pages of several events in one command.

Most readers want what is new since a version that they know: a few commits, or none. Those of many events ask at the
same time, and share a command. Few have a long way to go, and get a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any

from pymongo.collection import Collection
from pymongo.cursor import Cursor, CursorType

from ..clock import Clock
from .documents import ledger_id
from .sharing import Share, Sharing

Document = dict[str, Any]

# Transitions read at once, about. More would not fit into the processor's cache, and a fold would take a fifth longer.
# How many commits that is depends on what one holds, and is known after the first page.
PAGE_SIZE = 500
FIRST_PAGE_COMMITS = 50
PAGES_BY_REQUEST = 2  # most readers want no more, and to give up a stream costs its connection

FIELDS = {"transitions": True}


class FirstPages:
    """What is new in events, for many readers at once. Safe to share between threads."""

    def __init__(self, collection: Collection[Document], clock: Clock) -> None:
        self._collection = collection
        self._sharing = Sharing(clock, self._read)

    def read(self, wanted: Range, deadline: float) -> list[Document]:
        """The first page of a range.

        `deadline` is a time on the clock's `monotonic()`. Raises what the driver raises.
        """
        page = self._sharing.ask(wanted, deadline)
        return read_page(self._collection, wanted, first_page_size()) if page is None else page

    def _read(self, batch: Sequence[Share[Range, list[Document]]]) -> None:
        """Give each its page; or nobody one, where a single page does not hold all that they want."""
        size = first_page_size()
        if len(batch) == 1:
            batch[0].given = read_page(self._collection, batch[0].asked, size)
            return
        query = {"$or": [each.asked.query for each in batch]}
        page = list(self._collection.find(query, FIELDS).limit(size).batch_size(size))
        if len(page) < size:
            page.sort(key=itemgetter("_id"))
            for each in batch:
                each.given = [document for document in page if document["_id"] in each.asked]


class Pages:
    """The commits in a range, page by page.

    The first pages are asked for one by one. Then the others come in a stream: MongoDB sends the next one while this
    one is folded.
    """

    def __init__(self, collection: Collection[Document], first_pages: FirstPages, wanted: Range) -> None:
        self.left = wanted
        self.are_read = False
        self._collection = collection
        self._first_pages = first_pages
        self._size = first_page_size()
        self._count = 0
        self._stream: Cursor[Document] | None = None

    def read_next(self, deadline: float) -> list[Document]:
        """The next page. May be called again after an error.

        `deadline` is a time on the clock's `monotonic()`. Raises what the driver raises.
        """
        if self._count == 0:
            page = self._first_pages.read(self.left, deadline)
        elif self._count < PAGES_BY_REQUEST:
            page = read_page(self._collection, self.left, self._size)
        else:
            page = self._take()
        self._count += 1
        self.are_read = len(page) < self._size
        if page:
            self.left = self.left.after(page[-1])
        if self._count == 1 and page:
            self._size = max(1, PAGE_SIZE * len(page) // max(1, sum(len(each["transitions"]) for each in page)))
        return page

    def close(self) -> None:
        """End the stream, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _take(self) -> list[Document]:
        if self._stream is None:
            commits = self._collection.find(self.left.query, FIELDS, cursor_type=CursorType.EXHAUST)
            self._stream = commits.sort("_id", 1).batch_size(self._size)
        try:
            return list(islice(self._stream, self._size))
        except BaseException:
            self.close()  # the next try begins another one
            raise


@dataclass(frozen=True, slots=True)
class Range:
    """A part of the ledger: the commits of one event behind an `_id`."""

    after_id: str
    end_id: str

    @classmethod
    def of(cls, event_id: str, version: int) -> Range:
        """The commits of an event after a version."""
        # ';' follows ':', so the range holds the ids of this event and of no other.
        return cls(ledger_id(event_id, version), f"{event_id};")

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
    # Without a batch size the server sends 101 documents at first and is asked again for the others.
    return list(collection.find(wanted.query, FIELDS).sort("_id", 1).limit(size).batch_size(size))


def first_page_size() -> int:
    """In commits."""
    return min(FIRST_PAGE_COMMITS, PAGE_SIZE)
