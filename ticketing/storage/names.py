"""Where a user's name stands in the ledgers, and its replacement by a pseudonym: the one change of what was written.

A ledger reads the same before, during and after it: whose orders are whose is said by the transition `pseudonymized`,
and that holds for the name as for the pseudonym.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pymongo import ReplaceOne
from pymongo.collection import Collection

from ..clock import Clock
from ..errors import LedgerDamaged
from .checksums import CHECKSUM, find_checked, with_checksum
from .documents import NOT_A_COMMIT, ledger_id
from .recent import RecentCommits
from .retries import retried
from .segments import Segments
from .strays import reading_anything

T = TypeVar("T")
Document = dict[str, Any]

# Are changed by one command. However large they are, it is done within one try: the next page goes on from there.
PAGE_COMMITS = 50


class Names:
    """The names in all ledgers. Safe to share between threads.

    A `deadline` is a time on the clock's `monotonic()`. Past it all methods raise `StorageUnavailable`.
    """

    def __init__(
        self,
        collection: Collection[Document],
        clock: Clock,
        segments: Segments | None = None,
        recent_commits: RecentCommits | None = None,
    ) -> None:
        self._collection = collection
        self._clock = clock
        self._segments = segments
        self._recent_commits = recent_commits or RecentCommits()

    def events_naming(self, user_id: str, deadline: float) -> list[str]:
        """The events with orders of this user, or with changes that he made."""
        # From `_id`, as readers do: a commit whose `event_id` differs is damaged, and reading its event says so. What
        # is no commit has an id of any type, in any encoding, which belongs to no event.
        commit_id = {"$convert": {"input": "$_id", "to": "string", "onError": "", "onNull": ""}}
        event_id = {"$arrayElemAt": [{"$split": [commit_id, ":"]}, 0]}
        steps = [{"$match": _naming(user_id)}, {"$group": {"_id": event_id}}]
        found = self._retried(lambda: list(reading_anything(self._collection).aggregate(steps)), deadline)
        return sorted(each["_id"] for each in found)

    def replace(self, event_id: str, version: int, user_id: str, pseudonym: str, deadline: float) -> None:
        """Put the pseudonym in the place of the name, in the transitions of this event up to a version.

        At that version nothing may be the name's any more: what came later, in the same commit too, is somebody else's.
        May be repeated. Raises `LedgerDamaged` for a commit that is not what was written: its checksum must not say so.
        """
        after_id, last_id = f"{event_id}:", ledger_id(event_id, version)

        def read_page() -> list[Document]:
            wanted = {"_id": {"$gt": after_id, "$lte": last_id}, **_naming(user_id)}
            return find_checked(self._collection, wanted, PAGE_COMMITS)

        try:
            while page := self._retried(read_page, deadline):
                if self._write([_update(each, version, user_id, pseudonym) for each in page], deadline):
                    after_id = page[-1]["_id"]
        except NOT_A_COMMIT as error:
            raise LedgerDamaged(event_id, str(error)) from error
        self._remove_segments(event_id, deadline)  # none is made of the old commits any more

    def remove_copies(self, pseudonym: str, deadline: float) -> None:
        """Remove the segments of all events that name a pseudonym: those of an erasure that broke off, too. And what
        the workers of this host have left each other, where nothing but `by` has the name."""
        self._recent_commits.forget()
        for event_id in self.events_naming(pseudonym, deadline):
            self._remove_segments(event_id, deadline)

    def _remove_segments(self, event_id: str, deadline: float) -> None:
        if self._segments is not None:
            self._segments.remove(event_id, deadline)

    def _write(self, updates: list[ReplaceOne[Document]], deadline: float) -> bool:
        """Whether all of them were made. A commit from which another name was erased meanwhile must be read again."""
        written = self._retried(lambda: self._collection.bulk_write(updates, ordered=False), deadline)
        return written.matched_count == len(updates)

    def _retried(self, call: Callable[[], T], deadline: float) -> T:
        return retried(self._clock, deadline, call, "pseudonym")


def _naming(user_id: str) -> Document:
    return {"$or": [{"transitions.orders.user_id": user_id}, {"transitions.by": user_id}]}


def _update(commit: Document, version: int, user_id: str, pseudonym: str) -> ReplaceOne[Document]:
    """The replacement of one commit, as long as it is what was read."""
    known = {"_id": commit["_id"], CHECKSUM: commit.get(CHECKSUM)}
    for transition in commit["transitions"]:
        if transition["version"] <= version:
            _replace(transition, "by", user_id, pseudonym)
            for change in transition.get("orders", ()):
                _replace(change, "user_id", user_id, pseudonym)
    return ReplaceOne(known, with_checksum(commit))


def _replace(fields: Document, name: str, value: str, by: str) -> None:
    if fields.get(name) == value:
        fields[name] = by
