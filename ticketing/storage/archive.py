"""The ledger as lines of JSON, a commit a line: backups that any tool can compress, carry and look into.

The lines are MongoDB's Extended JSON, version 2, canonical: the form that names every type, so that each document comes
back byte for byte. That is checked line by line on the way out.

An export has no hole, also while bookings go on. It walks along the index of `_id`, in which the commits of an event
stand one after the other. A commit is made only when the one before it is in a majority, and a read with read concern
`majority` that sees the later one sees the earlier one as well: to step over a commit that was not there yet is to find
the end of the event. What was answered before the export began is in it; of what comes meanwhile, a part.

One rule says what a sound commit is, on the way out and on the way in: its frame, its checksum, and that it follows the
one before it. An export writes what is damaged as it is, and names it. An import leaves out the event that it is in,
whole: without its later commits a service would sell again what they have sold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.json_util import JSONMode, JSONOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from ..domain.accounts import PSEUDONYM_PREFIX
from .checksums import CHECKSUM, agrees_with_checksum, with_checksum
from .documents import ledger_id
from .inserts import DUPLICATE_KEY

Document = dict[str, Any]

BATCH_BYTES = 1_000_000  # are written at once
COMMIT_BYTES_MAX = 16 * 1024 * 1024  # MongoDB's limit
SPOOL_BYTES_IN_MEMORY = 16 * 1024 * 1024  # of events on their way in; what is more waits in a file

# Dates as milliseconds: Python's own do not reach as far as MongoDB's.
_JSON = JSONOptions(json_mode=JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS)
_BSON = CodecOptions[Document](datetime_conversion=DatetimeConversion.DATETIME_MS)
_READ_ANYTHING = _BSON.with_options(unicode_decode_error_handler="replace")
_RAW = CodecOptions[RawBSONDocument](
    document_class=RawBSONDocument,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    unicode_decode_error_handler="replace",
)

# What json_util and bson raise for lines that are no Extended JSON.
_NOT_A_DOCUMENT = (ArithmeticError, AttributeError, BSONError, LookupError, RecursionError, TypeError, ValueError)


Found = Callable[[str], object]
"""Is told what is wrong, a sentence each."""


class Line(NamedTuple):
    """One commit on its way out.

    `finding` says what is wrong with it or before it. Where JSON cannot hold it exactly, `text` has its `_id` alone: if
    the last commit of an event were missing, nobody could tell.
    """

    finding: str | None
    text: str


class Imported(NamedTuple):
    """What an import has done: commits that it wrote, those that were there already, and events that it left out.

    Of those that were there, `pseudonymous` differ from their lines in names of users who were erased since.
    """

    written: int = 0
    present: int = 0
    pseudonymous: int = 0
    left_out: int = 0


def export_query(event_id: str | None) -> Document:
    """What finds the commits of one event, or of all."""
    # ';' follows ':', so the range holds the ids of this event and of no other.
    return {} if event_id is None else {"_id": {"$gte": f"{event_id}:", "$lt": f"{event_id};"}}


def export_lines(ledger: Collection[Document], event_id: str | None = None) -> Iterator[Line]:
    """A line for each commit, of one event or of all, in the order of `_id`, in constant memory.

    `ledger` comes with the concerns of `ledger_collection`. Raises the driver's `PyMongoError`.
    """
    judge = _Judge()
    documents = ledger.with_options(codec_options=_RAW).find(export_query(event_id))
    with documents.sort("_id", 1).hint("_id_") as documents:  # never another index, nor a sort in memory
        for document in documents:
            yield _line(bytes(document.raw), judge)


def import_lines(ledger: Collection[Document], lines: Iterable[bytes], found: Found = lambda _: None) -> Imported:
    """Write what is not there yet: each event whole, or, where something is wrong with it, nothing of it.

    The lines of an event stand together, from its first commit on, without a gap. So the first commit in which two
    histories of an event differ has the same `_id` in both, and nothing of the other history gets in. Nothing is ever
    overwritten. `found` is told of each event that is left out, and why.

    Raises the driver's `PyMongoError`, and `OSError` where events that are too large for memory find no room on disk:
    then of some events a part may be written, and the same import may be run again.
    """
    with _Import(ledger, found) as importing:
        arrivals_of_all = _arrivals(lines, importing.leave_out)
        for event_id, arrivals in groupby(arrivals_of_all, lambda arrival: arrival.event_id):
            importing.take(event_id, arrivals)
        importing.write()
        return importing.done


def names_again(commits: Iterable[Document], found: Found) -> Iterator[Document]:
    """The commits, in the order of `_id`, while `found` is told of each name that was erased and stands in them still.

    So it is when what came from a backup is older than the erasure, or when the erasure has not come to its end.
    """
    event_id, told, owners = "", set[str](), dict[str, str]()
    for commit in commits:
        if _event_of(commit.get("_id")) != event_id:
            event_id, told, owners = _event_of(commit.get("_id")), set(), {}
        try:
            erased = {name for name in _erased(commit, owners) if not name.startswith(PSEUDONYM_PREFIX)}
        except _NOT_A_DOCUMENT:
            erased = set()  # a damaged commit is the audit's business
        for name in sorted(erased - told):
            found(f"event {event_id!r} names {name!r}, who was erased")
        told |= erased
        yield commit


class _Judge:
    """Looks at one commit after the other, in the order of `_id`, and says what is wrong with each."""

    def __init__(self) -> None:
        self.event_id = ""  # of the commit that was looked at last, by its `_id`
        self._last: int | None = 0  # its last version; None where nobody can tell
        self._opening = b""  # the first commit of the event

    def finding(self, document: Document, raw: bytes) -> str | None:
        """What is wrong with a commit, if anything is."""
        commit_id = document.get("_id")
        if not isinstance(commit_id, str):
            return f"{commit_id!r} is no commit of a ledger"
        before = self._last if self.event_id == _event_of(commit_id) else 0
        self.lose(_event_of(commit_id))
        if not _is_commit(document) or len(raw) > COMMIT_BYTES_MAX:
            return f"{commit_id!r} is no commit of a ledger"
        self._last, first = document["last"], document["first"]
        if not agrees_with_checksum(document, raw, 0, len(raw)):
            return f"{commit_id!r} is not what was written: its checksum is another"
        if first == 1:
            is_another = bool(before) and raw != self._opening
            self._opening = raw
            return f"{commit_id!r} comes twice" if is_another else None
        if before is None or first == before + 1:
            return None
        return f"what comes before {commit_id!r} is missing" if first > before else f"{commit_id!r} comes out of turn"

    def lose(self, event_id: str) -> None:
        """Go on behind what nobody can read: what comes next is not measured by it."""
        self.event_id, self._last = event_id, None


class _Arrival(NamedTuple):
    """One line on its way in, with what is wrong with it."""

    event_id: str
    commit_id: str
    raw: bytes
    finding: str | None


class _Commit(NamedTuple):
    """One that waits."""

    event_id: str
    commit_id: str
    raw: RawBSONDocument


class _Looked(NamedTuple):
    """What the ledger has of a batch, and what it has not."""

    missing: list[_Commit]
    present: int
    pseudonymous: int  # of those that are present


class _Import:
    """Events on their way in. They wait until all their lines have come and are a batch or more."""

    def __init__(self, ledger: Collection[Document], found: Found) -> None:
        self._ledger = ledger.with_options(codec_options=_RAW)
        self._found = found
        # BSON: commits, and before each a document with its `_id`, which takes less to find there.
        self._waiting = SpooledTemporaryFile(SPOOL_BYTES_IN_MEMORY)
        self._refused: set[str] = set()  # of the events that wait
        self.done = Imported()

    def __enter__(self) -> _Import:
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting.close()

    def take(self, event_id: str, arrivals: Iterable[_Arrival]) -> None:
        """Let an event wait, or leave it out; write when enough are waiting."""
        begun = self._waiting.tell()
        for arrival in arrivals:
            if arrival.finding is not None:
                self._waiting.seek(begun)
                self._waiting.truncate()
                self.leave_out(event_id, arrival.finding)
                break
            self._waiting.write(bson.encode({"_id": arrival.commit_id}) + arrival.raw)
        if self._waiting.tell() >= BATCH_BYTES:
            self.write()

    def write(self) -> None:
        """Write all that wait, but for those of which the ledger has another history."""
        for batch in self._batches():
            self._look(batch)
        for batch in self._batches():
            looked = self._look(batch)
            written = self._insert(looked.missing)
            done = self.done
            self.done = done._replace(
                written=done.written + written,
                present=done.present + looked.present,
                pseudonymous=done.pseudonymous + looked.pseudonymous,
            )
        self._refused.clear()
        self._waiting.seek(0)
        self._waiting.truncate()

    def leave_out(self, event_id: str, finding: str) -> None:
        """Tell what is wrong with an event, or with a line that is of none."""
        self.done = self.done._replace(left_out=self.done.left_out + 1)
        self._found(f"event {event_id!r}: {finding}" if event_id else finding)

    def _batches(self) -> Iterator[list[_Commit]]:
        """What waits, without the events that were refused."""
        batch: list[_Commit] = []
        size_bytes = 0
        self._waiting.seek(0)
        documents = bson.decode_file_iter(self._waiting, _RAW)
        for place, raw in zip(documents, documents, strict=True):
            batch.append(_Commit(_event_of(place["_id"]), place["_id"], raw))
            size_bytes += len(raw.raw)
            if size_bytes >= BATCH_BYTES:
                yield self._without_refused(batch)
                batch, size_bytes = [], 0
        yield self._without_refused(batch)

    def _without_refused(self, commits: list[_Commit]) -> list[_Commit]:
        return [commit for commit in commits if commit.event_id not in self._refused]

    def _look(self, batch: list[_Commit]) -> _Looked:
        """What the ledger has of a batch. An event of which it has another commit is refused."""
        places = {"_id": {"$in": [commit.commit_id for commit in batch]}}
        there = {document["_id"]: bytes(document.raw) for document in self._ledger.find(places)} if batch else {}
        missing, present, pseudonymous = [], [], []
        for commit in batch:
            raw = bytes(commit.raw.raw)
            if commit.commit_id not in there:
                there[commit.commit_id] = raw
                missing.append(commit)
            elif there[commit.commit_id] == raw:
                present.append(commit)
            elif _differs_in_pseudonyms(there[commit.commit_id], raw):
                pseudonymous.append(commit)
            else:
                self._refuse(commit, "the ledger has another commit {!r}")
        present, pseudonymous = self._without_refused(present), self._without_refused(pseudonymous)
        return _Looked(self._without_refused(missing), len(present) + len(pseudonymous), len(pseudonymous))

    def _insert(self, commits: list[_Commit]) -> int:
        """Write them, and return how many; but none behind one whose place was taken meanwhile."""
        written = 0
        while commits:
            try:
                self._ledger.insert_many([commit.raw for commit in commits])
            except BulkWriteError as error:
                taken = [each["index"] for each in error.details["writeErrors"] if each["code"] == DUPLICATE_KEY]
                if not taken:
                    raise
                written += taken[0]
                self._refuse(commits[taken[0]], "somebody else writes to this ledger and took {!r}")
                commits = self._without_refused(commits[taken[0] :])
            else:
                return written + len(commits)
        return written

    def _refuse(self, commit: _Commit, finding: str) -> None:
        if commit.event_id not in self._refused:
            self._refused.add(commit.event_id)
            self.leave_out(commit.event_id, finding.format(commit.commit_id))


def _line(raw: bytes, judge: _Judge) -> Line:
    try:
        document = bson.decode(raw, _BSON)
        text = json_util.dumps(document, json_options=_JSON)
        is_exact = bson.encode(json_util.loads(text, json_options=_JSON)) == raw
    except _NOT_A_DOCUMENT:
        is_exact = False
    if not is_exact:
        commit_id = bson.decode(raw, _READ_ANYTHING).get("_id")
        judge.lose(_event_of(commit_id))
        text = json_util.dumps({"_id": commit_id}, json_options=_JSON)
        return Line(f"{commit_id!r} is not what JSON can hold: its line has its _id alone", text)
    return Line(judge.finding(document, raw), text)


def _arrivals(lines: Iterable[bytes], leave_out: Callable[[str, str], object]) -> Iterator[_Arrival]:
    """Each line as a commit of an event; what is no document as one of the event before it: it may be its end."""
    judge = _Judge()
    for number, line in enumerate(lines, 1):
        try:
            document = json_util.loads(line, json_options=_JSON)
            raw = bson.encode(document)
        except _NOT_A_DOCUMENT:
            judge.lose(judge.event_id)
            yield _Arrival(judge.event_id, "", b"", f"line {number} is no Extended JSON document")
            continue
        commit_id, finding = document.get("_id"), judge.finding(document, raw)
        if isinstance(commit_id, str):
            yield _Arrival(judge.event_id, commit_id, raw, finding and f"line {number}: {finding}")
        else:
            leave_out("", f"line {number}: {finding}")


def _event_of(commit_id: Any) -> str:
    """The event that an `_id` stands under, and for one of another form the `_id` itself."""
    return commit_id.partition(":")[0] if isinstance(commit_id, str) else repr(commit_id)


def _is_commit(document: Document) -> bool:
    """Whether it has the frame of one. What is inside is the audit's business."""
    try:
        event_id, first, last = document["event_id"], document["first"], document["last"]
        versions = [transition["version"] for transition in document["transitions"]]
        return bool(
            event_id == _event_of(document["_id"])
            and document["_id"] == ledger_id(event_id, first)
            and versions == list(range(first, first + len(versions)))
            and versions[-1] == last
        )
    except (LookupError, TypeError, ValueError):
        return False


