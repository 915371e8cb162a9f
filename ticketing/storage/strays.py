"""What else may stand in the collection `ledger`: what somebody else has put there, and commits that are damaged.

Whoever looks over the commits of many events meets it, and passes it by: only a fold can tell what is wrong with an
event, and what belongs to none is no error of those that are sound.
"""

from __future__ import annotations

import re
from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.collection import Collection

from ..ids import EVENT_ID_PATTERN
from .documents import VERSION_DIGITS

Document = dict[str, Any]

_READ_ANYTHING: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)

COMMIT_ID = rf"^(?:{EVENT_ID_PATTERN.pattern}):[0-9]{{{VERSION_DIGITS}}}$(?!\n)"
"""What `ledger_id` makes, as a regular expression of Python and of MongoDB. Nothing that is no UTF-8 agrees with it,
nor what has been put in its place."""

_COMMIT_ID = re.compile(COMMIT_ID)
_VERSION_MAX = 10**VERSION_DIGITS - 1


def reading_anything(ledger: Collection[Document]) -> Collection[Document]:
    """The same, where no text and no date of a document keeps the others from being read."""
    try:
        return ledger.with_options(codec_options=_READ_ANYTHING)
    except NotImplementedError:  # mongomock has no bytes, and nothing that cannot be decoded
        return ledger


def end_of(commit: Document) -> tuple[str, int] | None:
    """The event and the last version of a commit, of which `_id` and `last` were read. None for what is no commit.

    Where `last` cannot be, it is the first version, which the `_id` says: that far the event has come at least.
    """
    commit_id = commit.get("_id")
    if not isinstance(commit_id, str) or not _COMMIT_ID.match(commit_id):
        return None
    event_id, _, digits = commit_id.partition(":")
    first, last = int(digits), commit.get("last")
    if isinstance(last, int) and not isinstance(last, bool) and first <= last <= _VERSION_MAX:
        return event_id, last
    return event_id, first
