"""What is no commit, and what a commit says that cannot be."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.damage import STRAY_IDS
from ticketing.storage.documents import ledger_id
from ticketing.storage.strays import end_of


def test_the_end_of_a_commit() -> None:
    """It is that of its event."""
    assert end_of({"_id": ledger_id("concert-1", 8), "last": 9}) == ("concert-1", 9)


@pytest.mark.parametrize("last", ["x", None, True, 7, -1, 8.5, 10**13, {"$gt": 1}, datetime(1970, 1, 1)])
def test_a_last_version_that_cannot_be(last: Any) -> None:
    """The event has come to its first one at least."""
    assert end_of({"_id": ledger_id("concert", 8), "last": last}) == ("concert", 8)
    assert end_of({"_id": ledger_id("concert", 8)}) == ("concert", 8)


@pytest.mark.parametrize("stray", [None, *STRAY_IDS])
def test_what_is_no_commit(stray: Any) -> None:
    """It is passed by."""
    assert end_of({"_id": stray, "last": 9}) is None
    assert end_of({"last": 9}) is None