def _differs_in_pseudonyms(stored: bytes, line: bytes) -> bool:
    """Whether a stored commit is that of a line, but for pseudonyms in the place of names, and is what was written."""
    try:
        here, there = bson.decode(stored, _BSON), bson.decode(line, _BSON)
        is_sound = agrees_with_checksum(here, stored, 0, len(stored)) and (CHECKSUM in here or CHECKSUM not in there)
        for transition, as_it_was in zip(here["transitions"], there["transitions"], strict=True):
            _name_again(transition, as_it_was, "by")
            for change, as_made in zip(transition.get("orders", ()), as_it_was.get("orders", ()), strict=True):
                _name_again(change, as_made, "user_id")
        return is_sound and bson.encode(with_checksum(here)) == bson.encode(with_checksum(there))
    except _NOT_A_DOCUMENT:
        return False


def _name_again(fields: Document, as_they_were: Document, name: str) -> None:
    if name in as_they_were and fields.get(name, "").startswith(PSEUDONYM_PREFIX):
        fields[name] = as_they_were[name]


def _erased(commit: Document, owners: dict[str, str]) -> set[str]:
    """Whose orders a commit gives to a pseudonym, by the names under which they stand. `owners` is kept up to date."""
    names = set()
    for transition in commit["transitions"]:
        is_erasure = transition["type"] == "pseudonymized"
        if transition["version"] == 1:
            owners[""] = transition.get("by", PSEUDONYM_PREFIX)  # the organizer, whose event it is
        if is_erasure and "organizer" in (transition.get("event") or {}):
            names.add(owners.get("", PSEUDONYM_PREFIX))
            owners[""] = PSEUDONYM_PREFIX
        for change in transition.get("orders", ()):
            if is_erasure:
                names.add(owners.get(change["order_id"], PSEUDONYM_PREFIX))
            if "user_id" in change:
                owners[change["order_id"]] = change["user_id"]
    return names
