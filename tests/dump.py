"""What mongodump and mongorestore do, in pymongo: a file for each collection, with the BSON of its documents.

Neither program comes with the environment. What matters of mongodump is the order in which it reads. Without a query it
asks for all documents as they lie there (mongodump.go: no hint, but for storage engines that are history); with one
on `_id`, MongoDB walks along the index of `_id`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.database import Database

Document = dict[str, Any]

AS_THEY_LIE: Document = {}
ALONG_ID: Document = {"_id": {"$gt": ""}}

ONE_AFTER_THE_OTHER = {
    "webhooks": AS_THEY_LIE,
    "webhook_cursors": AS_THEY_LIE,
    "ledger": ALONG_ID,
    "users": AS_THEY_LIE,
}
"""What docs/operations/backup.md has dumped without --oplog, in this order."""

_RAW = CodecOptions[RawBSONDocument](document_class=RawBSONDocument)


def scan(database: Database[Document], name: str, query: Document, batch_size: int = 1_000) -> Iterator[bytes]:
    """The documents of a collection, so many at a time."""
    collection = database[name].with_options(codec_options=_RAW)
    with collection.find(query, batch_size=batch_size) as documents:
        for document in documents:
            yield bytes(document.raw)


def restore(database: Database[Document], folder: Path) -> None:
    """Insert what is in the files of a folder, each into the collection that it is called after."""
    for path in folder.glob("*.bson"):
        documents = bson.decode_all(path.read_bytes(), _RAW)
        if documents:
            database[path.stem].with_options(codec_options=_RAW).insert_many(documents)


def oplog_time(client: MongoClient[Document]) -> Timestamp:
    """Where the oplog ends: with --oplog mongodump keeps what comes after that."""
    (newest,) = client["local"]["oplog.rs"].find().sort("$natural", -1).limit(1)
    return newest["ts"]


def replay_oplog(source: Database[Document], since: Timestamp, target: Database[Document]) -> None:
    """What mongorestore --oplogReplay does: all changes since then once more, whether the dump has them or not."""
    for entry in source.client["local"]["oplog.rs"].find({"ts": {"$gt": since}}).sort("$natural", 1):
        # A transaction is one entry of many changes.
        for change in entry["o"].get("applyOps", [entry]):
            database_name, _, collection = change["ns"].partition(".")
            if database_name == source.name and change["op"] in "iud":
                again = {field: change[field] for field in ("op", "o", "o2") if field in change}
                target.client.admin.command("applyOps", [again | {"ns": f"{target.name}.{collection}"}])
