"""Every error has one answer, and each is given here through HTTP: problem+json, as RFC 9457 has it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, NoReturn

import pytest
from flask import Flask, Response
from mongomock.collection import Collection
from pymongo.errors import AutoReconnect, OperationFailure

from ticketing import errors
from ticketing.api.examples import problems
from ticketing.api.problems import HTTP_CODES, STATUSES, TYPE_PREFIX
from ticketing.domain.model import EventState, Transition
from ticketing.manager import TicketManager
from ticketing.services import EXTENSION

from .conftest import ADMIN, EVENT_ID, PROBLEM, PROBLEM_MEMBERS, Answer, Api, MakeApp, SteppingClock, refused

SECRET = "mongodb://ada:secret@db.example:27017"
ORDER_ID = f"{EVENT_ID}.AAAAAAAAAAAAAAAAAAAAAA"


class FailingLedger:
    """A ledger that fails with one error, whatever it is asked."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> NoReturn:
        """Fail."""
        raise self._error

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
        """Fail."""
        raise self._error

    def events_with_keys(self, keys: Iterable[bytes], deadline: float) -> NoReturn:
        """Fail."""
        raise self._error


def replace_ledger(app: Flask, ledger: Any, **limits: Any) -> None:
    """From now on `app` books into `ledger`."""
    manager = TicketManager(ledger, SteppingClock(), **limits)
    app.extensions[EXTENSION] = replace(app.extensions[EXTENSION], manager=manager)


def every_request(api: Api) -> Iterator[Answer]:
    """Each operation that touches an event, once."""
    yield api.initialize()
    yield api.book("ada")
    yield api.cancel("ada")
    yield api.cancel_order(ORDER_ID)
    yield api.get(f"/orders/{ORDER_ID}")
    for view in ("", "/availability", "/waiting-list", "/orders"):
        yield api.get(f"/events/{EVENT_ID}{view}", staff=True)
    yield api.get(f"/status/{EVENT_ID}")


def concrete_errors(base: type[errors.TicketingError] = errors.TicketingError) -> Iterator[type[Any]]:
    """The errors of the service that can be raised: those with a code of their own."""
    if "code" in vars(base):
        yield base
    for below in base.__subclasses__():
        if below.__module__.startswith("ticketing."):
            yield from concrete_errors(below)


# How each error is met. What a test sends is an ordinary request; what fails is the storage.


def _event_not_found(api: Api) -> Answer:
    return api.get("/status/nowhere")


def _event_exists(api: Api) -> Answer:
    api.initialize()
    return api.initialize()


def _order_not_found(api: Api) -> Answer:
    return api.get(f"/orders/{ORDER_ID}")


def _already_booked(api: Api) -> Answer:
    api.initialize()
    api.book("ada")
    return api.book("ada")


def _exceeds_max_tickets_per_order(api: Api) -> Answer:
    api.initialize(100)
    return api.book("ada", 11)


def _exceeds_total_tickets(api: Api) -> Answer:
    api.initialize(3)
    return api.book("ada", 4)


def _idempotency_key_reused(api: Api) -> Answer:
    api.initialize()
    api.book("ada", key="k")
    return api.book("bob", key="k")


def _storage_unavailable(api: Api) -> Answer:
    replace_ledger(api.app, FailingLedger(errors.StorageUnavailable()))
    return api.book("ada")


def _overloaded(api: Api) -> Answer:
    replace_ledger(api.app, FailingLedger(AssertionError("nothing is tried")), queue_length_max=0)
    return api.book("ada")


def _ledger_damaged(api: Api) -> Answer:
    api.initialize()
    gap = {"_id": f"{EVENT_ID}:000000000003", "event_id": EVENT_ID, "first": 3, "last": 3, "nonce": b""}
    booked = {"version": 3, "type": "booked", "at": SteppingClock().now(), "orders": []}
    api.services.database["ledger"].insert_one(gap | {"transitions": [booked]})
    return api.get(f"/status/{EVENT_ID}")


def _exceeds_max_tickets_per_user(api: Api) -> Answer:
    api.initialize(max_tickets_per_user=2)
    return api.book("ada", 3)


def _sales_not_open(api: Api) -> Answer:
    api.initialize(sales_open_at="2030-01-01T00:00:00Z")
    return api.book("ada")


