"""Idempotency-Key: a request that is repeated has one effect and one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from flask import Flask

from ticketing.api.auth import Role
from ticketing.domain.model import EventState, Transition
from ticketing.domain.rows import Row
from ticketing.errors import StorageUnavailable
from ticketing.manager import Ledger

from .conftest import ADMIN, EVENT_ID, Answer, Api, MakeApp, add_account, refused
from .test_bookings import on_both
from .test_problems import replace_ledger

REPLAYED = "Idempotent-Replayed"
ORGANIZER = ("olga", "a password of an organizer")


def is_repeat_of(answer: Answer, first: Answer) -> bool:
    """Whether an answer is the first one again, and says so, while the first one does not."""
    assert REPLAYED not in first.headers
    assert answer.headers.get(REPLAYED) == "true", "not a replay"
    assert answer.status_code == first.status_code
    assert answer.headers.get("Location") == first.headers.get("Location")
    assert answer.content_type == first.content_type
    return bool(answer.json == first.json)


# What is sent, after an event of 2 tickets was opened and ada and bob booked them, and cyd waits.


def _confirmed(api: Api) -> Answer:
    return api.book("eve", event_id="roomy", key="k")


def _waiting(api: Api) -> Answer:
    return api.book("dan", key="k")


def _cancelled(api: Api) -> Answer:
    return api.cancel("ada", key="k")


def _cancelled_by_order(api: Api) -> Answer:
    order_id = api.get(f"/events/{EVENT_ID}/orders?user_id=bob", staff=True).json["items"][0]["order_id"]
    return api.cancel_order(order_id, key="k")


def _opened(api: Api) -> Answer:
    return api.initialize(7, event_id="new", key="k")


def _opened_without_an_id(api: Api) -> Answer:
    return api.initialize(7, event_id=None, key="k")


def _already_booked(api: Api) -> Answer:
    return api.book("bob", key="k")


def _event_exists(api: Api) -> Answer:
    return api.initialize(key="k")


def _no_such_order(api: Api) -> Answer:
    return api.cancel("zoe", key="k")


def _no_such_order_id(api: Api) -> Answer:
    return api.cancel_order(f"{EVENT_ID}.AAAAAAAAAAAAAAAAAAAAAA", key="k")


def _over_the_maximum(api: Api) -> Answer:
    return api.book("eve", 11, event_id="roomy", key="k")


def _over_the_total(api: Api) -> Answer:
    return api.book("eve", 3, key="k")


REQUESTS: list[tuple[int, Callable[[Api], Answer]]] = [
    (201, _confirmed),
    (202, _waiting),
    (200, _cancelled),
    (200, _cancelled_by_order),
    (201, _opened),
    (201, _opened_without_an_id),
    (409, _already_booked),
    (409, _event_exists),
    (404, _no_such_order),
    (404, _no_such_order_id),
    (422, _over_the_maximum),
    (422, _over_the_total),
]


@pytest.fixture
def busy(api: Api) -> Api:
    """Two tickets, both booked, and one who waits; and a roomy event."""
    api.initialize(2)
    api.initialize(50, event_id="roomy")
    for user in ("ada", "bob", "cyd"):
        api.book(user)
    return api


def move_on(api: Api) -> None:
    """Change what every one of the answers above rested on."""
    for user in ("bob", "ada", "cyd", "dan"):
        api.cancel(user)
    api.book("ada")
    api.book("zoe")
    api.cancel("eve", "roomy")
    api.book("fay", event_id="roomy")


@pytest.mark.parametrize(
    ("mongo", "status", "send"),
    [
        *(pytest.param("mongomock", status, send, id=send.__name__) for status, send in REQUESTS),
        *(pytest.param("mongod", status, send, id=f"{send.__name__}-mongod") for status, send in REQUESTS[::4]),
    ],
    indirect=["mongo"],
)
def test_a_repeat_gets_the_first_answer(
    busy: Api, make_app: MakeApp, status: int, send: Callable[[Api], Answer]
) -> None:
    """At once; by another worker; after the event has moved on; and after a restart. One effect, none of them more."""
    beside = Api(make_app())
    first = send(busy)
    assert first.status_code == status
    before = busy.ledger()
    assert is_repeat_of(send(busy), first)
    assert is_repeat_of(send(beside), first)
    assert busy.ledger() == before

    move_on(busy)
    later = busy.ledger()
    restarted = Api(make_app())
    for api in (busy, beside, restarted):
        assert is_repeat_of(send(api), first)
    assert busy.ledger() == later


def test_a_second_cancellation_of_an_order_is_remembered_too(busy: Api) -> None:
    """It changed nothing, and its answer stays what it was."""
    order_id = busy.cancel("ada").json["order"]["order_id"]
    first = busy.cancel_order(order_id, key="k")
    assert first.json["promoted"] == []
    move_on(busy)
    assert is_repeat_of(busy.cancel_order(order_id, key="k"), first)


def test_a_repeat_opens_no_second_event(api: Api) -> None:
    """Without an event_id too: the key stands for the event. Another key opens another."""
    first, again = (api.initialize(event_id=None, key="k") for _ in range(2))
    other = api.initialize(event_id=None, key="k2")
    assert first.json["event_id"] == again.json["event_id"] != other.json["event_id"]
    assert len(api.ledger()) == 2


def test_the_same_body_may_be_written_in_another_way(busy: Api) -> None:
    """What counts is what the body says: neither blanks, nor the order of its names, nor a default left out."""
    first = busy.book("dan", key="k")
    for body in (
        f'{{"user_id":"dan","event_id":"{EVENT_ID}"}}',
        f'{{ "quantity": 1, "user_id": "d\\u0061n",\n "event_id": "{EVENT_ID}" }}',
    ):
        again = busy.client.post(
            "/book", data=body, content_type="application/json", headers={"Idempotency-Key": "k"}
        )
        assert is_repeat_of(again, first)


@on_both
def test_a_key_is_good_for_one_body(busy: Api, make_app: MakeApp) -> None:
    """422 for another one, in every worker, and nothing is changed; the first request keeps its answer."""
    first = busy.book("dan", key="k")
    before = busy.ledger()
    for api in (busy, Api(make_app())):
        refused(api.book("eve", key="k"), 422, "idempotency_key_reused")
        refused(api.book("dan", 2, key="k"), 422, "idempotency_key_reused")
        refused(api.book("dan", event_id="roomy", key="k"), 422, "idempotency_key_reused")
    assert busy.ledger() == before
    assert is_repeat_of(busy.book("dan", key="k"), first)


def test_a_key_of_another_event_is_used(busy: Api) -> None:
    """422 on whichever event it comes back, in each form of each request."""
    busy.cancel("ada", key="c")
    refused(busy.cancel("ada", "roomy", key="c"), 422, "idempotency_key_reused")
    refused(busy.cancel_order("roomy.AAAAAAAAAAAAAAAAAAAAAA", key="c"), 422, "idempotency_key_reused")
    busy.initialize(event_id=None, key="i")
    refused(busy.initialize(event_id="named", key="i"), 422, "idempotency_key_reused")
    refused(busy.initialize(9, event_id=None, key="i"), 422, "idempotency_key_reused")
    busy.initialize(event_id="named", key="j")
    refused(busy.initialize(event_id=None, key="j"), 422, "idempotency_key_reused")


def test_a_refusal_that_names_the_key_is_no_replay(busy: Api) -> None:
    """It is the answer to this request, not to the first one."""
    busy.book("dan", key="k")
    assert REPLAYED not in busy.book("eve", key="k").headers


def test_a_key_belongs_to_its_path(busy: Api) -> None:
    """The same key may serve once on each endpoint."""
    answers = [busy.initialize(event_id="new", key="k"), busy.book("dan", key="k"), busy.cancel("dan", key="k")]
    assert [answer.status_code for answer in answers] == [201, 202, 200]
    assert not any(REPLAYED in answer.headers for answer in answers)


def test_a_key_belongs_to_its_caller(busy: Api) -> None:
    """What one used is free for another, known or not; nobody reads another's answer by guessing a key."""
    add_account(busy.app, ORGANIZER, Role.ORGANIZER)
    bodies = [{"name": "A", "total_tickets": 1}, {"name": "B", "total_tickets": 1}]
    opened = [
        busy.post("/initialize", body, key="k", auth=who) for body, who in zip(bodies, (ADMIN, ORGANIZER), strict=True)
    ]
    assert [answer.status_code for answer in opened] == [201, 201]
    assert opened[0].json["event_id"] != opened[1].json["event_id"]

    body = {"event_id": "roomy", "user_id": "ada"}
    assert busy.post("/book", body, key="k").status_code == 201
    refused(busy.post("/book", body, key="k", auth=ADMIN), 409, "already_booked")


