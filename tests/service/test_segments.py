"""Segments of a long ledger as a running service writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pymongo.database import Database

from tests.damage import changed, exact
from tests.domain.rehearsal import Rehearsal
from tests.service.running import DEADLINE_S, NO_TLS, Service, eventually
from ticketing.audit import audit
from ticketing.compactor import BEHIND_MAX
from ticketing.config import Config
from ticketing.domain.model import TransitionType
from ticketing.storage.checksums import with_checksum
from ticketing.storage.documents import commit_document
from ticketing.storage.segments import SEGMENT_SIZE

# What is tried runs in processes of its own.
pytestmark = pytest.mark.no_cover

EVENT_ID = "concert"
IN_A_SEGMENT = SEGMENT_SIZE // 2
BOOKINGS = BEHIND_MAX + IN_A_SEGMENT // 2
ERASED = f"user {IN_A_SEGMENT}."


def insert_long_ledger(database: Database[dict[str, Any]]) -> None:
    """As many bookings as make a worker write segments, in commits of ten."""
    play = Rehearsal(BOOKINGS, EVENT_ID)
    for number in range(BOOKINGS):
        play.book(f"user {number}.")
    commits = [play.transitions[first : first + 10] for first in range(0, len(play.transitions), 10)]
    assert play.transitions[-1].type is TransitionType.BOOKED
    database["ledger"].insert_many(with_checksum(commit_document(EVENT_ID, each, b"n" * 16)) for each in commits)


def test_a_long_ledger_gets_segments_and_new_workers_read_them(
    make_lean_service: Callable[..., Service], database: Database[dict[str, Any]]
) -> None:
    """They are written after the first touch, say what the ledger says, and have no name that was erased."""
    insert_long_ledger(database)
    service = make_lean_service(WEB_CONCURRENCY="2").start().wait_until_serving()
    config = Config.from_env({}, dotenv_path=str(service.folder / ".env"))
    admin = (config.basic_auth_username or "", config.basic_auth_password or "")
    with httpx.Client(base_url=service.url, auth=admin, timeout=DEADLINE_S, verify=NO_TLS) as client:
        assert client.get(f"/status/{EVENT_ID}").json()["booked_tickets"] == BOOKINGS
        eventually(lambda: database["segments"].count_documents({}) == BOOKINGS // IN_A_SEGMENT)
        assert [report.findings for report in audit(database)] == [[]]
        service.stop()
        changed(1_001, by="somebody")(database["ledger"], EVENT_ID)  # who reads that commit refuses it
        service.start().wait_until_serving(times=2)
        assert client.get(f"/status/{EVENT_ID}").json()["booked_tickets"] == BOOKINGS
        database["ledger"].update_one({"first": 1_001}, {"$unset": {"transitions.0.by": True}})

        assert ERASED.encode() in b"".join(exact(database["segments"]))
        client.delete(f"/users/{ERASED}").raise_for_status()
        for collection in ("ledger", "segments"):
            assert ERASED.encode() not in b"".join(exact(database[collection]))
