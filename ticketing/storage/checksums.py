"""The checksum of a commit: what stands in the ledger is what was written there, or its event is refused.

A fold refuses what it cannot go on from, but a changed name or price makes as much sense as the right one. So each
commit says a CRC-32 of its BSON, as the logs of databases do: of the `_id` and of all its transitions, without the
length in front of them and the zero behind. It tells disks that forget and hands that slip; whoever means to deceive
can compute it as well. Commits of earlier versions have none, and are judged by what they say.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

Document = dict[str, Any]

CHECKSUM = "checksum"
FIELDS = {"transitions": True, CHECKSUM: True}
"""What to ask for in order to check a commit; MongoDB gives them in the order in which they were written."""

CODEC_OPTIONS: CodecOptions[Document] = CodecOptions(tz_aware=False)  # see documents.py
_AS_STORED = CodecOptions[RawBSONDocument](document_class=RawBSONDocument)

_CHECKSUM_BYTES = 4
_LENGTH_BYTES = 4  # of a document, in front of it
# How a checked document ends: this, the checksum and a zero.
_ELEMENT = b"\x05" + CHECKSUM.encode() + b"\x00" + _CHECKSUM_BYTES.to_bytes(4, "little") + b"\x00"
_END_BYTES = len(_ELEMENT) + _CHECKSUM_BYTES + 1


def with_checksum(document: Document) -> Document:
    """The commit with its checksum, or with its new one."""
    content = bson.encode({"_id": document["_id"], "transitions": document["transitions"]})
    return document | {CHECKSUM: _checksum(content[_LENGTH_BYTES:-1])}


def as_stored(collection: Collection[Document]) -> Collection[Any]:
    """The collection, whose documents come as they are stored, for `checked`. Mongomock has no such thing."""
    try:
        return collection.with_options(codec_options=_AS_STORED)
    except NotImplementedError:
        return collection


def checked(stored: RawBSONDocument | Document) -> Document:
    """A commit of which the `FIELDS` were asked. What comes from mongomock cannot be checked.

    Raises `InvalidBSON` when it cannot be decoded, or is not what was written.
    """
    if isinstance(stored, Mapping) and not isinstance(stored, RawBSONDocument):
        return stored
    commit = bson.decode(stored.raw, CODEC_OPTIONS)
    if CHECKSUM in commit:
        content, end = stored.raw[_LENGTH_BYTES:-_END_BYTES], stored.raw[-_END_BYTES:]
        if end != _ELEMENT + _checksum(content) + b"\x00":
            raise InvalidBSON(f"{commit.get('_id')!r} is not what was written: its checksum is another")
    return commit


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES)
