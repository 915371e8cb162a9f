"""Bodies as nobody should send them: each is refused, and changes nothing."""

from __future__ import annotations

import json
import unicodedata
from io import BytesIO
from typing import Any

import hypothesis.strategies as st
import pytest
from flask import Flask
from gunicorn.http.errors import InvalidChunkSize
from hypothesis import HealthCheck, example, given, settings

from ticketing.api.bodies import BODY_BYTES_MAX, BULK_BYTES_MAX

from .conftest import ADMIN, EVENT_ID, Answer, Api, MakeApp, count_no_attempts, openapi, refused
from .test_authorization import BODIES as RIGHT_BODIES
from .test_authorization import HEADERS, OWNER, Props, populate
from .test_bookings import on_both

BODIES: dict[str, dict[str, Any]] = {
    "/initialize": {"name": "Another", "total_tickets": 5, "event_id": "another"},
    "/book": {"event_id": EVENT_ID, "user_id": "bob", "quantity": 1},
    "/cancel": {"event_id": EVENT_ID, "user_id": "ada"},
    "/cancel by order": {"order_id": "x"},
}
PATHS = ["/initialize", "/book", "/cancel"]
# A request of Hypothesis may take as long as the machine needs; the app is reset by nobody, on purpose.
thorough = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# The codes that a body may be refused with.
CODES = {
    400: {"invalid_json", "bad_request"},
    401: {"invalid_refresh_token"},
    403: {"wrong_password"},
    404: {"event_not_found", "order_not_found"},
    409: {"event_exists", "already_booked", "order_not_confirmed", "user_exists"},
    415: {"unsupported_media_type"},
    422: {"validation_failed", "exceeds_max_tickets_per_order", "exceeds_total_tickets"},
}

NOT_STRINGS: list[Any] = [
    {"$ne": ""},
    {"$gt": None},
    {"$regex": ".*"},
    {"$where": "1"},
    ["x"],
    [],
    {},
    None,
    1,
    1.5,
    True,
    [{"$ne": 1}],
]
NOT_INTEGERS: list[Any] = [
    "1",
    "",
    "one",
    1.0,
    1.5,
    1e400,
    True,
    False,
    None,
    [1],
    {"$gt": 0},
    {"$inc": 1},
    "1e3",
    "٣",
]


def fields_of(kind: type) -> list[tuple[str, str]]:
    """(request, field) for each field that holds a value of this type."""
    return [(request, name) for request, body in BODIES.items() for name, value in body.items() if type(value) is kind]


@pytest.fixture
def open_event(api: Api) -> Api:
    """Three tickets, of which ada has one."""
    api.initialize(3)
    api.book("ada")
    return api


def send(api: Api, path: str, body: bytes | str, content_type: str | None = "application/json") -> Answer:
    """POST these very bytes."""
    data = body.encode() if isinstance(body, str) else body
    auth = None if path == "/book" else ADMIN
    return api.client.post(path.split()[0], data=data, content_type=content_type, auth=auth)


class TestFields:
    """One field is wrong, all else is right."""

    @pytest.mark.parametrize(("request_name", "field"), fields_of(str))
    def test_no_operator_passes_for_a_string(self, open_event: Api, request_name: str, field: str) -> None:
        """422 naming the field, for MongoDB's operators and for whatever else is no string."""
        before = open_event.ledger()
        for value in NOT_STRINGS:
            body = json.dumps(BODIES[request_name] | {field: value})
            problem = refused(send(open_event, request_name, body), 422, "validation_failed")
            assert list(problem["errors"]) == [field], value
        assert open_event.ledger() == before

    @pytest.mark.parametrize(("request_name", "field"), fields_of(int))
    def test_nothing_else_passes_for_an_integer(self, open_event: Api, request_name: str, field: str) -> None:
        """422 naming the field: no string, float, boolean or null is taken for a number."""
        before = open_event.ledger()
        for value in NOT_INTEGERS:
            body = json.dumps(BODIES[request_name] | {field: value}).replace("Infinity", "1e400")
            problem = refused(send(open_event, request_name, body), 422, "validation_failed")
            assert list(problem["errors"]) == [field], value
        assert open_event.ledger() == before

    @pytest.mark.parametrize("request_name", BODIES)
    @pytest.mark.parametrize(
        "field", ["$where", "_id", "price", "", "a.b", "__proto__", "日本", "_schema", "status", "by", "x" * 999]
    )
    def test_an_unknown_field_is_refused(self, open_event: Api, request_name: str, field: str) -> None:
        """422, for a misspelt field must not be passed over; nothing of the rest is done."""
        before = open_event.ledger()
        body = json.dumps(BODIES[request_name] | {field: 1})
        assert refused(send(open_event, request_name, body), 422, "validation_failed")["errors"]
        assert open_event.ledger() == before

    @pytest.mark.parametrize(("request_name", "field"), fields_of(str))
    @pytest.mark.parametrize("text", [r"\ud800", r"\udfff", r"a\ud800b", r"\u0000", r"a\u0000", r"\u001b[2J"])
    def test_no_lone_surrogate_and_no_control_character(
        self, open_event: Api, request_name: str, field: str, text: str
    ) -> None:
        """422: such a text could be neither stored nor shown."""
        before = open_event.ledger()
        body = json.dumps(BODIES[request_name] | {field: "@@"}).replace("@@", text)
        problem = refused(send(open_event, request_name, body), 422, "validation_failed")
        assert list(problem["errors"]) == [field]
        assert open_event.ledger() == before

    def test_an_escaped_pair_of_surrogates_is_one_character(self, open_event: Api) -> None:
        """JSON's way to write what is beyond the first 65,536 characters."""
        body = rf'{{"event_id": "{EVENT_ID}", "user_id": "\ud83c\udfb8"}}'
        assert send(open_event, "/book", body).json["user_id"] == "🎸"


