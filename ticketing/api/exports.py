"""Orders as a file for spreadsheets: CSV after RFC 4180, made while it is sent."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..clock import TURN_S, Clock
from ..domain.model import EventState
from .schemas import OrderSchema, order_view, rfc3339

COLUMNS = tuple(OrderSchema().fields)

ROWS_AT_ONCE = 200
"""Some 5 ms of work, before others have their turn."""

# Where a spreadsheet takes what follows for a formula (OWASP, CSV Injection): at the beginning of a cell, or after what
# another one takes for the end of a cell. Some read the full-width signs as they read the others.
_FORMULA = re.compile(r"(^|[;|\t])(?=[=+\-@＝＋－＠\t\r\n])")


def orders_csv(state: EventState, clock: Clock) -> Iterator[str]:
    """A header and a line for each order, in the order of their arrival, in pieces of `ROWS_AT_ONCE` lines.

    The state does not change: a file is of one moment, however long it takes.
    """
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)  # then a separator inside of a cell is none, whichever is meant
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
    if isinstance(value, str):
        return _FORMULA.sub(r"\1'", value)  # so it is shown as it is, and never calculated
    return value
