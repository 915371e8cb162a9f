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
        │   ├── ExceedsMaxTicketsPerUser    details: maximum
        │   ├── ExceedsTotalTickets         details: maximum
        │   ├── SalesNotOpen                details: sales_open_at, retry_after_s
        │   ├── SalesClosed
        │   ├── EventCancelled
        │   ├── VersionConflict             details: version
        │   ├── InvalidSchedule             details: field, reason
        │   ├── UnknownTicketType           details: ticket_type
        │   ├── TicketTypeRequired
        │   ├── InvalidTicketTypes          details: field, reason
        │   ├── ExceedsOrderQuantity        details: maximum
        │   ├── OrderNotConfirmed           details: order_status
        │   ├── TransferClosed
        │   ├── NotEnoughTickets            details: available_tickets
        │   ├── BulkRefused                 details: count, refused
        │   ├── BelowBookedTickets          details: minimum, ticket_type
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

    is_final: ClassVar[bool] = True  # the same request gets it again, whenever it comes
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
    """A user has one active order an event.

    Whoever books under the user's name is told its `order_id`, whether or not the name is proven; whoever hands tickets
    on to that name is not: None.
    """

    code = "already_booked"

    def __init__(self, order_id: str | None) -> None:
        super().__init__("This user has an active order for this event.", order_id=order_id)


class ExceedsMaxTicketsPerOrder(Refusal):
    """More tickets than one order of this event may hold."""

    code = "exceeds_max_tickets_per_order"

    def __init__(self, maximum: int) -> None:
        super().__init__(f"One order of this event holds {maximum} tickets at most.", maximum=maximum)


class ExceedsMaxTicketsPerUser(Refusal):
    """More tickets than one user may have for this event."""

    code = "exceeds_max_tickets_per_user"

    def __init__(self, maximum: int) -> None:
        super().__init__(f"A user may have {maximum} tickets of this event at most.", maximum=maximum)


class ExceedsTotalTickets(Refusal):
    """More tickets than there are at all of their type: the order could never be confirmed."""

    code = "exceeds_total_tickets"

    def __init__(self, maximum: int) -> None:
        super().__init__(f"There are {maximum} tickets in all.", maximum=maximum)


class SalesNotOpen(Refusal):
    """Too early. Not final: the same request, with the same Idempotency-Key, may succeed later."""

    code = "sales_not_open"
    is_final = False

    def __init__(self, sales_open_at: str, retry_after_s: int) -> None:
        message = f"Sales open at {sales_open_at}."
        super().__init__(message, sales_open_at=sales_open_at, retry_after_s=retry_after_s)


class SalesClosed(Refusal):
    """Too late."""

    code = "sales_closed"

    def __init__(self) -> None:
        super().__init__("Sales for this event are closed.")


class EventCancelled(Refusal):
    """There will be no event."""

    code = "event_cancelled"

    def __init__(self) -> None:
        super().__init__("This event was cancelled.")


class VersionConflict(Refusal):
    """The event is not what the caller has seen (RFC 9110, 13.1.1)."""

    code = "precondition_failed"

    def __init__(self, version: int) -> None:
        super().__init__(f"The event has changed: its version is {version} now.", version=version)


class InvalidSchedule(Refusal):
    """The times of an event contradict each other."""

    code = "invalid_schedule"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason, field=field, reason=reason)


class UnknownTicketType(Refusal):
    """The event has no type with this code."""

    code = "unknown_ticket_type"

    def __init__(self, ticket_type: str) -> None:
        super().__init__(f"This event has no ticket type {ticket_type!r}.", ticket_type=ticket_type)


class TicketTypeRequired(Refusal):
    """The event has several types, and the booking names none."""

    code = "ticket_type_required"

    def __init__(self) -> None:
        super().__init__("This event has several ticket types: name one.")


class InvalidTicketTypes(Refusal):
    """What was said of an event's ticket types cannot be."""

    code = "invalid_ticket_types"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason, field=field, reason=reason)


class ExceedsOrderQuantity(Refusal):
    """More tickets than the order has."""

    code = "exceeds_order_quantity"

    def __init__(self, maximum: int) -> None:
        super().__init__(f"This order has {maximum} tickets.", maximum=maximum)


class OrderNotConfirmed(Refusal):
    """Only tickets can be handed on, not a place in line, nor what was given back."""

    code = "order_not_confirmed"

    def __init__(self, order_status: str) -> None:
        super().__init__(f"This order is {order_status}.", order_status=order_status)


class TransferClosed(Refusal):
    """Too late for tickets to change hands."""

    code = "transfer_closed"

    def __init__(self) -> None:
        super().__init__("Tickets of this event can no longer be transferred.")


class NotEnoughTickets(Refusal):
    """A booking that was to be confirmed at once, or not at all, would have to wait."""

    code = "not_enough_tickets"

    def __init__(self, available_tickets: int) -> None:
        message = f"{available_tickets} tickets of this type are available."
        super().__init__(message, available_tickets=available_tickets)


class BulkRefused(Refusal):
    """Not all of many bookings can be confirmed, and they were to be all or none.

    `count` is how many there are. `refused` tells of each that cannot: `{"index": its place from 0, "code": …,
    "details": {…}}` of its refusal.
    """

    code = "bulk_refused"

    def __init__(self, count: int, refused: list[dict[str, Any]]) -> None:
        super().__init__("Not all of these can be confirmed: see results. None was.", count=count, refused=refused)


class BelowBookedTickets(Refusal):
    """Fewer tickets of a type than are booked, or held for those who wait."""

    code = "below_booked_tickets"

    def __init__(self, minimum: int, ticket_type: str) -> None:
        message = f"{minimum} tickets of the type {ticket_type!r} are booked or held for who waits."
        super().__init__(message, minimum=minimum, ticket_type=ticket_type)


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
