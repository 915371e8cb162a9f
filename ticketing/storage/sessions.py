"""Refresh tokens in MongoDB, a document for each family: one login, and what it was rotated to.

    {"_id": Binary(16 bytes), "user_id": "ada", "stamp": "…", "digest": Binary(32 bytes), "expires_at": Date}

`digest` is the SHA-256 of the newest secret. To rotate is one compare-and-set on it, so of two requests with the
same token one succeeds. MongoDB removes what has expired.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, NamedTuple

from pymongo.collection import Collection

from ..clock import Clock
from .retries import retried

COLLECTION = "sessions"

DEADLINE_S = 3.0
"""What one call may take."""


class Session(NamedTuple):
    """A family of refresh tokens. `stamp` is that of its account when it logged in."""

    family: bytes
    user_id: str
    stamp: str
    digest: bytes
    expires_at: datetime


class Sessions:
    """All families. Safe to share between threads.

    A `deadline` is a time on the clock's `monotonic()`. Past it, or `DEADLINE_S` after the call, every method raises
    `StorageUnavailable`.
    """

    def __init__(self, collection: Collection[dict[str, Any]], clock: Clock) -> None:
        self._collection = collection
        self._clock = clock

    def add(self, session: Session, deadline: float = math.inf) -> None:
        """Write a new family."""
        document = _document(session)
        # Replaced by itself where an earlier try has arrived: its id is random, nobody else's is the same.
        self._retried(deadline, lambda: self._collection.replace_one({"_id": session.family}, document, upsert=True))

    def rotate(
        self, family: bytes, digest: bytes, to: bytes, expires_at: datetime, deadline: float = math.inf
    ) -> Session | None:
        """Put `to` in the place of `digest`, and return the family as it was; None where its secret is another."""
        # Or `to` itself: an earlier try of ours may have arrived.
        query = {"_id": family, "digest": {"$in": [digest, to]}}
        change = {"$set": {"digest": to, "expires_at": expires_at}}
        found = self._retried(deadline, lambda: self._collection.find_one_and_update(query, change))
        if found is None:
            return None
        return Session(family, found["user_id"], found["stamp"], found["digest"], found["expires_at"])

    def remove(self, family: bytes, deadline: float = math.inf) -> None:
        """End a family: none of its tokens is worth anything any more."""
        self._retried(deadline, lambda: self._collection.delete_one({"_id": family}))

    def remove_of(self, user_id: str, deadline: float = math.inf) -> None:
        """End all families of a user."""
        self._retried(deadline, lambda: self._collection.delete_many({"user_id": user_id}))

    def _retried(self, deadline: float, call: Any) -> Any:
        return retried(self._clock, min(deadline, self._clock.monotonic() + DEADLINE_S), call, "session write")


def _document(session: Session) -> dict[str, Any]:
    return {
        "_id": session.family,
        "user_id": session.user_id,
        "stamp": session.stamp,
        "digest": session.digest,
        "expires_at": session.expires_at,
    }
