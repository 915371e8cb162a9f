"""Test support: what can happen to a ledger that somebody reaches into, or that a disk gave back wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bson import DatetimeMS, Int64, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from ticketing.storage.checksums import with_checksum
from ticketing.storage.documents import ledger_id

Document = dict[str, Any]
Damage = Callable[[Collection[Document], str], object]
"""Called with the collection and an event id. The ledger of the event has a commit for each transition."""

STRAY_IDS: list[Any] = [
    ObjectId(),
    5,
    {"event": "concert"},
    DatetimeMS(10**16),
    Int64(7),
    b"bytes",
    "",
    ":",
    ":000000000001",
    "zulu",
    "concert",
    "concert:",
    "concert:x",
    "concert:000000000900\n",
    "con cert:000000000001",
    "conc\ufffdrt:000000000001",
    "\U0010ffff",
]

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


def removed(version: int) -> Damage:
    """The commit of a version is taken away."""
    return lambda ledger, event_id: ledger.delete_one({"_id": ledger_id(event_id, version)})


def changed(version: int, /, **fields: Any) -> Damage:
    """Fields of the transition of a version have other values. `__` stands for the dot of a path."""
    values = {f"transitions.0.{name.replace('__', '.')}": value for name, value in fields.items()}
    return lambda ledger, event_id: ledger.update_one({"_id": ledger_id(event_id, version)}, {"$set": values})


def described(version: int, /, **fields: Any) -> Damage:
    """Fields of the commit of a version itself, beside its transitions, have other values."""
    return lambda ledger, event_id: ledger.update_one({"_id": ledger_id(event_id, version)}, {"$set": fields})


def doubled(version: int, under: int) -> Damage:
    """The commit of a version stands there once more, under the `_id` of another version."""

    def damage(ledger: Collection[Document], event_id: str) -> None:
        document = ledger.find_one({"_id": ledger_id(event_id, version)})
        assert document is not None
        ledger.insert_one({**document, "_id": ledger_id(event_id, under)})

    return damage


def garbled(version: int, field: str = "type", at: int = -1) -> Damage:
    """A text in the commit of a version has a byte that makes it no UTF-8, its last one: a driver cannot decode it."""

    def damage(ledger: Collection[Document], event_id: str) -> None:
        place = {"_id": ledger_id(event_id, version)}
        raw = ledger.with_options(codec_options=_RAW)
        document = raw.find_one_and_delete(place)
        assert document is not None
        name = b"\x02" + field.encode() + b"\x00"
        content = bytearray(document.raw)
        length_at = content.index(name) + len(name)
        length = int.from_bytes(content[length_at : length_at + 4], "little") - 1
        content[length_at + 4 + at % length] = 0xFF
        raw.insert_one(RawBSONDocument(bytes(content)))

    return damage


def insert_strays(ledger: Collection[Document]) -> None:
    """What belongs to no event, before, between and behind the commits of all of them."""
    ledger.insert_many({"_id": stray, "note": "not a commit", "last": 7} for stray in STRAY_IDS)
    for stray in (b"zulu", b"concert:0000", b"concert", b"ZZ"):
        length = (len(stray) + 2).to_bytes(4, "little")
        fields = b"\x02_id\x00" + length + stray + b"\xff\x00"
        document = (len(fields) + 5).to_bytes(4, "little") + fields + b"\x00"
        ledger.with_options(codec_options=_RAW).insert_one(RawBSONDocument(document))


def with_new_checksums(ledger: Collection[Document], event_id: str) -> None:
    """Who damaged an event knew about checksums, too: what it says now is what its commits are said to hold."""
    for document in ledger.find({"_id": {"$gte": f"{event_id}:", "$lt": f"{event_id};"}}):
        ledger.replace_one({"_id": document["_id"]}, with_checksum(document))


def exact(ledger: Collection[Document], event_id: str | None = None) -> list[bytes]:
    """All documents, or those of an event, as they are stored, byte for byte, in the order of their `_id`."""
    query = {"_id": {"$gte": f"{event_id}:", "$lt": f"{event_id};"}} if event_id else {}
    return [bytes(document.raw) for document in ledger.with_options(codec_options=_RAW).find(query).sort("_id", 1)]
