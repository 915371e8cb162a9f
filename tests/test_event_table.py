"""The table of the events that changed last: bounded, and right over all workers of a host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ticketing.event_table import ROWS, SUFFIX, EventRow, EventTable


def row(event_id: str, version: int, changed_s: float, available_tickets: int = 7) -> EventRow:
    """An event at a version."""
    return EventRow(event_id, version, available_tickets, 3, 0, changed_s)


def tables(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> list[EventTable]:
    """The tables of as many workers, each with a process id of its own."""
    made = []
    for pid in range(count):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: 1000 + pid)
        made.append(EventTable(folder))
    return made


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_last_events_are_kept(tmp_path: Path, is_shared: bool) -> None:
    """As many as there is room for, the latest first; one that changes again stays."""
    table = EventTable(tmp_path if is_shared else None)
    assert table.rows() == []
    table.put(row("steady", 1, 0.0))
    for number in range(2 * ROWS):
        table.put(row(f"event-{number}", 1, number + 0.5))
        table.put(row("steady", number + 2, number + 0.7))
    kept = table.rows()
    assert [each.event_id for each in kept] == ["steady", *(f"event-{2 * ROWS - 1 - n}" for n in range(ROWS - 1))]
    assert kept[0] == row("steady", 2 * ROWS + 1, 2 * ROWS - 1 + 0.7)


def test_the_highest_version_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever worker knows it, whichever wrote last, and whoever is asked."""
    one, two = tables(tmp_path, monkeypatch, 2)
    two.put(row("concert", 5, 1.0, available_tickets=2))
    one.put(row("concert", 4, 2.0, available_tickets=3))
    assert one.rows() == two.rows() == [row("concert", 5, 1.0, available_tickets=2)]


def test_all_workers_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's disk or Prometheus is filled by opening events."""
    for number, table in enumerate(tables(tmp_path, monkeypatch, 3)):
        for event in range(ROWS):
            table.put(row(f"event-{number}-{event}", 1, event))
    assert len(table.rows()) == ROWS
    assert {each.changed_s for each in table.rows()} >= {ROWS - 1, ROWS - 2}


def test_the_longest_id_fits(tmp_path: Path) -> None:
    """64 characters, as long as an event's id can be."""
    table = EventTable(tmp_path)
    table.put(row("x" * 64, 1, 1.0))
    assert table.rows() == [row("x" * 64, 1, 1.0)]


def test_a_row_that_is_being_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the old and half of the new is nobody's figure. One that stays torn is left out."""
    table = EventTable(tmp_path)
    table.put(row("concert", 1, 1.0))
    table.put(row("festival", 1, 0.5))
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    whole = path.read_bytes()
    torn = whole[:65] + b"\xff" + whole[66:]
    reads = [torn, torn, whole]
    monkeypatch.setattr(Path, "read_bytes", lambda _: reads.pop(0))
    assert [each.event_id for each in table.rows()] == ["concert", "festival"]
    reads = [torn] * 3
    assert [each.event_id for each in table.rows()] == ["festival"]
