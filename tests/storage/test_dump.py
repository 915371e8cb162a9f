"""In which order a ledger must be dumped while bookings go on: docs/operations/backup.md."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from bson.timestamp import Timestamp
from pymongo.database import Database

from tests.dump import ALONG_ID, AS_THEY_LIE, oplog_time, replay_oplog, restore, scan
from ticketing.audit import audit
from ticketing.storage.ledger import ledger_collection
from ticketing.storage.schema import create_indexes_and_views

from .test_archive import documents_of, history

Document = dict[str, Any]
POSITIONS = range(9)  # of a dump of nine documents or fewer


@pytest.fixture
def elsewhere(database: Database[Document]) -> Iterator[Database[Document]]:
    """Where is restored: another database."""
    other = database.client[f"{database.name}_elsewhere"]
    yield other
    database.client.drop_database(other)


def dump_while_one_is_slow(database: Database[Document], query: Document, read_before: int, folder: Path) -> Timestamp:
    """Dump two events, while a commit of one takes long to be in, and is followed by the next one of its event.

    So many documents are read before it is in. Returns where the oplog ended when the dump began.
    """
    ledger = ledger_collection(database)
    ledger.delete_many({})
    create_indexes_and_views(database)
    concert, opera = (documents_of(history(event_id), 1) for event_id in ("concert", "opera"))
    ledger.insert_many([*concert[:3], *opera[:3]])
    began = oplog_time(database.client)
    documents = scan(database, "ledger", query, batch_size=1)
    with database.client.start_session() as session, session.start_transaction():
        # From now on it has its place among those as they lie, and nobody sees it yet. Each insert has such a moment.
        ledger.insert_one(concert[3], session=session)
        ledger.insert_one(opera[3])
        read = list(islice(documents, read_before))
    ledger.insert_one(concert[4])
    (folder / "ledger.bson").write_bytes(b"".join([*read, *documents]))
    return began


def findings(database: Database[Document]) -> list[str]:
    """What `ledger verify` says."""
    return [finding for report in audit(database) for finding in report.findings]


@pytest.mark.parametrize("read_before", POSITIONS)
def test_along_its_id_a_ledger_has_no_hole(
    database: Database[Document], elsewhere: Database[Document], tmp_path: Path, read_before: int
) -> None:
    """Wherever the dump is when the slow commit is in."""
    dump_while_one_is_slow(database, ALONG_ID, read_before, tmp_path)
    restore(elsewhere, tmp_path)
    assert findings(elsewhere) == []


def test_the_query_is_what_makes_it_go_along_the_index(database: Database[Document]) -> None:
    """mongodump has no option for an order."""
    create_indexes_and_views(database)
    plans = []
    for query in (ALONG_ID, AS_THEY_LIE):
        plan = database.command("explain", {"find": "ledger", "filter": query})["queryPlanner"]["winningPlan"]
        plans.append(plan.get("inputStage", plan))
    assert [(plan["stage"], plan.get("indexName")) for plan in plans] == [("IXSCAN", "_id_"), ("COLLSCAN", None)]


def test_as_they_lie_there_is_a_hole_and_it_is_named_and_the_oplog_fills_it(
    database: Database[Document], elsewhere: Database[Document], tmp_path: Path
) -> None:
    """The negative control: a dump without a query steps over the slow commit, and takes the one after it."""
    holes = []
    for read_before in POSITIONS:
        began = dump_while_one_is_slow(database, AS_THEY_LIE, read_before, tmp_path)
        restore(elsewhere, tmp_path)
        holes += findings(elsewhere)
        replay_oplog(database, began, elsewhere)
        assert findings(elsewhere) == []
        assert list(elsewhere["ledger"].find().sort("_id")) == list(database["ledger"].find().sort("_id"))
        elsewhere.client.drop_database(elsewhere)
    assert ["follows 3: version 4 is missing" in hole for hole in holes] == [True]
