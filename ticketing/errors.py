"""Everything that can go wrong, as the domain and the storage see it: no HTTP in here.

    Exception
    ├── ConfigError                     a setting is wrong: the service does not start
    └── TicketingError                  code, retryable, details
        ├── Refusal                     decided by an event's rules; nothing changed
        │   ├── EventNotFound
        │   ├── EventExists
        │   ├── OrderNotFound
        │   ├── AlreadyBooked           details: order_id
        │   ├── ExceedsMaxTicketsPerOrder   details: maximum
        │   ├── ExceedsTotalTickets         details: maximum
        │   └── IdempotencyKeyReused
        └── Unavailable                 nothing was decided, or nobody can know yet what was
            ├── StorageUnavailable      unknown: repeat it with the same Idempotency-Key
            ├── Overloaded              refused before it was tried
            └── LedgerDamaged           the event's ledger contradicts itself

`code` is stable and stands in every answer. `retryable` says that the same request may succeed later.
`api/problems.py` gives each of them its one HTTP answer; a test walks this tree and fails where one is missing.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ConfigError(Exception):
    """A setting is missing or wrong. The message names the variable and what is allowed."""


class TicketingError(Exception):
    """Base of all errors that a request can meet. `details` are facts for the client, JSON values only."""

    code: ClassVar[str]
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Refusal(TicketingError):
    """The event's rules say no. A refused command changes nothing.

    `details` are the arguments that the refusal was made with: this is how the ledger keeps a refusal for the
    repeat of its Idempotency-Key, and makes it again.
    """

    replayed: bool = False  # the answer to a repeated Idempotency-Key

    def anew(self, *, replayed: bool = False) -> Refusal:
        """The same refusal without a traceback: one that is kept must not hold the frames that raised it."""
        refusal = type(self)(**self.details)
        refusal.replayed = replayed
        return refusal


class EventNotFound(Refusal):
    """No ledger begins under this event id."""

    code = "event_not_found"

    def __init__(self, event_id: str) -> None:
        super().__init__(f"There is no event {event_id!r}.", event_id=event_id)


class EventExists(Refusal):
    """The event id is taken."""

    code = "event_exists"

    def __init__(self, event_id: str) -> None:
        super().__init__(f"The event {event_id!r} exists already.", event_id=event_id)


class OrderNotFound(Refusal):
    """No such order, or no active order of this user."""

    code = "order_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such order.")


class AlreadyBooked(Refusal):
    """A user has one active order an event."""

    code = "already_booked"

    def __init__(self, order_id: str) -> None:
        super().__init__("This user has an active order for this event.", order_id=order_id)


class ExceedsMaxTicketsPerOrder(Refusal):
    """More tickets than one order of this event may hold."""

    code = "exceeds_max_tickets_per_order"

    def __init__(self, maximum: int) -> None:
        super().__init__(f"One order of this event holds {maximum} tickets at most.", maximum=maximum)


class ExceedsTotalTickets(Refusal):
    """More tickets than the event has at all: the order could never be confirmed."""

    code = "exceeds_total_tickets"

    def __init__(self, maximum: int) -> None:
        super().__init__(f"This event has {maximum} tickets in all.", maximum=maximum)


class IdempotencyKeyReused(Refusal):
    """The Idempotency-Key came before, with another request."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with another request.")


class Unavailable(TicketingError):
    """The service cannot answer now. `retry_after_s` says when to come back, in whole seconds."""

    retryable = True
    retry_after_s: ClassVar[int] = 1


class StorageUnavailable(Unavailable):
    """MongoDB did not answer in time. What was asked may have happened: repeat with the same key to know."""

    code = "storage_unavailable"

    def __init__(
        self,
        message: str = "The storage did not answer in time. Whether the request took effect is unknown: "
        "repeat it with the same Idempotency-Key.",
    ) -> None:
        super().__init__(message)


class Overloaded(Unavailable):
    """Too many requests are under way already, or wait for this event. Nothing was tried."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("Too many requests at once. Nothing was done: come back after the time in Retry-After.")


class LedgerDamaged(Unavailable):
    """The ledger of this event has a gap or a contradiction. Other events are not affected."""

    code = "ledger_damaged"
    retry_after_s = 60

    def __init__(self, event_id: str, finding: str) -> None:
        super().__init__(f"The ledger of event {event_id!r} is damaged and must be repaired by the operator.")
        self.event_id = event_id
        self.finding = finding
