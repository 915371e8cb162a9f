"""Errors -> `application/problem+json` (RFC 9457). Every error that a client can meet leaves through here.

An error's answer is decided by its class alone: `STATUSES` gives each domain error its status, Werkzeug's own
exceptions bring theirs, and anything else is a 500 that says nothing about its cause.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from .. import errors
from ..domain.refusals import refused_in

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
REPLAYED_HEADER = "Idempotent-Replayed"
TYPE_PREFIX = "urn:ticketing:problem:"

STATUSES: Mapping[type[errors.TicketingError], HTTPStatus] = {
    errors.EventNotFound: HTTPStatus.NOT_FOUND,
    errors.EventExists: HTTPStatus.CONFLICT,
    errors.OrderNotFound: HTTPStatus.NOT_FOUND,
    errors.AlreadyBooked: HTTPStatus.CONFLICT,
    errors.ExceedsMaxTicketsPerOrder: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ExceedsMaxTicketsPerUser: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ExceedsTotalTickets: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SalesNotOpen: HTTPStatus.CONFLICT,
    errors.SalesClosed: HTTPStatus.CONFLICT,
    errors.EventCancelled: HTTPStatus.CONFLICT,
    errors.VersionConflict: HTTPStatus.PRECONDITION_FAILED,
    errors.InvalidSchedule: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownTicketType: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TicketTypeRequired: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidTicketTypes: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ExceedsOrderQuantity: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.OrderNotConfirmed: HTTPStatus.CONFLICT,
    errors.TransferClosed: HTTPStatus.CONFLICT,
    errors.NotEnoughTickets: HTTPStatus.CONFLICT,
    errors.BulkRefused: HTTPStatus.CONFLICT,
    errors.BelowBookedTickets: HTTPStatus.CONFLICT,
    errors.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.LedgerDamaged: HTTPStatus.SERVICE_UNAVAILABLE,
}

# The field that a refusal is about, for those that a better value would mend.
FIELDS: Mapping[type[errors.TicketingError], str] = {
    errors.ExceedsMaxTicketsPerOrder: "quantity",
    errors.ExceedsMaxTicketsPerUser: "quantity",
    errors.ExceedsTotalTickets: "quantity",
    errors.ExceedsOrderQuantity: "quantity",
    errors.UnknownTicketType: "ticket_type",
    errors.TicketTypeRequired: "ticket_type",
    errors.IdempotencyKeyReused: "Idempotency-Key",
}

# What Werkzeug and Flask raise by themselves, by status: the code and a sentence without their HTML.
HTTP_CODES: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request cannot be understood."),
    401: ("unauthorized", "This needs a user name and a password (HTTP Basic), or an access token (Bearer)."),
    403: ("forbidden", "This user may not do that."),
    404: ("not_found", "There is nothing at this path."),
    405: ("method_not_allowed", "This path does not answer to this method."),
    412: ("precondition_failed", "This is not the version that If-Match names."),
    413: ("body_too_large", "The body is larger than 64 KiB, or 384 KiB for /bookings/bulk."),
    414: ("uri_too_long", "The request line is too long."),
    415: ("unsupported_media_type", "The body must be JSON: send Content-Type: application/json."),
    422: ("validation_failed", "Some fields are wrong: see errors."),
    428: ("precondition_required", "This needs If-Match: the ETag of what is to be changed, or *."),
    429: ("rate_limited", "Too many requests. Come back after the time in Retry-After."),
    431: ("headers_too_large", "There are too many header fields, or one of them is too large."),
    500: ("internal_error", "Something went wrong on our side. The X-Request-ID finds it in the log."),
}

# Errors of the HTTP layer that have a code of their own: the status and what is said of it unless told otherwise.
NAMED_CODES: Mapping[str, tuple[int, str]] = {
    "invalid_json": (400, "The body is not valid JSON."),
    "invalid_idempotency_key": (400, "Idempotency-Key must be 1 to 255 visible ASCII characters."),
    "invalid_refresh_token": (401, "This refresh token is not valid any more: log in again."),
    "authentication_not_configured": (
        403,
        "This service has no users. Its operator must set BASIC_AUTH_USERNAME and BASIC_AUTH_PASSWORD.",
    ),
    "tokens_not_configured": (403, "This service issues no tokens. Its operator must set JWT_SECRET_KEY."),
    "wrong_password": (403, "This is not the present password."),
    "user_not_found": (404, "There is no such user."),
    "webhook_not_found": (404, "There is no such webhook."),
    "account_in_settings": (409, "This account stands in the settings: its operator changes it there."),
    "user_changed": (409, "The account was changed meanwhile. Look at it and try again."),
    "user_exists": (409, "This user id is taken."),
    "weak_password": (422, "This password is easily guessed."),
}

# Of Werkzeug's own headers, those that say something to a client; its Content-Type is for HTML.
KEPT_HEADERS = frozenset({"Allow", "Retry-After", "Location", "Content-Range"})


_encode = json.JSONEncoder(separators=(",", ":")).encode


class ApiProblem(Exception):
    """An error of the HTTP layer: `status`, its stable `code`, a `detail` for people, extra headers.

    `members` are further members of the problem, like `errors`. What is not given has its usual value.
    """

    def __init__(
        self,
        status: int,
        code: str | None = None,
        detail: str | None = None,
        *,
        headers: Mapping[str, str | list[str]] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        usual_code, usual_detail = HTTP_CODES.get(status) or _phrases(status)
        self.status = status
        self.code = code or usual_code
        self.detail = detail or usual_detail
        self.headers = headers or {}
        self.members = members or {}
        super().__init__(self.detail)

    @classmethod
    def named(
        cls,
        code: str,
        detail: str | None = None,
        *,
        headers: Mapping[str, str | list[str]] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> ApiProblem:
        """The problem with a code of NAMED_CODES."""
        status, usual_detail = NAMED_CODES[code]
        return cls(status, code, detail or usual_detail, headers=headers, members=members)

    @property
    def body(self) -> dict[str, Any]:
        """What RFC 9457 calls a problem details object."""
        return {
            "type": TYPE_PREFIX + self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": int(self.status),
            "detail": self.detail,
            "code": self.code,
            **self.members,
        }

    def response(self) -> Response:
        """The answer that carries this problem."""
        return Response(
            _encode(self.body) + "\n", status=self.status, headers=dict(self.headers), content_type=MEDIA_TYPE
        )


def register_error_handlers(app: Flask) -> None:
    """Make every error of the app leave as a problem."""
    app.register_error_handler(ApiProblem, lambda problem: problem.response())
    app.register_error_handler(errors.TicketingError, _domain_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)


def _domain_error(error: errors.TicketingError) -> Response:
    return problem_of(error).response()


def problem_of(error: errors.TicketingError) -> ApiProblem:
    """The one answer that this domain error has."""
    status = STATUSES[type(error)]
    members = dict(error.details)
    field = FIELDS.get(type(error))
    if field is not None:
        members["errors"] = {field: [error.message]}
    headers: dict[str, str | list[str]] = {}
    if isinstance(error, errors.Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.SalesNotOpen):
        headers["Retry-After"] = str(error.details["retry_after_s"])
    if isinstance(error, errors.InvalidSchedule | errors.InvalidTicketTypes):
        members = {"errors": {error.details["field"]: [error.message]}}
    if isinstance(error, errors.BulkRefused):
        members = {"results": _bulk_results(error)}
    if isinstance(error, errors.Refusal) and error.replayed:
        headers[REPLAYED_HEADER] = "true"
    return ApiProblem(status, error.code, error.message, headers=headers, members=members)


def _bulk_results(error: errors.BulkRefused) -> list[dict[str, Any]]:
    """A result for each booking: those that would have been confirmed failed with the others."""
    refused = refused_in(error)
    with_others = ApiProblem(HTTPStatus.FAILED_DEPENDENCY, detail="It could be confirmed, but others cannot.")
    problems = [
        problem_of(refused[index]) if index in refused else with_others for index in range(error.details["count"])
    ]
    return [{"status": problem.status, "error": problem.body} for problem in problems]


def _http_error(error: HTTPException) -> Response:
    headers = {name: value for name, value in error.get_headers() if name in KEPT_HEADERS}
    return ApiProblem(error.code or 500, headers=headers).response()


def _unexpected_error(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return ApiProblem(500).response()


def _phrases(status: int) -> tuple[str, str]:
    phrase = HTTPStatus(status).phrase
    return phrase.lower().replace(" ", "_").replace("-", "_"), f"{phrase}."
