"""The ledger as lines of JSON, a commit a line: backups that any tool can compress, carry and look into.

The lines are MongoDB's Extended JSON, version 2, canonical: the form that names every type, so that each document comes
back byte for byte. That is checked line by line on the way out.

An export has no hole, also while bookings go on. It walks along the index of `_id`, in which the commits of an event
stand one after the other. A commit is made only when the one before it is in a majority, and a read with read concern
`majority` that sees the later one sees the earlier one as well: to step over a commit that was not there yet is to find
the end of the event. What was answered before the export began is in it; of what comes meanwhile, a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.json_util import JSONMode, JSONOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from .documents import ledger_id

Document = dict[str, Any]

BATCH_BYTES = 1_000_000  # are written at once
COMMIT_BYTES_MAX = 16 * 1024 * 1024  # MongoDB's limit

# Dates as milliseconds: Python's own do not reach as far as MongoDB's.
_JSON = JSONOptions(json_mode=JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS)
_BSON = CodecOptions[Document](datetime_conversion=DatetimeConversion.DATETIME_MS)
_READ_ANYTHING = _BSON.with_options(unicode_decode_error_handler="replace")
_RAW = CodecOptions[RawBSONDocument](document_class=RawBSONDocument)

# What json_util and bson raise for lines that are no Extended JSON.
_NOT_A_DOCUMENT = (ArithmeticError, AttributeError, BSONError, LookupError, RecursionError, TypeError, ValueError)


class ImportRefused(Exception):
    """A line cannot be imported. The message names it, and says why."""


class Line(NamedTuple):
    """One commit on its way out. `text` is None where JSON could not hold it exactly."""

    commit_id: Any
    text: str | None


class Imported(NamedTuple):
    """How many commits an import has written, and how many were there already, the same to the byte."""

    written: int
    present: int


class _Commit(NamedTuple):
    """One line on its way in."""

    line: int
    commit_id: str
    raw: RawBSONDocument


def export_query(event_id: str | None) -> Document:
    """What finds the commits of one event, or of all."""
    # ';' follows ':', so the range holds the ids of this event and of no other.
    return {} if event_id is None else {"_id": {"$gte": f"{event_id}:", "$lt": f"{event_id};"}}


def export_lines(ledger: Collection[Document], event_id: str | None = None) -> Iterator[Line]:
    """A line for each commit, of one event or of all, in the order of `_id`, in constant memory.

    `ledger` comes with the concerns of `ledger_collection`. Raises the driver's `PyMongoError`.
    """
    documents = ledger.with_options(codec_options=_RAW).find(export_query(event_id))
    with documents.sort("_id", 1).hint("_id_") as documents:  # never another index, nor a sort in memory
        for document in documents:
            yield _line(bytes(document.raw))


def import_lines(ledger: Collection[Document], lines: Iterable[bytes]) -> Imported:
    """Write what is not there yet, in the order of the lines, a batch at a time. Nothing is ever overwritten.

    Each line must follow the one before it: an event from its first commit on, without a gap. So the first commit in
    which two histories of an event differ has the same `_id` in both, and nothing of the other history gets in.

    Raises `ImportRefused` for the first line that does not follow, that is no commit, or in whose place the ledger has
    another one; the batches before it are written by then. Raises the driver's `PyMongoError`. After either, the
    same import may be run again.
    """
    written = present = 0
    for batch in _batches(_commits(lines)):
        missing = _missing(ledger, batch)
        if missing:
            _write(ledger, missing)
        written += len(missing)
        present += len(batch) - len(missing)
    return Imported(written, present)


def _line(raw: bytes) -> Line:
    try:
        document = bson.decode(raw, _BSON)
        text = json_util.dumps(document, json_options=_JSON)
        is_exact = bson.encode(json_util.loads(text, json_options=_JSON)) == raw
    except _NOT_A_DOCUMENT:
        is_exact = False
    if not is_exact:
        return Line(bson.decode(raw, _READ_ANYTHING).get("_id"), None)
    return Line(document["_id"], text)


def _commits(lines: Iterable[bytes]) -> Iterator[_Commit]:
    """Each line as a commit that follows the one before it."""
    event_id, last = None, 0
    for number, line in enumerate(lines, 1):
        try:
            document = json_util.loads(line, json_options=_JSON)
            raw = RawBSONDocument(bson.encode(document))
        except _NOT_A_DOCUMENT as error:
            raise ImportRefused(f"line {number} is no Extended JSON document") from error
        if not _is_commit(document) or len(raw.raw) > COMMIT_BYTES_MAX:
            raise ImportRefused(f"line {number} is no commit of a ledger")
        is_next = document["event_id"] == event_id and document["first"] == last + 1
        if not is_next and document["first"] != 1:
            raise ImportRefused(f"line {number}: what comes before {document['_id']!r} is missing")
        event_id, last = document["event_id"], document["last"]
        yield _Commit(number, document["_id"], raw)


def _is_commit(document: Document) -> bool:
    """Whether it has the frame of one. What is inside is the audit's business."""
    try:
        event_id, first, last = document["event_id"], document["first"], document["last"]
        versions = [transition["version"] for transition in document["transitions"]]
        return bool(
            document["_id"] == ledger_id(event_id, first)
            and versions == list(range(first, last + 1))
            and versions
        )
    except (LookupError, TypeError, ValueError):
        return False


def _batches(commits: Iterable[_Commit]) -> Iterator[list[_Commit]]:
    batch: list[_Commit] = []
    size_bytes = 0
    for commit in commits:
        batch.append(commit)
        size_bytes += len(commit.raw.raw)
        if size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _missing(ledger: Collection[Document], batch: list[_Commit]) -> list[_Commit]:
    """Those that the ledger does not have. Raises `ImportRefused` where it has another one."""
    places = {"_id": {"$in": [commit.commit_id for commit in batch]}}
    found = ledger.with_options(codec_options=_RAW).find(places)
    present = {document["_id"]: document.raw for document in found}
    for commit in batch:
        if present.get(commit.commit_id, commit.raw.raw) != commit.raw.raw:
            raise ImportRefused(f"line {commit.line}: the ledger has another commit {commit.commit_id!r}")
    return [commit for commit in batch if commit.commit_id not in present]


def _write(ledger: Collection[Document], commits: list[_Commit]) -> None:
    try:
        ledger.with_options(codec_options=_RAW).insert_many([commit.raw for commit in commits])
    except BulkWriteError as error:
        taken = [each["index"] for each in error.details["writeErrors"] if each["code"] == 11000]
        if not taken:
            raise
        commit = commits[taken[0]]
        raise ImportRefused(
            f"line {commit.line}: somebody else writes to this ledger and took {commit.commit_id!r}"
        ) from error