def _sales_closed(api: Api) -> Answer:
    api.initialize(sales_close_at="2020-01-01T00:00:00Z")
    return api.book("ada")


def _event_cancelled(api: Api) -> Answer:
    api.initialize()
    api.cancel_event()
    return api.book("ada")


def _version_conflict(api: Api) -> Answer:
    api.initialize()
    return api.update(7, venue="City Hall")


def _invalid_schedule(api: Api) -> Answer:
    return api.initialize(starts_at="2027-01-02T00:00:00Z", ends_at="2027-01-01T00:00:00Z")


def _below_booked_tickets(api: Api) -> Answer:
    api.initialize(3)
    api.book("ada", 2)
    return api.update(total_tickets=1)


def _unknown_ticket_type(api: Api) -> Answer:
    api.initialize()
    return api.book("ada", ticket_type="balcony")


def _ticket_type_required(api: Api) -> Answer:
    api.initialize(None, ticket_types=[{"code": "a", "total_tickets": 1}, {"code": "b", "total_tickets": 1}])
    return api.book("ada")


def _invalid_ticket_types(api: Api) -> Answer:
    api.initialize()
    return api.update(ticket_types=[{"code": "balcony"}])


def _exceeds_order_quantity(api: Api) -> Answer:
    api.initialize()
    api.book("ada", 2)
    return api.cancel("ada", quantity=3)


def _order_not_confirmed(api: Api) -> Answer:
    api.initialize(1)
    api.book("ada")
    return api.transfer(api.book("bob").json["order_id"], "cyd")


def _transfer_closed(api: Api) -> Answer:
    api.initialize(transfer_close_at="2020-01-01T00:00:00Z")
    return api.transfer(api.book("ada").json["order_id"], "bob")


def _not_enough_tickets(api: Api) -> Any:
    problem = _bulk_refused(api).json["results"][1]["error"]  # told only of one among many
    return Response(json.dumps(problem), status=problem["status"], mimetype=PROBLEM)


def _bulk_refused(api: Api) -> Answer:
    api.initialize(1)
    return api.book_many({"user_id": "ada"}, {"user_id": "bob"}, mode="all_or_none")


PROVOKED: dict[type[errors.TicketingError], tuple[int, Callable[[Api], Answer], set[str]]] = {
    errors.EventNotFound: (404, _event_not_found, {"event_id"}),
    errors.UnknownTicketType: (422, _unknown_ticket_type, {"ticket_type", "errors"}),
    errors.TicketTypeRequired: (422, _ticket_type_required, {"errors"}),
    errors.InvalidTicketTypes: (422, _invalid_ticket_types, {"errors"}),
    errors.ExceedsOrderQuantity: (422, _exceeds_order_quantity, {"maximum", "errors"}),
    errors.OrderNotConfirmed: (409, _order_not_confirmed, {"order_status"}),
    errors.TransferClosed: (409, _transfer_closed, set()),
    errors.NotEnoughTickets: (409, _not_enough_tickets, {"available_tickets"}),
    errors.BulkRefused: (409, _bulk_refused, {"results"}),
    errors.EventExists: (409, _event_exists, {"event_id"}),
    errors.OrderNotFound: (404, _order_not_found, set()),
    errors.AlreadyBooked: (409, _already_booked, {"order_id"}),
    errors.ExceedsMaxTicketsPerOrder: (422, _exceeds_max_tickets_per_order, {"maximum", "errors"}),
    errors.ExceedsTotalTickets: (422, _exceeds_total_tickets, {"maximum", "errors"}),
    errors.ExceedsMaxTicketsPerUser: (422, _exceeds_max_tickets_per_user, {"maximum", "errors"}),
    errors.SalesNotOpen: (409, _sales_not_open, {"sales_open_at", "retry_after_s"}),
    errors.SalesClosed: (409, _sales_closed, set()),
    errors.EventCancelled: (409, _event_cancelled, set()),
    errors.VersionConflict: (412, _version_conflict, {"version"}),
    errors.InvalidSchedule: (422, _invalid_schedule, {"errors"}),
    errors.BelowBookedTickets: (409, _below_booked_tickets, {"minimum", "ticket_type"}),
    errors.IdempotencyKeyReused: (422, _idempotency_key_reused, {"errors"}),
    errors.StorageUnavailable: (503, _storage_unavailable, set()),
    errors.Overloaded: (503, _overloaded, set()),
    errors.LedgerDamaged: (503, _ledger_damaged, set()),
}