class TestJson:
    """The body is no JSON, or not one value that means one thing."""

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"{",
            b'{"event_id": "a"',
            b"{'event_id': 'a'}",
            b"{event_id: 1}",
            b"null null",
            b'{"a": 1,}',
            b"[1, 2",
            b"nul",
            b"\xff\xfe{\x00}\x00",
            '{"user_id": "é"}'.encode("latin-1"),
            '{"user_id": "é"}'.encode("utf-16"),
            '{"a": 1}'.encode("utf-16-le"),
            '{"a": 1}'.encode("utf-32"),
            b'{"user_id": "\xed\xa0\x80"}',
            b'{"user_id": "\xc0\x80"}',
            b"\xef\xbb\xbf{}",
            b'{"a": NaN}',
            b'{"a": Infinity}',
            b'{"a": -Infinity}',
            b'{"quantity": 01}',
            b'{"quantity": +1}',
            b'{"quantity": 0x10}',
            b'{"quantity": ' + b"1" * 5_000 + b"}",
            b'{"a": 1, "a": 1}',
            b'{"a": {"b": 1, "b": 2}}',
            b'[{"a": 1, "\\u0061": 2}]',
            b'{"user_id": "a\nb"}',
            b'{"user_id": "\\x41"}',
            b"\0",
            b"event_id=a&user_id=b",
            b"<a/>",
            b"[" * 60_000,
            b'{"a":' * 10_000,
            b"[" * 30_000 + b"]" * 30_000,
        ],
        ids=lambda body: repr(body[:24]),
    )
    def test_what_is_no_json(self, open_event: Api, path: str, body: bytes) -> None:
        """400 `invalid_json`, with a sentence that says why."""
        before = open_event.ledger()
        problem = refused(send(open_event, path, body), 400, "invalid_json")
        assert problem["detail"].startswith("The body is not valid JSON: ")
        assert "sys." not in problem["detail"] and "codec" not in problem["detail"]
        assert open_event.ledger() == before

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "body", ["null", "[]", '"text"', "1", "true", "[{}]", '""', "0.5", "[" * 500 + "]" * 500, "1" * 400]
    )
    def test_what_is_no_object(self, open_event: Api, path: str, body: str) -> None:
        """422: JSON, but not an object with fields."""
        before = open_event.ledger()
        refused(send(open_event, path, body), 422, "validation_failed")
        assert open_event.ledger() == before

    def test_a_name_that_stands_twice(self, open_event: Api) -> None:
        """400: two programs would read two different bookings out of it."""
        body = f'{{"event_id": "{EVENT_ID}", "user_id": "bob", "quantity": 1, "quantity": 2}}'
        before = open_event.ledger()
        assert "twice" in refused(send(open_event, "/book", body), 400, "invalid_json")["detail"]
        assert open_event.ledger() == before

    def test_numbers_without_end(self, open_event: Api) -> None:
        """An integer of 400 digits is an integer, only too large; 1e400 is none."""
        for quantity, code in (("1" + "0" * 400, "exceeds_max_tickets_per_order"), ("1e400", "validation_failed")):
            body = f'{{"event_id": "{EVENT_ID}", "user_id": "bob", "quantity": {quantity}}}'
            refused(send(open_event, "/book", body), 422, code)


