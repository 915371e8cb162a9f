"""What can be asked of an event. A command carries all that deciding needs: new ids are drawn at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .model import MAX_TICKETS_PER_ORDER, RequestKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`by` is the authenticated user, if any; `request` the Idempotency-Key, if one was sent."""

    event_id: str
    by: str | None = None
    request: RequestKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialize(Command):
    """Open an event with `total_tickets` (>= 1) tickets. `details` are further fields of `model.Event`."""

    name: str
    total_tickets: int
    max_tickets_per_order: int = MAX_TICKETS_PER_ORDER
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Command):
    """Set fields of an event. `version`: refuse unless this is the event's; None: whatever it is."""

    fields: Mapping[str, Any]
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEvent(Command):
    """Sell no more tickets, for good. Orders stay what they are, and may be cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book(Command):
    """Book `quantity` (>= 1) tickets, all or nothing; `order_id` is the new order's id."""

    order_id: str
    user_id: str
    quantity: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Command):
    """Cancel an order by its id, or the active order of a user. Exactly one of the two is given."""

    order_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pseudonymize(Command):
    """Give all orders of a user to a pseudonym, and the event too where it is his. `by` must not be his name."""

    user_id: str
    pseudonym: str