def test_without_a_key_a_repeat_is_a_new_request(busy: Api) -> None:
    """Nothing is replayed that was not asked to be."""
    first = busy.book("eve", event_id="roomy")
    again = refused(busy.book("eve", event_id="roomy"), 409, "already_booked")
    assert again["order_id"] == first.json["order_id"]


@pytest.mark.parametrize("key", ["k", "!", "~", "a" * 255, '"quoted"', "a,b;c=d", "$ne", "0"])
def test_keys_of_1_to_255_visible_characters(busy: Api, key: str) -> None:
    """Each of them holds."""
    first, again = (busy.book("dan", key=key) for _ in range(2))
    assert is_repeat_of(again, first)


@pytest.mark.parametrize("key", ["", " ", "a b", "a" * 256, "caf\u00e9", "a\tb", "\x7f"])
@pytest.mark.parametrize("path", ["/initialize", "/book", "/cancel"])
def test_other_keys_are_refused(busy: Api, path: str, key: str) -> None:
    """400 `invalid_idempotency_key`, and nothing is done."""
    bodies = {
        "/initialize": {"name": "New", "total_tickets": 1},
        "/book": {"event_id": EVENT_ID, "user_id": "dan"},
        "/cancel": {"event_id": EVENT_ID, "user_id": "ada"},
    }
    before = busy.ledger()
    refused(busy.post(path, bodies[path], key=key), 400, "invalid_idempotency_key")
    assert busy.ledger() == before


