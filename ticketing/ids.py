"""New ids. An order's id begins with its event's: any worker finds the ledger of an order without an index."""

from __future__ import annotations

import hashlib
import re
import secrets

EVENT_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
ORDER_ID_PATTERN = re.compile(rf"({EVENT_ID_PATTERN.pattern})\.[A-Za-z0-9_-]{{22}}", re.ASCII)


def new_event_id(seed: str | None = None) -> str:
    """An id for an event that was given none. The same seed makes the same id, so that a repeat finds it."""
    if seed is None:
        return secrets.token_hex(8)
    return hashlib.sha256(seed.encode()).hexdigest()[:16]


def new_order_id(event_id: str) -> str:
    """128 random bits behind the event's id: who has the id may read the order, so it cannot be guessed."""
    return f"{event_id}.{secrets.token_urlsafe(16)}"


def is_event_id(text: str) -> bool:
    """Whether `text` has the form of an event id. Anything else never reaches a query."""
    return EVENT_ID_PATTERN.fullmatch(text) is not None


def event_id_of(order_id: str) -> str | None:
    """The event that an order id belongs to; None for a text that is no order id."""
    match = ORDER_ID_PATTERN.fullmatch(order_id)
    return match and match[1]
