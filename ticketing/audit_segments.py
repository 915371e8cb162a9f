"""Whether the segments of a long ledger say what its commits say. Shares no code with what writes and reads them.

A segment that is of other commits than those that the ledger has now counts for nobody, and is no finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Document = dict[str, Any]

_ORDER = {"ticket_type": "general", "unit_price": "0.00", "currency": None}  # what a commit does not say of most
_OF_ORDER = {
    "order_id": "order_ids",
    "user_id": "user_ids",
    "quantity": "quantities",
    "ticket_type": "ticket_types",
    "unit_price": "unit_prices",
    "currency": "currencies",
}
_STATUSES = {"booked": "confirmed", "waitlisted": "waiting"}


class SegmentsAudit:
    """Compares the segments of an event, sorted by `_id`, with its commits as they pass by. Then `findings` has all."""

    def __init__(self, segments: Iterable[Document]) -> None:
        self.findings: list[str] = []
        self._left = iter(segments)
        self._segment = next(self._left, None)
        self._commits: list[Document] = []  # of that segment, so far

    def watched(self, commits: Iterable[Document]) -> Iterator[Document]:
        """The commits, which are passed on."""
        for commit in commits:
            while self._segment is not None and not str(commit["_id"]) <= self._segment["_id"]:
                self._close(self._segment)
            if self._segment is not None:
                self._commits.append(commit)
            yield commit
        if self._segment is not None:
            self._close(self._segment)

    def _close(self, segment: Document) -> None:
        commits, self._commits, self._segment = self._commits, [], next(self._left, None)
        if [commit.get("checksum") for commit in commits] == segment.get("commits") and not _agree(segment, commits):
            self.findings.append(f"segment {segment['_id']!r} says something else than its commits")


def _agree(segment: Document, commits: Iterable[Document]) -> bool:
    try:
        said = [_completed(transition) for transition in _transitions(segment["parts"])]
        return said == [_completed(transition) for commit in commits for transition in commit["transitions"]]
    except (AttributeError, LookupError, TypeError, ValueError):  # one of them is damaged
        return False


def _transitions(parts: Iterable[Document]) -> Iterator[Document]:
    """As they stand in a commit."""
    for part in parts:
        if "row" in part:
            yield from (_of_row(part, place) for place in range(part["count"]))
        else:
            yield part


def _of_row(row: Document, place: int) -> Document:
    def value(name: str) -> Any:
        column = row[name]
        return column[place] if isinstance(column, list) else column["all"]

    order = {name: value(column) for name, column in _OF_ORDER.items()}
    transition = {
        "version": row["first"] + place,
        "type": row["row"],
        "at": value("times"),
        "orders": [order | {"status": _STATUSES[row["row"]]}],
    }
    if value("callers") is not None:
        transition["by"] = value("callers")
    if value("keys") is not None:
        transition["request"] = {"key": value("keys"), "fingerprint": value("fingerprints")}
    return transition


def _completed(transition: Document) -> Document:
    """With what is said of new orders only where it is not as usual."""
    orders = [_ORDER | order if "user_id" in order else order for order in transition.get("orders", ())]
    return transition | {"orders": orders}