class TestContentType:
    """The body says what it is."""

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "content_type",
        [
            None,
            "",
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
            "application/jsonp",
            "application/json-seq",
            "*/*",
            "json",
        ],
    )
    def test_what_is_not_said_to_be_json(self, open_event: Api, path: str, content_type: str | None) -> None:
        """415: no browser can be made to send it from a form of another site."""
        before = open_event.ledger()
        answer = send(open_event, path, json.dumps(BODIES[path]), content_type)
        refused(answer, 415, "unsupported_media_type")
        assert open_event.ledger() == before

    @pytest.mark.parametrize(
        "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
    )
    def test_json(self, open_event: Api, content_type: str) -> None:
        """However it is spelt; a parameter changes nothing (RFC 8259, 11)."""
        assert send(open_event, "/book", json.dumps(BODIES["/book"]), content_type).status_code == 201

    def test_a_charset_does_not_change_the_reading(self, open_event: Api) -> None:
        """JSON is UTF-8, whatever the header says."""
        body = json.dumps(BODIES["/book"] | {"user_id": "Zoë"}, ensure_ascii=False).encode("latin-1")
        refused(send(open_event, "/book", body, "application/json; charset=latin-1"), 400, "invalid_json")


class TestSize:
    """64 KiB, and not a byte more."""

    @pytest.mark.parametrize("path", PATHS)
    def test_exactly_64_kib(self, open_event: Api, path: str) -> None:
        """Read as any other body."""
        body = json.dumps(BODIES[path]).ljust(BODY_BYTES_MAX)
        assert len(body) == 65_536
        assert send(open_event, path, body).status_code in (200, 201)

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("size", [65_537, 10_000_000])
    def test_more(self, open_event: Api, path: str, size: int) -> None:
        """413, however right the body is."""
        before = open_event.ledger()
        refused(send(open_event, path, json.dumps(BODIES[path]).ljust(size)), 413, "body_too_large")
        assert open_event.ledger() == before

    @pytest.mark.parametrize(("size", "status"), [(100, 201), (65_536, 201), (65_537, 413), (1_000_000, 413)])
    def test_in_chunks(self, open_event: Api, size: int, status: int) -> None:
        """The same without a Content-Length, as a chunked body comes from the server."""
        answer = open_event.client.post(
            "/book",
            input_stream=BytesIO(json.dumps(BODIES["/book"]).ljust(size).encode()),
            content_type="application/json",
            environ_overrides={
                "wsgi.input_terminated": True,
                "HTTP_TRANSFER_ENCODING": "chunked",
                "CONTENT_LENGTH": "",
            },
        )
        assert answer.request.content_length is None
        assert answer.status_code == status

    @pytest.mark.parametrize("character", ["x", "\N{GUITAR}"])
    def test_five_hundred_bookings_of_the_longest_kind(self, api: Api, character: str) -> None:
        """They fit: ids of 128 characters, types of 32, quantities of two digits; and every order shows its own."""
        code = "t" * 32
        api.initialize(None, ticket_types=[{"code": code, "total_tickets": 5_000}])
        ids = [f"{number:03}{character * 125}" for number in range(500)]
        orders = [{"user_id": user_id, "quantity": 10, "ticket_type": code} for user_id in ids]
        body = json.dumps({"event_id": EVENT_ID, "mode": "all_or_none", "orders": orders}, ensure_ascii=False)
        assert BODY_BYTES_MAX < len(body.encode()) < BULK_BYTES_MAX
        answer = send(api, "/bookings/bulk", body)
        assert answer.status_code == 200
        assert [each["order"]["user_id"] for each in answer.json["results"]] == ids

    @pytest.mark.parametrize(("size", "status"), [(393_216, 200), (393_217, 413), (10_000_000, 413)])
    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_the_bound_of_many_bookings(self, open_event: Api, size: int, status: int, is_chunked: bool) -> None:
        """384 KiB, and not a byte more, however they come."""
        body = json.dumps({"event_id": EVENT_ID, "orders": [{"user_id": "bob"}]}).ljust(size)
        if not is_chunked:
            assert send(open_event, "/bookings/bulk", body).status_code == status
            return
        chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
        answer = open_event.client.post(
            "/bookings/bulk",
            input_stream=BytesIO(body.encode()),
            content_type="application/json",
            environ_overrides=chunked,
            auth=ADMIN,
        )
        assert answer.status_code == status

    def test_a_long_text_is_not_repeated_in_the_answer(self, open_event: Api) -> None:
        """A refusal stays short."""
        body = BODIES["/book"] | {"user_id": "x" * 60_000}
        assert len(send(open_event, "/book", json.dumps(body)).data) < 1_000


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def nearly(body: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The fields of a right body, each with a right value, any value, or none at all."""
    fields = {
        name: st.just(value) | JSON_VALUES | st.sampled_from([f"{value}x", value * 2, f" {value}"])
        for name, value in body.items()
    }
    return st.fixed_dictionaries({}, optional=fields)


def raw(body: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Bytes, JSON, and JSON that is nearly this right body."""
    values = JSON_VALUES | nearly(body) | nearly(body | {"order_id": "x", "extra": 1})
    return st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode())


