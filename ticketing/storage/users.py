"""The accounts in MongoDB, a document each. Its `_id` is the user's id: two cannot have the same.

    {"_id": "ada", "role": "customer", "password_hash": "scrypt:…", "stamp": "…", "pseudonym": null,
     "key": Binary(16 bytes)}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bson.codec_options import CodecOptions
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from ..clock import Clock
from ..domain.accounts import Account, Role
from .retries import retried

if TYPE_CHECKING:
    from pymongo.database import Database

COLLECTION = "users"


def durable(database: Database[dict[str, Any]], name: str) -> Collection[dict[str, Any]]:
    """A collection in which what was answered stays so, whatever the URI says."""
    return database.get_collection(
        name,
        codec_options=CodecOptions(tz_aware=True),
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority", j=True),
        read_preference=ReadPreference.PRIMARY,
    )


class Users:
    """All accounts. Safe to share between threads.

    A `deadline` is a time on the clock's `monotonic()`. Past it every method raises `StorageUnavailable`; what it
    was to write may have been written then, and may be written again.
    """

    def __init__(self, collection: Collection[dict[str, Any]], clock: Clock) -> None:
        self._collection = collection
        self._clock = clock

    def find(self, user_ids: Iterable[str], deadline: float) -> dict[str, Account]:
        """Those of these users who have an account, in one round trip."""
        query = {"_id": {"$in": list(user_ids)}}
        found = retried(self._clock, deadline, lambda: list(self._collection.find(query)))
        return {document["_id"]: _account(document) for document in found}

    def find_by_key(self, key: bytes, deadline: float) -> Account | None:
        """The account that was registered with this key, and not changed since."""
        found = retried(self._clock, deadline, lambda: self._collection.find_one({"key": key}))
        return None if found is None else _account(found)

    def page(self, after: str, limit: int, deadline: float) -> list[Account]:
        """The first `limit` accounts with a password whose ids come after `after`, by id. Ids compare byte by byte."""
        query = {"_id": {"$gt": after}, "password_hash": {"$ne": ""}}

        def read() -> list[dict[str, Any]]:
            return list(self._collection.find(query).sort("_id", 1).limit(limit))

        return [_account(document) for document in retried(self._clock, deadline, read)]

    def ids(self, limit: int, deadline: float) -> list[str]:
        """The ids of `limit` accounts at most."""

        def read() -> list[dict[str, Any]]:
            return list(self._collection.find({}, {"_id": 1}).limit(limit).batch_size(limit))

        return [document["_id"] for document in retried(self._clock, deadline, read)]

    def add(self, account: Account, deadline: float) -> bool:
        """Write a new account. False: its name is taken, nothing was written."""
        try:
            retried(self._clock, deadline, lambda: self._collection.insert_one(_document(account)), "user add")
        except DuplicateKeyError:
            # An earlier try of ours may have arrived, its answer lost: nobody else has drawn the same stamp.
            holder = self.find([account.user_id], deadline).get(account.user_id)
            return holder is not None and holder.stamp == account.stamp
        return True

    def replace(self, account: Account, stamp: str, deadline: float) -> bool:
        """Write an account in the place of itself as it was with `stamp`. False: it was changed meanwhile."""
        # With the new stamp too: an earlier try of ours may have arrived.
        query = {"_id": account.user_id, "stamp": {"$in": [stamp, account.stamp]}}
        found = retried(
            self._clock,
            deadline,
            lambda: self._collection.find_one_and_replace(
                query, _document(account), return_document=ReturnDocument.AFTER
            ),
            "user change",
        )
        return found is not None

    def remove(self, account: Account, deadline: float) -> None:
        """Forget an account that is being erased, if nobody else has its name by now."""
        query = {"_id": account.user_id, "pseudonym": account.pseudonym}
        retried(self._clock, deadline, lambda: self._collection.delete_one(query), "user removal")


def _document(account: Account) -> dict[str, Any]:
    document: dict[str, Any] = {
        "_id": account.user_id,
        "role": account.role.value,
        "password_hash": account.password_hash,
        "stamp": account.stamp,
        "pseudonym": account.pseudonym,
    }
    return document if account.key is None else {**document, "key": account.key}


def _account(document: dict[str, Any]) -> Account:
    return Account(
        document["_id"],
        Role(document["role"]),
        document["password_hash"],
        document["stamp"],
        document["pseudonym"],
        document.get("key"),
    )
