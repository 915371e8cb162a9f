"""Headers, query strings and paths as nobody should send them. What Authorization is worth: test_auth.py.

They are put into the WSGI environment as they are, past the test client, which would refuse some of them. What
gunicorn makes of the bytes themselves is in tests/service/test_bad_requests.py.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from ticketing.app import SynchronousFlask

from .conftest import ADMIN, EVENT_ID, Answer, Api, count_no_attempts, refused

thorough = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# What a header can carry through gunicorn: Latin-1 without control characters.
HEADER_VALUES = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=60)

# Headers that the service, Flask or Werkzeug read, with values that were trouble to somebody.
ODD: dict[str, list[str]] = {
    "HTTP_ACCEPT": ["", ",", "*/*;q=nan", "text/html;q=-1", "a/b;q=1e999", "/", "application/json;" * 500],
    "HTTP_ACCEPT_ENCODING": ["gzip;q=0, *;q=0", "identity;q=0"],
    "HTTP_ACCEPT_CHARSET": ["utf-16", "\xff"],
    "HTTP_AUTHORIZATION": ["Basic", "Basic " + "=" * 8_000, "Bearer x", "Basic Og==, Basic Og==", "Negotiate \xff"],
    "HTTP_COOKIE": ["=", ";;;=;", 'a="\\', "a=" + "b" * 8_000, "session=e30.x.y"],
    "HTTP_EXPECT": ["100-continue", "200-ok"],
    "HTTP_HOST": ["", "evil.example", "a:b", "[::1", "localhost:99999", "\xff", "a b"],
    "HTTP_IDEMPOTENCY_KEY": ["", " ", "x" * 8_000, "\xe9", "a\x7f"],
    "HTTP_IF_MATCH": ["*", '"0"', "\xff"],
    "HTTP_IF_MODIFIED_SINCE": ["yesterday", "Thu, 99 Foo 99999 99:99:99 GMT", "0"],
    "HTTP_IF_NONE_MATCH": ["*", '"', 'W/"', 'W/"1", "2"', '"1"' * 2_000, "\xff", ",,,"],
    "HTTP_IF_RANGE": ['"1"', "nonsense"],
    "HTTP_METHOD_OVERRIDE": ["DELETE"],
    "HTTP_X_HTTP_METHOD_OVERRIDE": ["DELETE", "\xff"],
    "HTTP_ORIGIN": ["null", "https://evil.example"],
    "HTTP_RANGE": ["bytes=0-1", "bytes=-1", "bytes=9-1", "lines=a-b", "bytes=" + "0-1," * 2_000],
    "HTTP_X_FORWARDED_FOR": ["", ",", "unknown", "1.2.3.4:80", "::1", "%00", "a" * 8_000, "\xff, 10.0.0.1"],
    "HTTP_X_FORWARDED_HOST": ["evil.example"],
    "HTTP_X_FORWARDED_PROTO": ["javascript"],
    "HTTP_X_ORIGINAL_URL": ["/metrics"],
    "HTTP_X_REQUEST_ID": ["", " ", "x" * 8_000, "a\tb", "\xff", '{"a": 1}', "${jndi:ldap://x}"],
    "CONTENT_LENGTH": ["", "0", "-1", "+5", "1e3", "0x10", "1_0", "\xb2", "9" * 30, "1, 2"],
    "CONTENT_TYPE": [";", "application/json; charset", "multipart/form-data", 'a/b; c="', "application/json\x00"],
}
LISTS = [f"/events/{EVENT_ID}/waiting-list", f"/events/{EVENT_ID}/orders"]


@pytest.fixture
def busy(api: Api) -> Api:
    """An event with a booking and a waiting list; credentials may be wrong as often as it pleases."""
    count_no_attempts(api.app)
    api.initialize(1)
    api.book("ada")
    api.book("ben")
    return api


def ask(api: Api, header: str, value: str) -> list[Answer]:
    """Each kind of request with this header: three that read, one that writes but is refused, one without a path."""
    environ = {"environ_overrides": {header: value}}
    booked = {"event_id": EVENT_ID, "user_id": "ada"}
    return [
        api.client.get(f"/events/{EVENT_ID}", **environ),
        api.client.get(f"/events/{EVENT_ID}/orders", **environ),
        api.client.get("/healthz", **environ),
        api.client.post("/book", json=booked, **environ),
        api.client.get("/nowhere", **environ),
    ]


HOSTS_REFUSED = [".", "a..b", f"{'a' * 64}.example"]  # no names of hosts


class TestHeaders:
    """Any header with any value. The client of these tests holds each answer against the document."""

    @pytest.mark.parametrize(("header", "value"), [(name, value) for name, values in ODD.items() for value in values])
    def test_an_odd_value(self, busy: Api, header: str, value: str) -> None:
        """Passed over or refused as documented, never a 5xx, and nothing is done."""
        before = busy.ledger()
        statuses = [answer.status_code for answer in ask(busy, header, value)]
        assert set(statuses) <= {200, 304, 400, 401, 404, 409, 412, 413, 415}, statuses
        assert busy.ledger() == before

    @thorough
    @given(header=st.sampled_from([name for name in ODD if name.startswith("HTTP_")]), value=HEADER_VALUES)
    def test_any_value(self, busy: Api, header: str, value: str) -> None:
        """The same for any value."""
        statuses = [answer.status_code for answer in ask(busy, header, value)]
        assert set(statuses) <= {200, 304, 400, 401, 404, 409, 412}, statuses

    @pytest.mark.parametrize("value", ["", " ", "x" * 8_000, "a\tb", "\xff", '{"a": 1}'])
    def test_an_odd_request_id_is_not_repeated(self, busy: Api, value: str) -> None:
        """Neither in the answer nor, so, in a log: an id of our own stands there."""
        for answer in ask(busy, "HTTP_X_REQUEST_ID", value):
            assert len(answer.headers["X-Request-ID"]) == 32

    @pytest.mark.parametrize("host", ODD["HTTP_HOST"])
    def test_no_answer_speaks_of_the_host(self, busy: Api, host: str) -> None:
        """`Location` and `Link` are paths: nobody can be led elsewhere by a forged Host."""
        environ = {"environ_overrides": {"HTTP_HOST": host}}
        answer = busy.client.post("/book", json={"event_id": EVENT_ID, "user_id": "cleo"}, **environ)
        assert answer.headers["Location"] == f"/orders/{answer.json['order_id']}"
        page = busy.client.get(LISTS[0] + "?limit=1", **environ)
        assert page.headers["Link"].startswith(f"<{LISTS[0]}?")

    @pytest.mark.parametrize("host", [*ODD["HTTP_HOST"], *HOSTS_REFUSED, "EXAMPLE:80"])
    def test_a_host_is_taken_or_refused_as_flask_does_it(
        self, busy: Api, host: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Though our way to the routes is a shorter one."""
        booking, environ = {"event_id": "none", "user_id": "ada"}, {"HTTP_HOST": host}
        ours = busy.client.post("/book", json=booking, environ_overrides=environ)
        monkeypatch.delattr(SynchronousFlask, "create_url_adapter")
        theirs = busy.client.post("/book", json=booking, environ_overrides=environ)
        assert ours.status_code == theirs.status_code == (400 if host in HOSTS_REFUSED else 404)

    def test_a_body_longer_than_said(self, busy: Api) -> None:
        """Only as much is read as was said to come."""
        body = b'{"event_id": "x", "user_id": "ada"}, and more'
        answer = busy.client.post(
            "/book", data=body, content_type="application/json", environ_overrides={"CONTENT_LENGTH": "35"}
        )
        refused(answer, 404, "event_not_found")

    def test_a_body_shorter_than_said(self, busy: Api) -> None:
        """400: the client went away in the middle of it. Nothing is done with the half, complete or not."""
        before = busy.ledger()
        body = b'{"event_id": "%s", "user_id": "cleo"}' % EVENT_ID.encode()
        answer = busy.client.post(
            "/book", data=body, content_type="application/json", environ_overrides={"CONTENT_LENGTH": "500"}
        )
        refused(answer, 400, "bad_request")
        assert busy.ledger() == before