def stored(api: Api) -> dict[str, list[Any]]:
    """All that is in the database."""
    database = api.services.database
    return {name: list(database[name].find(sort=[("_id", 1)])) for name in database.list_collection_names()}


def is_token_used_twice(answer: Answer) -> bool:
    """Whether a refresh token was refused, which by intention ends its session (test_tokens.py)."""
    return answer.request.path == "/auth/refresh" and answer.status_code == 401


class Route:
    """A route that takes a body, and somebody who may use it. The users of the table of callers are let in.

    `row` is its method and path, as test_authorization.py has them.
    """

    def __init__(self, app: Flask, api: Api, row: str) -> None:
        count_no_attempts(app)
        populate(app)
        props = Props(api, password=OWNER[1])
        self._api = api
        self._method, path = row.split()
        self._path = props.fill_in(path)
        self._headers = HEADERS.get(row)
        self._is_own = path == "/users/me"  # which the admin of the settings cannot change
        self._auth = None if path == "/book" else OWNER if self._is_own else ADMIN
        self.right = RIGHT_BODIES[row](props)
        self._before = stored(api)

    def is_done_or_refused(self, body: bytes, content_type: str | None, chunked: bool = False) -> Answer:
        """Send these bytes. Fails for a 5xx, and where a refusal has changed what is stored."""
        chunks = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        answer = self._api.client.open(
            self._path,
            method=self._method,
            input_stream=BytesIO(body),
            content_type=content_type,
            headers=self._headers,
            auth=self._auth,
            environ_overrides=chunks if chunked else {"CONTENT_LENGTH": str(len(body))},
        )
        assert answer.status_code < 500
        if answer.status_code >= 400 and not is_token_used_twice(answer):
            assert stored(self._api) == self._before
            return answer
        if self._is_own:
            renewed = self._api.client.patch(f"/users/{OWNER[0]}", json={"password": OWNER[1]}, auth=ADMIN)
            assert renewed.status_code == 200
        self._before = stored(self._api)
        return answer


def damaged(body: bytes) -> st.SearchStrategy[bytes]:
    """A right body with a little damage: something cut out, put in, doubled or swapped, or in another encoding."""
    places = st.tuples(*[st.integers(0, len(body))] * 2).map(sorted)
    pieces = st.sampled_from(PIECES) | st.binary(min_size=1, max_size=4)
    return (
        places.map(lambda cut: body[: cut[0]] + body[cut[1] :])
        | places.map(lambda cut: body[: cut[1]] + body[cut[0] :])
        | st.builds(lambda cut, piece: body[: cut[0]] + piece + body[cut[1] :], places, pieces)
        | st.builds(lambda cut, piece: body[: cut[0]] + piece + body[cut[0] :], places, pieces)
        | st.sampled_from(["utf-16", "utf-16-le", "utf-32-be", "utf-8-sig", "utf-7"]).map(body.decode().encode)
    )


# What JSON's readers disagree on, and what breaks them.
PIECES = [
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"1" * 400, b"0.1e-999", b"null", b"[]", b"{}"),
    *(b"[" * 2_000, b'{"a":' * 2_000, b'"quantity":1,"quantity":2,', b'"event_id":"x",', b'"\\ud800"'),
    *(b"\\ud83d", b"\\u0000", b"\\x00", b"\0", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf"),
    *(b"\xe2\x80\xa8", b"//", b"/**/", b",", b",,", b":", b"'", b'"', b"\n"),
]

CONTENT_TYPES = st.sampled_from(
    [
        "application/json",
        "application/json; charset=utf-16",
        "application/json; charset=nonsense",
        "application/json;;;",
        "application/json; boundary=x",
        "application/json, text/plain",
        "application/problem+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=",
        "text/plain",
        "",
    ]
) | st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=40)


