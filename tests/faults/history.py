"""What clients saw and what the ledger holds: simulated runs and real ones leave the same record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Attempt:
    """One request as its client saw it, in plain values: the checker knows nothing of the domain."""

    client: str
    kind: str  # initialize, book, cancel, read
    event_id: str
    asked: dict[str, Any]
    key: bytes | None
    invoked: int  # places in the one order of all that clients send and get
    invoked_s: float
    returned: int | None = None  # None: it was cut off, by a crash or the client's own time limit
    returned_s: float | None = None
    # confirmed, waiting, cancelled, initialized, read, unavailable, failed; refused:<code>; error:<what>;
    # turned away: there was no connection
    outcome: str = "cut off"
    new_order_id: str | None = None
    order_id: str | None = None
    version: int | None = None
    position: int | None = None
    promoted: list[str] = field(default_factory=list)
    replayed: bool = False
    seen: dict[str, Any] = field(default_factory=dict)


@dataclass
class History:
    """What a run left: the clients' attempts and the ledger as a majority has it."""

    attempts: list[Attempt]
    ledger: list[dict[str, Any]]
    longest_s: float  # no request may take longer
    faults: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    story: list[str] = field(default_factory=list)