class TestQuery:
    """The query string of a list."""

    @pytest.mark.parametrize("path", LISTS)
    @pytest.mark.parametrize(
        "query",
        [
            *("%", "%zz", "%f", "limit=%", "limit=%31%30%", "limit=%00", "%00=1", "limit=%ff", "%ff=%fe"),
            *("limit=%ud835", "after=%e2%82", "after=%c0%80", "after=%ed%a0%80", "after=" + "A" * 4_000),
            *("&&&", "=", "=&=", "limit", ";", "limit=1;after=x", "limit[]=1", "limit[$gt]=1", "a" * 4_000),
            *("limit=" + "9" * 4_000, "after=-1", "after=MQ==", "limit=1#x", "?limit=1", "\xff=\xff"),
        ],
    )
    def test_an_odd_query(self, busy: Api, path: str, query: str) -> None:
        """A page, or 422."""
        options = {"environ_overrides": {"QUERY_STRING": query}, "auth": ADMIN}
        answer = busy.client.get(path, **options)
        assert answer.status_code in (200, 422)

    @pytest.mark.parametrize("path", LISTS)
    def test_any_query(self, busy: Api, path: str) -> None:
        """The same for any bytes."""

        @thorough
        @given(query=st.text(st.characters(max_codepoint=255), max_size=60))
        @example(query="limit=\x00")
        def get(query: str) -> None:
            options = {"environ_overrides": {"QUERY_STRING": query}, "auth": ADMIN}
            assert busy.client.get(path, **options).status_code in (200, 422)

        get()


class TestPath:
    """Ids that are none."""

    @pytest.mark.parametrize("path", ["/status/{}", "/events/{}", "/events/{}/orders", "/orders/{}", "/{}"])
    def test_any_path(self, busy: Api, path: str) -> None:
        """404 for whatever names nothing, whichever bytes it is made of."""

        @thorough
        @given(name=st.text(st.characters(max_codepoint=255, exclude_characters="/"), min_size=1, max_size=80))
        @example(name="%")
        @example(name="\x00")
        @example(name="..")
        @example(name="\xff\xfe")
        @example(name="$where")
        @example(name=EVENT_ID + "\n")
        @example(name=EVENT_ID + ".")
        @example(name="x" * 3_000)
        def get(name: str) -> None:
            # As it stands in the environment: percent-decoded, one character a byte.
            environ = {"PATH_INFO": path.format(name), "RAW_URI": path.format("x")}
            answer = busy.client.get(path.format("x"), environ_overrides=environ, auth=ADMIN)
            assert answer.status_code == 404

        get()
