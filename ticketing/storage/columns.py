"""What a fold takes <-> documents: rows of bookings by columns, other transitions as in a commit.

    {"row": "booked", "first": 2, "count": 1800, "times": [Date, …], "callers": {"all": null}, "keys": [Binary, …],
     "fingerprints": [Binary, …], "order_ids": […], "user_ids": […], "quantities": {"all": 1}, …}

A column in which nothing differs is said once. The driver makes a list of a column in one go, where it makes two or
three documents for each booking of a commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

from ..domain.model import Transition, TransitionType
from ..domain.rows import Row, transitions_in
from .documents import price_of, times_in_utc, transition_document, transitions_of

Document = dict[str, Any]

_COLUMNS = tuple(each.name for each in fields(Row) if each.name not in {"type", "versions"})


def part_documents(parts: Iterable[Transition | Row]) -> list[Document]:
    """A document for each row and for each other transition."""
    documents: list[Document] = []
    for part in parts:
        if isinstance(part, Row) and part.is_usual:  # what is of other types, and equal, would be said once for all
            documents.append(_row_document(part))
        else:
            documents += map(transition_document, transitions_in([part]))
    return documents


def parts_of(documents: Sequence[Document]) -> list[Transition | Row]:
    """What `part_documents` was given. Raises as `transitions_of` does for what it has not made."""
    parts: list[Transition | Row] = []
    for is_row, found in groupby(documents, lambda document: "row" in document):
        same = [*found]
        parts += map(_row_of, same) if is_row else transitions_of(same)
    return parts


def _row_document(row: Row) -> Document:
    columns = {name: _column(getattr(row, name)) for name in _COLUMNS}
    columns["unit_prices"] = _column([str(price) for price in row.unit_prices])
    return {"row": row.type.value, "first": row.versions[0], "count": len(row), **columns}


def _row_of(document: Document) -> Row:
    first, count = document["first"], document["count"]
    columns = {name: _values(document[name], count) for name in _COLUMNS}
    columns["times"] = times_in_utc(columns["times"])
    columns["unit_prices"] = [price_of(price) for price in columns["unit_prices"]]
    return Row(TransitionType(document["row"]), tuple(range(first, first + count)), **columns)


def _column(values: Sequence[Any]) -> Sequence[Any] | Document:
    return {"all": values[0]} if values.count(values[0]) == len(values) else values


def _values(column: Any, count: int) -> list[Any]:
    return column if isinstance(column, list) else [column["all"]] * count