def test_a_key_differs_by_case(busy: Api) -> None:
    """Keys are compared character by character."""
    assert busy.book("dan", key="k").status_code == 202
    assert busy.book("eve", key="K").status_code == 202


def test_what_never_reached_an_event_is_not_remembered(busy: Api) -> None:
    """A body that was refused (422, 400) or an event that was not there (404) leaves the key free."""
    refused(busy.post("/book", {"event_id": EVENT_ID}, key="k"), 422, "validation_failed")
    refused(busy.book("dan", event_id="later", key="k"), 404, "event_not_found")
    busy.initialize(event_id="later")
    assert busy.book("dan", event_id="later", key="k").status_code == 201


class UnsureLedger:
    """A ledger whose next `append` fails: before it has written, or after."""

    def __init__(self, ledger: Ledger, *, writes: bool) -> None:
        self._ledger = ledger
        self._writes = writes
        self._fails = True

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        """Fail the first time."""
        if self._fails:
            self._fails = False
            if self._writes:
                self._ledger.append(state, transitions, deadline)
            raise StorageUnavailable
        return self._ledger.append(state, transitions, deadline)

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[Sequence[Transition | Row]]:
        """Read on."""
        return self._ledger.read(event_id, after, deadline)

    def events_with_keys(self, keys: Iterable[bytes], deadline: float) -> dict[bytes, set[str]]:
        """Look up."""
        return self._ledger.events_with_keys(keys, deadline)


@on_both
@pytest.mark.parametrize("writes", [True, False])
def test_an_unknown_outcome_is_known_after_the_repeat(busy: Api, app: Flask, writes: bool) -> None:
    """503 is not remembered: the repeat gets the booking, made by the first request or by itself, once."""
    replace_ledger(app, UnsureLedger(busy.services.manager._ledger, writes=writes))
    refused(busy.book("dan", key="k"), 503, "storage_unavailable")
    again = busy.book("dan", key="k")
    assert (again.status_code, again.json["waiting_position"]) == (202, 2)
    assert (again.headers.get(REPLAYED) == "true") is writes
    assert busy.line() == [(1, "cyd"), (2, "dan")]