class TestAnything:
    """Whatever is sent."""

    @pytest.mark.parametrize("row", RIGHT_BODIES)
    def test_a_damaged_body_is_done_or_refused(self, app: Flask, api: Api, row: str) -> None:
        """In one piece or in chunks, as whatever it is sent: never a 5xx, and nothing is done by halves."""
        route = Route(app, api, row)
        met: set[int] = set()

        @settings(thorough, max_examples=60, derandomize=True)
        @given(
            body=damaged(json.dumps(route.right).encode()),
            content_type=CONTENT_TYPES | st.just("application/json"),
            chunked=st.booleans(),
        )
        def send_it(body: bytes, content_type: str, chunked: bool) -> None:
            answer = route.is_done_or_refused(body, content_type, chunked)
            met.add(answer.status_code)
            assert answer.status_code < 400 or answer.json["code"] in CODES[answer.status_code]

        send_it()
        # Some got as far as the schema, or behind it; some not even to the reader.
        assert met > {400, 415}

    @pytest.mark.parametrize("error", [ConnectionResetError(), InvalidChunkSize(b"zz")])
    def test_a_body_that_breaks_off_is_refused(self, open_event: Api, error: Exception) -> None:
        """400, and nothing is done: what came may be a right body, but not all of it."""

        class Broken(BytesIO):
            def readinto(self, buffer: Any) -> int:
                raise error

            read = readall = readinto  # type: ignore[assignment]

        before = open_event.ledger()
        environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        answer = open_event.client.post(
            "/book", input_stream=Broken(), content_type="application/json", environ_overrides=environ
        )
        refused(answer, 400, "bad_request")
        assert open_event.ledger() == before

    @pytest.mark.parametrize("row", RIGHT_BODIES)
    def test_a_missing_body_is_refused(self, app: Flask, api: Api, row: str) -> None:
        """400 when it is said to be JSON, 415 when nothing is said; nothing is done."""
        route = Route(app, api, row)
        refused(route.is_done_or_refused(b"", "application/json"), 400, "invalid_json")
        refused(route.is_done_or_refused(b"", None), 415, "unsupported_media_type")

    @pytest.mark.parametrize("row", RIGHT_BODIES)
    def test_is_done_or_refused(self, app: Flask, api: Api, row: str) -> None:
        """By each route that takes a body. Never a 5xx: a documented success, or a problem and nothing changed."""
        route = Route(app, api, row)
        met: set[int] = set()

        @settings(thorough, max_examples=60)
        @given(body=raw(route.right))
        @example(body=json.dumps(route.right).encode())
        def send_it(body: bytes) -> None:
            met.add(route.is_done_or_refused(body, "application/json").status_code)

        send_it()
        assert min(met) < 300 and met >= {400, 422}

    def test_each_route_that_takes_a_body_is_among_them(self) -> None:
        """By the document: a new one wants a right body in test_authorization.py."""
        operations = {
            f"{method.upper()} {path.replace('{', '<').replace('}', '>')}"
            for path, item in openapi()["paths"].items()
            for method, operation in item.items()
            if "requestBody" in operation
        }
        assert operations == RIGHT_BODIES.keys()

    @on_both
    def test_users_that_are_accepted_come_back(self, api: Api, make_app: MakeApp) -> None:
        """In NFC, else exactly: from the booking, the order, and a worker that reads it out of the database."""
        api.initialize(10_000_000)
        other = Api(make_app())

        @settings(thorough, max_examples=40)
        @given(text=st.text(min_size=1, max_size=130))
        @example(text="e\u0301")
        @example(text="\u200b")
        @example(text="\ufeffada")
        @example(text="\uffff")
        @example(text="\U0010ffff")
        def book_it(text: str) -> None:
            answer = api.book(text)
            if answer.status_code == 422:
                return
            if answer.status_code == 201:
                order = answer.json
                assert order["user_id"] == unicodedata.normalize("NFC", text)
                assert api.order(order["order_id"]) == other.order(order["order_id"]) == order
                assert other.cancel(text).json["order"]["user_id"] == order["user_id"]

        book_it()

    @on_both
    def test_names_that_are_accepted_come_back_exactly(self, api: Api, make_app: MakeApp) -> None:
        """From /initialize, and from a worker that reads it out of the database."""
        other = Api(make_app())

        @settings(thorough, max_examples=40)
        @given(name=st.text(min_size=1, max_size=210))
        @example(name="Zoë & the 日本 Band 🎸")
        def open_it(name: str) -> None:
            answer = api.initialize(event_id=None, name=name)
            if answer.status_code == 422:
                return
            assert answer.json["name"] == name
            assert other.status(answer.json["event_id"])["name"] == name

        open_it()
