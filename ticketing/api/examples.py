"""The examples in /openapi.json: what the service really answers.

Errors are made here, by the code that answers them. Requests and their answers were recorded: tests/api/story.py
asks and `make openapi` writes examples.json; a test asks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import errors
from .problems import HTTP_CODES, NAMED_CODES, ApiProblem, problem_of

RECORDED = Path(__file__).with_name("examples.json")

EVENT_ID = "concert-2027"
ORDER_ID = f"{EVENT_ID}.fLkwiTD0mRFuvTYBjYQGIA"

# One of each error of the domain, as an event with 100 tickets would raise it.
DOMAIN_ERRORS: tuple[errors.TicketingError, ...] = (
    errors.EventNotFound(EVENT_ID),
    errors.EventExists(EVENT_ID),
    errors.OrderNotFound(),
    errors.AlreadyBooked(ORDER_ID),
    errors.ExceedsMaxTicketsPerOrder(10),
    errors.ExceedsMaxTicketsPerUser(4),
    errors.ExceedsTotalTickets(100),
    errors.SalesNotOpen("2027-01-01T10:00:00.000Z", 3600),
    errors.SalesClosed(),
    errors.EventCancelled(),
    errors.VersionConflict(8),
    errors.InvalidSchedule("ends_at", "Must be after starts_at."),
    errors.UnknownTicketType("balcony"),
    errors.TicketTypeRequired(),
    errors.InvalidTicketTypes("total_tickets", "Not for several ticket types: set it for each of them."),
    errors.ExceedsOrderQuantity(2),
    errors.OrderNotConfirmed("waiting"),
    errors.TransferClosed(),
    errors.NotEnoughTickets(0),
    errors.BulkRefused(2, [{"index": 1, "code": "not_enough_tickets", "details": {"available_tickets": 0}}]),
    errors.BelowBookedTickets(42, "general"),
    errors.IdempotencyKeyReused(),
    errors.StorageUnavailable(),
    errors.Overloaded(),
    errors.LedgerDamaged(EVENT_ID, ""),
)

# Of the codes that say by field what is wrong, such a field.
WRONG_FIELDS = {
    "validation_failed": {"quantity": ["Not a valid integer."]},
    "weak_password": {"password": ["Is among the first that are guessed: too common."]},
}

# What the service answers for some statuses has the same code whether the domain or HTTP refuses.
REFUSALS = frozenset(error.code for error in DOMAIN_ERRORS if isinstance(error, errors.Refusal))

# What the repeat of a request with an Idempotency-Key gets again. The others are no answers of an event: there is none,
# the key is another request's, or it is too early to say.
REPLAYABLE = frozenset(
    error.code for error in DOMAIN_ERRORS if isinstance(error, errors.Refusal) and error.is_final
) - {errors.EventNotFound.code, errors.IdempotencyKeyReused.code}


def problems() -> dict[str, ApiProblem]:
    """A problem for each code that an operation may answer with."""
    return {problem.code: problem for problem in _problems()}


def recorded() -> dict[str, Any]:
    """The recorded examples by operationId: {"requests": examples, "responses": {status: {"examples": examples,
    "headers": {name: value}}}}, where examples are {name: {"summary", "value"}} as OpenAPI has them."""
    examples: dict[str, Any] = json.loads(RECORDED.read_text())
    return examples


def _problems() -> Iterator[ApiProblem]:
    for status, (code, _) in HTTP_CODES.items():
        yield ApiProblem(status, members=_members(code))
    for code in NAMED_CODES:
        fields = WRONG_FIELDS.get(code)
        detail = None if fields is None else next(iter(fields.values()))[0]
        yield ApiProblem.named(code, detail, members=_members(code))
    yield from map(problem_of, DOMAIN_ERRORS)


def _members(code: str) -> dict[str, Any]:
    return {"errors": WRONG_FIELDS[code]} if code in WRONG_FIELDS else {}