class TestDomainErrors:
    """The error tree of ticketing.errors."""

    def test_each_has_exactly_one_answer(self) -> None:
        """A row for each concrete error and for nothing else, and no two with the same code."""
        concrete = list(concrete_errors())
        assert len(concrete) >= 10
        assert set(concrete) == set(STATUSES)
        assert len({error.code for error in concrete}) == len(concrete)

    @pytest.mark.parametrize("error", list(concrete_errors()), ids=lambda error: error.code)
    def test_each_is_met_through_http(self, api: Api, error: type[errors.TicketingError]) -> None:
        """The status of its row, its code, and exactly the members that are told of it."""
        status, provoke, members = PROVOKED[error]
        answer = provoke(api)
        problem = refused(answer, status, error.code)
        assert STATUSES[error] == status
        assert problem.keys() == PROBLEM_MEMBERS | members
        assert problem["type"] == TYPE_PREFIX + error.code
        assert problem["title"] == HTTPStatus(status).phrase
        example = problems()[error.code].body
        assert problem.keys() == example.keys()
        assert {name: type(value) for name, value in problem.items()} == {
            name: type(value) for name, value in example.items()
        }
        if issubclass(error, errors.Unavailable):
            assert answer.headers["Retry-After"] == str(error.retry_after_s)

    def test_what_may_succeed_later_is_503_and_nothing_else_is(self) -> None:
        """`retryable` and the status agree."""
        for error, status in STATUSES.items():
            assert error.retryable == (status == HTTPStatus.SERVICE_UNAVAILABLE)

    def test_an_error_without_a_row_would_be_seen(self) -> None:
        """The negative control of the walk: it finds what is far down in the tree."""

        class Abstract(errors.TicketingError):
            pass

        class Concrete(Abstract):
            code = "concrete"

        Concrete.__module__ = "ticketing.errors"
        assert list(concrete_errors(Abstract)) == [Concrete]


