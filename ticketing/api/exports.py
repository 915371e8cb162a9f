"""Orders as a file for spreadsheets: CSV after RFC 4180, made while it is sent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..clock import TURN_S, Clock
from ..domain.model import EventState
from .schemas import OrderSchema, order_view, rfc3339

COLUMNS = tuple(OrderSchema().fields)

ROWS_AT_ONCE = 200
"""Some 5 ms of work, before others have their turn."""

# What a spreadsheet takes for a formula at the beginning of a cell (OWASP, CSV Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def orders_csv(state: EventState, clock: Clock) -> Iterator[str]:
    """A header and a line for each order, in the order of their arrival, in pieces of `ROWS_AT_ONCE` lines.

    The state does not change: a file is of one moment, however long it takes.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for number, order in enumerate(state.orders_by_arrival(), start=1):
        view = order_view(order, state.waiting_position(order))
        writer.writerow([_cell(view[name]) for name in COLUMNS])
        if number % ROWS_AT_ONCE == 0:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
            clock.sleep(TURN_S)  # a green thread's turn ends only where it waits
    yield out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"  # so it is shown as it is, and never calculated
    return value
