"""A collection of a simulated replica set, with the part of pymongo's interface that the ledger uses.

A write reaches the primary, is there at once (a second insert under its `_id` is a duplicate), and a little
later a majority has it: only then majority reads show it and its writer is told. A failover takes back what no
majority had. On the way everything can go wrong that goes wrong between a worker and a real replica set.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from typing import Any, NoReturn

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import _csot
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, NetworkTimeout, NotPrimaryError

from ticketing.storage.checksums import with_checksum

from .scheduler import Scheduler, SimulatedSignal

Document = dict[str, Any]

AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)


class ReplicaSet:
    """The data of the simulated MongoDB: what the primary has, and which of it a majority has too."""

    def __init__(self, scheduler: Scheduler, rng: random.Random, trouble: float) -> None:
        self.faults: Counter[str] = Counter()
        self.term = 1
        self.has_primary = True
        self._scheduler = scheduler
        self._rng = rng
        self._trouble = trouble  # 0: nothing goes wrong; 1: a lot
        self._documents: dict[str, Document] = {}
        self._majority: set[str] = set()
        self._stalled_until_s = 0.0

    def majority_documents(self) -> list[Document]:
        """What majority reads show now, by `_id`."""
        return [self._documents[key] for key in sorted(self._majority)]

    def all_documents(self) -> list[Document]:
        """What reads with read concern local show: also what a failover may take back."""
        return [self._documents[key] for key in sorted(self._documents)]

    # Trouble.

    def happens(self, fault: str, probability: float) -> bool:
        """Whether this fault happens now; counted."""
        if self._rng.random() >= probability * self._trouble:
            return False
        self.faults[fault] += 1
        return True

    def delay_s(self) -> float:
        """A way through the network."""
        return self._rng.uniform(0.0002, 0.003)

    def fail_over(self, duration_s: float) -> None:
        """Lose the primary. What only it had is taken back; another takes over after `duration_s`."""
        self.faults["failover"] += 1
        taken_back = self._documents.keys() - self._majority
        self.faults["taken back"] += len(taken_back)
        for key in taken_back:
            del self._documents[key]
        self.term += 1
        self.has_primary = False
        self._scheduler.call_later(duration_s, self._elect)

    def _elect(self) -> None:
        self.has_primary = True

    def stall(self, duration_s: float) -> None:
        """Answer nobody for so long."""
        self.faults["stall"] += 1
        self._stalled_until_s = self._scheduler.time_s + duration_s

    def calm_down(self) -> None:
        """No more trouble, and an end to what goes on."""
        self._trouble = 0.0
        self._stalled_until_s = 0.0

    def stalled_s(self) -> float:
        """Seconds until requests are looked at again."""
        return max(0.0, self._stalled_until_s - self._scheduler.time_s)

    # What the primary does with a request that reached it.

    def replace_name(self, event_id: str, version: int, name: str, pseudonym: str) -> Iterator[None]:
        """As ticketing/storage/names.py does it, commit by commit: one before each `next`."""
        for key in sorted(self._documents):
            document = self._documents.get(key)
            if document is None or document["event_id"] != event_id:
                continue
            for transition in document["transitions"]:
                for change in transition.get("orders", ()) if transition["version"] <= version else ():
                    if change.get("user_id") == name:
                        change["user_id"] = pseudonym
            self._documents[key] = with_checksum(document)
            yield

    def insert(self, document: Document) -> None:
        """Put the document on the primary; a majority has it later. Raises as the driver would."""
        if not self.has_primary:
            raise NotPrimaryError("no primary")
        if document["_id"] in self._documents:
            raise DuplicateKeyError("E11000 duplicate key")
        self._documents[document["_id"]] = document

    def remove(self, query: Document) -> None:
        """Remove what matches; a majority does it at once."""
        for key in [key for key, document in self._documents.items() if _matches(document, query)]:
            del self._documents[key]
            self._majority.discard(key)

    def hides(self, document_id: str) -> bool:
        """Whether the primary has a document of this `_id` that majority reads do not show yet."""
        return document_id in self._documents and document_id not in self._majority

    def replicate(self, document: Document, term: int) -> bool:
        """A majority gets the document, unless a failover came first."""
        if self.term != term or document["_id"] not in self._documents:
            return False
        self._majority.add(document["_id"])
        return True


class SimulatedCollection:
    """What one worker holds in place of a pymongo `Collection`."""

    read_documents = staticmethod(ReplicaSet.majority_documents)

    def __init__(self, replica_set: ReplicaSet, scheduler: Scheduler) -> None:
        self._set = replica_set
        self._scheduler = scheduler

    def find_raw_batches(self, *_: Any) -> NoReturn:
        """There are none: documents are not bytes here, and nothing damages them."""
        raise NotImplementedError

    def with_options(self, **_: Any) -> NoReturn:
        """For the same reason."""
        raise NotImplementedError

    def insert_one(self, document: RawBSONDocument) -> None:
        """w: majority. Raises DuplicateKeyError, or an error after which nobody knows."""
        taken = self._insert([document])
        if taken:
            raise DuplicateKeyError("E11000 duplicate key")

    def insert_many(self, documents: list[RawBSONDocument], ordered: bool) -> None:
        """The same for several in one command. Raises BulkWriteError for those whose place is taken."""
        assert not ordered
        taken = self._insert(documents)
        if taken:
            wrong = [{"index": place, "code": 11000, "errmsg": "E11000 duplicate key"} for place in taken]
            raise BulkWriteError(
                {"writeErrors": wrong, "writeConcernErrors": [], "nInserted": len(documents) - len(taken)}
            )

    def _insert(self, documents: list[RawBSONDocument]) -> list[int]:
        """Those whose place is taken."""
        sent = [bson.decode(document.raw, AWARE) for document in documents]
        if self._set.happens("request lost", 0.05):
            self._never_answered()
        way_s = self._set.delay_s() + self._set.stalled_s()
        if self._set.happens("zombie write", 0.05):
            way_s += self._set._rng.uniform(0.5, 12.0)
        answer = _Answer(self._scheduler)
        self._scheduler.call_later(way_s, lambda: self._arrive(sent, answer))
        answer.wait(self._timeout_s())
        if self._set.happens("answer lost", 0.08):
            raise AutoReconnect("connection closed")
        taken = answer.get()
        # Counted here and not on arrival: it makes trouble only for who hears of it.
        self._set.faults["invisible duplicate"] += sum(self._set.hides(sent[place]["_id"]) for place in taken)
        self._scheduler.sleep(self._set.delay_s())
        return taken

    def _arrive(self, documents: list[Document], answer: _Answer) -> None:
        term, taken = self._set.term, []
        try:
            for place, document in enumerate(documents):
                try:
                    self._set.insert(document)
                except DuplicateKeyError:
                    taken.append(place)
        except NotPrimaryError as error:
            answer.put(error)
            return
        if len(taken) < len(documents):
            if self._set.happens("slow majority", 0.2):
                self._scheduler.sleep(self._set._rng.uniform(0.01, 3.0))
                if self._set.happens("primary lost with it", 0.3):
                    self._set.fail_over(self._set._rng.choice([0.01, 0.5, 3.0]))
            self._scheduler.sleep(self._set.delay_s())
        inserted = [document for place, document in enumerate(documents) if place not in taken]
        if all([self._set.replicate(document, term) for document in inserted]):
            answer.put(taken)
        else:
            answer.put(NotPrimaryError("stepped down before a majority had it"))

    def find(self, query: Document, fields: Document | None = None) -> _Cursor:
        """The documents that match when the request arrives, as a majority has them."""
        return _Cursor(self, query)

    def find_one(
        self, query: Document, fields: Document | None = None, sort: list[tuple[str, int]] | None = None
    ) -> Document | None:
        """The first document that matches, or the last."""
        assert sort in (None, [("_id", -1)])
        return next(iter([*self.find(query)][:: -1 if sort else 1]), None)

    def delete_many(self, query: Document) -> None:
        """w: majority."""
        self.read(query, None)  # what may happen to a command on its way
        self._set.remove(query)

    def read(self, query: Document, limit: int | None) -> list[Document]:
        """One read of so many: there and back."""
        if self._set.happens("read lost", 0.04):
            self._never_answered()
        self._scheduler.sleep(self._set.delay_s())
        stalled_s = self._set.stalled_s()
        if stalled_s:
            timeout_s = self._timeout_s()
            self._scheduler.sleep(min(stalled_s, timeout_s))
            if stalled_s > timeout_s:
                raise NetworkTimeout("timed out")
        if not self._set.has_primary:
            raise NotPrimaryError("no primary")
        found = [document for document in self.read_documents(self._set) if _matches(document, query)]
        if self._set.happens("read answer lost", 0.04):
            raise AutoReconnect("connection closed")
        self._scheduler.sleep(self._set.delay_s())
        return [_copied(document) for document in found[:limit]]

    def note_full_page(self) -> None:
        """Count a page that may not hold all: who reads has to come back, and finds another world."""
        self._set.faults["full page"] += 1

    def _never_answered(self) -> None:
        self._scheduler.sleep(self._timeout_s())
        raise NetworkTimeout("timed out")

    def _timeout_s(self) -> float:
        timeout_s = _csot.get_timeout()
        assert timeout_s is not None, "every call to MongoDB must have a time limit"
        return float(timeout_s)


class _Answer:
    """What the server says in the end, if anybody still listens."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._signal = SimulatedSignal(scheduler)
        self._outcome: list[int] | Exception = []

    def put(self, outcome: list[int] | Exception) -> None:
        self._outcome = outcome
        self._signal.set()

    def wait(self, seconds: float) -> None:
        if not self._signal.wait(seconds):
            raise NetworkTimeout("timed out")

    def get(self) -> list[int]:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class _Cursor:
    """`find(…).sort(…).limit(…).batch_size(…)`; sorted by `_id` already. All comes in one batch."""

    def __init__(self, collection: SimulatedCollection, query: Document) -> None:
        self._collection = collection
        self._query = query
        self._limit: int | None = None

    def sort(self, key: str, direction: int) -> _Cursor:
        assert (key, direction) == ("_id", 1)
        return self

    def limit(self, count: int) -> _Cursor:
        self._limit = count
        return self

    def batch_size(self, count: int) -> _Cursor:
        assert count == self._limit
        return self

    def __iter__(self) -> Iterator[Document]:
        page = self._collection.read(self._query, self._limit)
        if len(page) == self._limit:
            self._collection.note_full_page()
        return iter(page)


def _copied(value: Any) -> Any:
    """A document of its own. All else in it cannot be changed, and deepcopy takes five times as long."""
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return value


def _matches(document: Document, query: Document) -> bool:
    """The queries of the ledger: ranges of ids, one range, one id, Idempotency-Keys."""
    if "$or" in query:
        return any(_matches(document, part) for part in query["$or"])
    if "transitions.request.key" in query:
        wanted = query["transitions.request.key"]["$in"]
        return any(part.get("request", {}).get("key") in wanted for part in document["transitions"])
    asked = query["_id"]
    if isinstance(asked, str):
        return bool(document["_id"] == asked)
    is_within = document["_id"] <= asked["$lte"] if "$lte" in asked else document["_id"] < asked["$lt"]
    return bool(asked["$gt"] < document["_id"] and is_within)