class TestUnavailable:
    """No answer of MongoDB, in all operations."""

    @pytest.mark.parametrize("error", [errors.StorageUnavailable(), errors.LedgerDamaged(EVENT_ID, SECRET)])
    def test_every_operation_says_so(self, api: Api, error: errors.Unavailable) -> None:
        """503 with Retry-After, from each of them, and nothing of what was found."""
        replace_ledger(api.app, FailingLedger(error))
        for answer in every_request(api):
            refused(answer, 503, error.code)
            assert answer.headers["Retry-After"] == str(error.retry_after_s)
            assert "secret" not in answer.text

    @pytest.mark.parametrize(
        "error", [AutoReconnect(SECRET), OperationFailure(SECRET, 13, {"errmsg": SECRET})], ids=["away", "refused"]
    )
    def test_the_driver_is_not_quoted(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """503 when the deadline has passed, whatever the driver said, and without its words."""

        def fail(*args: Any, **options: Any) -> NoReturn:
            raise error

        for operation in ("insert_one", "find", "find_one"):
            monkeypatch.setattr(Collection, operation, fail)
        for answer in every_request(api):
            refused(answer, 503, "storage_unavailable")
            assert "secret" not in answer.text and "db.example" not in answer.text

    def test_one_damaged_ledger_stops_no_other_event(self, api: Api) -> None:
        """Only the event itself is not served."""
        _ledger_damaged(api)
        assert api.initialize(event_id="other").status_code == 201
        assert api.book("ada", event_id="other").status_code == 201
        refused(api.book("ada"), 503, "ledger_damaged")


class TestUnexpected:
    """What nobody thought of."""

    def test_every_operation_hides_the_cause(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        """500 `internal_error`: the log has the cause and the request's id, the answer only the id."""
        replace_ledger(api.app, FailingLedger(RuntimeError(SECRET)))
        with caplog.at_level(logging.ERROR):
            answers = list(every_request(api))
        for answer in answers:
            problem = refused(answer, 500, "internal_error")
            assert problem.keys() == PROBLEM_MEMBERS
            assert "secret" not in answer.text and "RuntimeError" not in answer.text
        traces = [record for record in caplog.records if record.exc_info]
        assert len(traces) == len(answers)

    def test_debugging_changes_nothing(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not even with Flask's own settings for it is a trace shown."""
        replace_ledger(api.app, FailingLedger(RuntimeError(SECRET)))
        for setting in ("TESTING", "DEBUG"):
            monkeypatch.setitem(api.app.config, setting, True)
        problem = refused(api.book("ada"), 500, "internal_error")
        assert "secret" not in str(problem)


class TestHttpErrors:
    """Errors of the HTTP layer itself."""

    def test_each_status_has_a_problem_of_its_own(self, api: Api, make_app: MakeApp) -> None:
        """Each row of HTTP_CODES is met: here, but for 403 (test_bookings.py) and gunicorn's own (test_serve.py)."""
        form = {"content_type": "application/x-www-form-urlencoded"}
        api.initialize(event_id="other")
        met = [
            api.client.post("/book", data=b"{", content_type="application/json"),
            api.client.post("/cancel", json={}),
            api.get("/nowhere"),
            api.get("/book"),
            api.get("/events/other", headers={"If-Match": '"0"'}),
            api.client.patch("/events/other", json={}, auth=ADMIN),
            api.client.post("/book", data=b" " * 70_000, content_type="application/json"),
            api.client.post("/book", data={"event_id": EVENT_ID}, **form),
            api.post("/book", {}),
        ]
        limited = make_app(ratelimit_enabled=True, ratelimit_default="1/minute").test_client()
        met += [limited.get("/status/nowhere") for _ in range(2)]
        replace_ledger(api.app, FailingLedger(RuntimeError()))
        met.append(api.book("ada"))
        statuses = {answer.status_code for answer in met}
        assert statuses | {403, 414, 431} == HTTP_CODES.keys()
        for answer in met:
            assert answer.content_type == PROBLEM
            assert answer.json.keys() <= PROBLEM_MEMBERS | {"errors", "event_id"}
            assert answer.json["title"] == HTTPStatus(answer.status_code).phrase

    def test_a_limit_says_when_to_come_back(self, make_app: MakeApp) -> None:
        """429 `rate_limited` with Retry-After in whole seconds, as a problem like all others."""
        client = make_app(ratelimit_enabled=True, ratelimit_book="1/minute").test_client()
        body = {"event_id": "nowhere", "user_id": "ada"}
        refused(client.post("/book", json=body), 404, "event_not_found")
        answer = client.post("/book", json=body)
        refused(answer, 429, "rate_limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60

    @pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png;q=0.1", "nonsense"])
    def test_whatever_is_accepted_the_answer_is_json(self, api: Api, accept: str) -> None:
        """A browser gets a problem too, not a page."""
        refused(api.get("/nowhere", headers={"Accept": accept}), 404, "not_found")
        assert api.get("/healthz", headers={"Accept": accept}).json == {"status": "ok"}

    def test_without_an_admin_the_protected_refuse_to_work(self, make_app: MakeApp) -> None:
        """403 `authentication_not_configured`: no password would help."""
        api = Api(make_app(basic_auth_username=None, basic_auth_password=None))
        refused(api.initialize(), 403, "authentication_not_configured")
        refused(api.post("/cancel", {"order_id": "x"}, staff=False), 403, "authentication_not_configured")
        refused(api.get(f"/events/{EVENT_ID}/orders"), 403, "authentication_not_configured")
        refused(api.book("ada"), 404, "event_not_found")


def test_a_path_with_two_slashes_is_not_found(api: Api) -> None:
    """No redirect to where it might have meant, which would be HTML and speak of the client's Host."""
    api.initialize()
    refused(api.get(f"/events//{EVENT_ID}"), 404, "not_found")


def test_a_probe_with_a_wrong_password_is_answered(api: Api) -> None:
    """The service is not ill because a probe's password is."""
    assert api.client.get("/healthz", auth=("admin", "wrong")).status_code == 200


def test_a_reused_key_is_named_among_the_errors(api: Api) -> None:
    """Every 422 says by field what is wrong."""
    api.initialize()
    api.book("ada", key="k")
    problem = refused(api.book("ben", key="k"), 422, "idempotency_key_reused")
    assert list(problem["errors"]) == ["Idempotency-Key"]
