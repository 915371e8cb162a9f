"""The checksum of a commit: what stands in the ledger is what was written there, or its event is refused.

A fold refuses what it cannot go on from, but a changed name or price makes as much sense as the right one. So each
commit says in its last field a CRC-32 of its BSON, as the logs of databases do: of all fields before it, without the
length in front of them and the zero behind. It tells disks that forget and hands that slip; whoever means to deceive
can compute it as well. Commits of earlier versions have none, and are judged by what they say.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

Document = dict[str, Any]

CHECKSUM = "checksum"
CODEC_OPTIONS: CodecOptions[Document] = CodecOptions(tz_aware=False)  # see documents.py

_CHECKSUM_BYTES = 4
_LENGTH = struct.Struct("<i")  # of a document, in front of it
# How a document ends: with the type of the last field, its name, length and subtype, the checksum and a zero.
_BEFORE_CHECKSUM = bson.encode({CHECKSUM: bytes(_CHECKSUM_BYTES)})[_LENGTH.size : -_CHECKSUM_BYTES - 1]
_END_BYTES = len(_BEFORE_CHECKSUM) + _CHECKSUM_BYTES + 1


def with_checksum(document: Document) -> Document:
    """The commit with its checksum, or with its new one."""
    fields = {name: value for name, value in document.items() if name != CHECKSUM}
    return fields | {CHECKSUM: _checksum(bson.encode(fields)[_LENGTH.size : -1])}


def sealed(document: Document) -> RawBSONDocument:
    """A commit that has no checksum yet, with its own, in the bytes that are written: it is encoded once for all."""
    content = bson.encode(document)[_LENGTH.size : -1]
    content += _BEFORE_CHECKSUM + _checksum(content) + b"\0"
    return RawBSONDocument(_LENGTH.pack(_LENGTH.size + len(content)) + content)


def find_checked(
    collection: Collection[Document], query: Document, limit: int, *, in_order: bool = True
) -> list[Document]:
    """`limit` commits at most (0: all), the first ones by their `_id` or any, each of them what was written.

    Raises what the driver raises, and `InvalidBSON` for a commit that cannot be decoded, or is not what was written.
    """
    try:
        found: Any = collection.find_raw_batches(query)
    except NotImplementedError:  # mongomock has no bytes, and nothing to check
        found = collection.find(query)
    if in_order:
        found = found.sort("_id", 1)
    # Without a batch size the server sends 101 documents at first and is asked again for the others.
    commits: list[Document] = []
    for batch in found.limit(limit).batch_size(limit):
        commits += checked(batch) if isinstance(batch, bytes) else (batch,)
    return commits


def checked(batch: bytes) -> list[Document]:
    """Commits, one right behind the other, each of them what was written. Raises `InvalidBSON` for what is not.

    All are decoded in one go: one by one they take three times as long.
    """
    commits = bson.decode_all(batch, CODEC_OPTIONS)
    view, start = memoryview(batch), 0
    for commit in commits:
        end = start + _LENGTH.unpack_from(batch, start)[0]
        if not agrees_with_checksum(commit, view, start, end):
            raise InvalidBSON(f"{commit.get('_id')!r} is not what was written: its checksum is another")
        start = end
    return commits


def agrees_with_checksum(commit: Document, raw: bytes | memoryview, start: int, end: int) -> bool:
    """Whether a commit, decoded and as BSON in a part of `raw`, is what was written.

    Commits of earlier versions say nothing of it.
    """
    if CHECKSUM not in commit:
        return True
    return bool(commit[CHECKSUM] == _checksum(raw[start + _LENGTH.size : end - _END_BYTES]))


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES)
