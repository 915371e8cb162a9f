"""How the service connects to MongoDB."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

Document = dict[str, Any]

# What the URI does not say. Repeating a commit is the ledger's own business: it knows its nonce, and goes on
# when the driver would give up after one more try. The short times find a new primary quickly.
DEFAULT_OPTIONS: dict[str, Any] = {
    "appname": "ticketing",
    "retryWrites": False,
    "connectTimeoutMS": 2_000,
    "heartbeatFrequencyMS": 3_000,
}


def connect(uri: str) -> MongoClient[Document]:
    """A client for `uri`. It opens nothing before its first use, so it may be made before a fork."""
    said = {option.lower() for option in parse_uri(uri, validate=False)["options"]}
    options = {name: value for name, value in DEFAULT_OPTIONS.items() if name.lower() not in said}
    return MongoClient(uri, connect=False, tz_aware=True, **options)
