"""What clients saw and what the ledger holds: simulated runs and real ones leave the same record."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class Attempt:
    """One request as its client saw it, in plain values: the checker knows nothing of the domain.

    `told` holds what the answer says of orders: `order` and, after a transfer, `sender`, each as in the ledger; of many
    bookings `results`, each `{"order", "position"}` or `{"refused"}`; of a refusal its details. `seen` holds figures.
    """

    client: str
    kind: str  # initialize, book, bulk, cancel, transfer, update, end, erase, read
    event_id: str
    asked: dict[str, Any]
    key: bytes | None
    invoked: int  # places in the one order of all that clients send and get
    invoked_s: float
    returned: int | None = None  # None: it was cut off, by a crash or the client's own time limit
    returned_s: float | None = None
    gave_up_s: float | None = None  # when its client waited no longer: its own time limit, or a crash that it noticed
    # confirmed, waiting, cancelled, bulk, initialized, updated, read, unavailable, failed; refused:<code>;
    # error:<what>; turned away: there was no connection
    outcome: str = "cut off"
    new_order_ids: list[str] = field(default_factory=list)
    order_id: str | None = None
    version: int | None = None
    position: int | None = None
    promoted: list[str] = field(default_factory=list)
    replayed: bool = False
    told: dict[str, Any] = field(default_factory=dict)
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
    began: datetime | None = None  # what the time 0 of the attempts is on the clock of the service, where that is known
