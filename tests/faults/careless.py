"""The service with a ledger that waits for no majority: what it answers may be taken back."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

from ticketing import app as composition
from ticketing.storage.ledger import ledger_collection


def _careless_collection(database: Database[dict[str, Any]]) -> Collection[dict[str, Any]]:
    return ledger_collection(database).with_options(write_concern=WriteConcern(1))


with patch.object(composition, "ledger_collection", _careless_collection):
    app = composition.create_app()
