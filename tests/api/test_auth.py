"""Who is calling: what a header is worth, what a check costs, and who may do what."""

from __future__ import annotations

import base64
import logging
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from statistics import median
from typing import Any, NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.test import TestResponse

from ticketing.accounts import Accounts
from ticketing.api import auth, limits
from ticketing.api.auth import Authenticator, Caller, Role
from ticketing.clock import SystemClock
from ticketing.config import Config
from ticketing.errors import StorageUnavailable
from ticketing.storage.client import connect
from ticketing.storage.users import COLLECTION as USERS
from ticketing.storage.users import Users, durable

from .conftest import CHEAP_HASH, SteppingClock, check_problem, count_no_attempts, refused
from .scratch import FakeUsers, make_app

pytestmark = pytest.mark.usefixtures("cheap_hashes")

PRODUCTION_HASH_METHOD = auth.HASH_METHOD  # as it is before that fixture

ADMIN = ("admin", "correct horse battery staple")
WRONG = ("admin", "Tr0ub4dor&3")
CONFIG = Config(basic_auth_username=ADMIN[0], basic_auth_password=ADMIN[1], ratelimit_enabled=False)
CHALLENGE = 'Basic realm="ticketing"'

GARBAGE = [
    "",
    " ",
    "Basic",
    "Basic ",
    "Basic !!!!",
    "Basic YWRtaW4",
    "Basic Og==",
    "Basic " + base64.b64encode(b"no colon").decode(),
    "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
    "Basic " + base64.b64encode("admin:corréct".encode("latin-1")).decode(),
    "Basic " + base64.b64encode(b"\x00:\x00").decode(),
    "Basic YWRtaW46\xe9\xe9\xe9\xe9",
    "Basic  YWRtaW4=  YWRtaW4=",
    "Basic username=admin, password=x",
    "Bearer " + base64.b64encode(":".join(ADMIN).encode()).decode(),
    "Bearer eyJhbGciOiJub25lIn0.e30.",
    'Digest username="admin", realm="ticketing", nonce="", uri="/", response="0"',
    "Digest ,=,=\"",
    "Negotiate YIIJvwYGKwYBBQUCoIIJszCC",
    "\xff\xfe",
    "=" * 100,
    "A" * 8192,
    "Basic " + "A" * 8192,
    "Basic " + base64.b64encode(b"a" * 4000 + b":" + b"b" * 4000).decode(),
]


class HashCount:
    """Counts the hashes of passwords."""

    def __init__(self, check: Callable[[str, str], bool]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self.calls = 0
        self.methods: set[str] = set()

    def __call__(self, password_hash: str, password: str) -> bool:
        with self._lock:
            self.calls += 1
            self.methods.add(password_hash.partition("$")[0])
        return self._check(password_hash, password)


@pytest.fixture
def clock() -> SteppingClock:
    """A clock that moves when a test says so."""
    return SteppingClock()


@pytest.fixture
def app(clock: SteppingClock) -> Flask:
    """An app with one admin."""
    return make_app(CONFIG, clock)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the app."""
    return app.test_client()


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> HashCount:
    """The number of passwords that were hashed to be checked."""
    count = HashCount(check_password_hash)
    monkeypatch.setattr(auth, "check_password_hash", count)
    return count


@pytest.fixture
def locked_out(client: FlaskClient) -> FlaskClient:
    """A client whose address has no attempts left."""
    for _ in range(auth.FAILURES_MAX):
        client.get("/open", auth=WRONG)
    return client


def add_account(app: Flask, user_id: str, password: str, role: Role) -> None:
    """Give the app another user."""
    accounts: Accounts = app.extensions[auth.EXTENSION].accounts
    assert accounts.register(user_id, role, generate_password_hash(password, CHEAP_HASH))


def away(user_ids: Iterable[str], deadline: float) -> NoReturn:
    """What MongoDB says when it does not answer."""
    raise StorageUnavailable


def json_of(response: TestResponse) -> Any:
    """The body."""
    return response.json


def challenged(response: TestResponse) -> None:
    """Fail unless this is a 401 with its challenge."""
    check_problem(response)
    refused(response, 401, "unauthorized")
    sent = response.request.headers.get("Authorization", "").lower()
    challenges = [CHALLENGE, auth.BEARER_CHALLENGE] if sent.startswith("bearer ") else [CHALLENGE]
    assert response.headers.getlist("WWW-Authenticate") == challenges


class TestCredentials:
    """What an Authorization header is worth."""

    def test_right(self, client: FlaskClient) -> None:
        """The admin of the settings is known, by name and role."""
        answer = client.get("/staff", auth=ADMIN)
        assert answer.json == {"user_id": "admin", "role": "admin", "is_staff": True}

    def test_none(self, client: FlaskClient) -> None:
        """A protected view answers 401 and says how to authenticate; a public one serves anybody."""
        challenged(client.get("/staff"))
        challenged(client.get("/known"))
        assert client.get("/open").json == {"user_id": None}

    @pytest.mark.parametrize("path", ["/open", "/known", "/staff"])
    def test_wrong(self, client: FlaskClient, path: str) -> None:
        """A wrong password and an unknown user get the same 401, also where anybody is served."""
        wrong, unknown = client.get(path, auth=WRONG), client.get(path, auth=("nobody", ADMIN[1]))
        challenged(wrong)
        challenged(unknown)
        assert wrong.json == unknown.json

    @pytest.mark.parametrize("header", GARBAGE)
    @pytest.mark.parametrize("path", ["/open", "/staff"])
    def test_garbage(self, client: FlaskClient, path: str, header: str) -> None:
        """Whatever is no Basic header of a known user is a 401, and never a 500 or nobody in particular."""
        challenged(client.get(path, headers={"Authorization": header}))

    @settings(max_examples=200, deadline=None)
    @given(header=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60))
    def test_any_text(self, header: str) -> None:
        """The same for any text that a header can carry."""
        challenged(client_for_anything().get("/open", headers={"Authorization": header}))

    @settings(max_examples=200, deadline=None)
    @given(secret=st.binary(max_size=60))
    def test_any_credentials(self, secret: bytes) -> None:
        """The same for any bytes in Base64."""
        header = "Basic " + base64.b64encode(secret).decode()
        challenged(client_for_anything().get("/staff", headers={"Authorization": header}))

    def test_scheme_in_any_case(self, client: FlaskClient) -> None:
        """The scheme's case does not matter (RFC 9110, 11.1)."""
        token = base64.b64encode(":".join(ADMIN).encode()).decode()
        assert client.get("/staff", headers={"Authorization": f"bAsIc {token}"}).status_code == 200

    @pytest.mark.parametrize("junk", ["!", " ", "-", "\xe9"])
    def test_junk_in_the_right_ones(self, client: FlaskClient, junk: str) -> None:
        """What is no Base64 is not skipped: each user has one header that lets him in."""
        token = base64.b64encode(":".join(ADMIN).encode()).decode()
        challenged(client.get("/open", headers={"Authorization": f"Basic {token[:4]}{junk}{token[4:]}"}))

    def test_colons(self, clock: SteppingClock) -> None:
        """The first colon ends the user's name, the others belong to the password (RFC 7617, 2)."""
        config = Config(basic_auth_username="admin", basic_auth_password="a:b::c")
        client = make_app(config, clock).test_client()
        assert client.get("/staff", auth=("admin", "a:b::c")).status_code == 200

    @pytest.mark.parametrize("form", ["NFC", "NFD"])
    @pytest.mark.parametrize("sent", ["NFC", "NFD"])
    def test_unicode(self, clock: SteppingClock, form: Any, sent: Any) -> None:
        """Names and passwords are UTF-8, and the same however their accents are put together (RFC 8265)."""
        name, password = "Zoë", "pässwörd 🎫"
        config = Config(
            basic_auth_username=unicodedata.normalize(form, name),
            basic_auth_password=unicodedata.normalize(form, password),
        )
        token = base64.b64encode(unicodedata.normalize(sent, f"{name}:{password}").encode()).decode()
        client = make_app(config, clock).test_client()
        answer = client.get("/staff", headers={"Authorization": f"Basic {token}"})
        assert json_of(answer)["user_id"] == unicodedata.normalize("NFC", name)

    def test_unknown_path(self, client: FlaskClient) -> None:
        """What does not exist is a 404, and a wrong method a 405, whoever asks."""
        refused(client.get("/nothing", auth=WRONG), 404, "not_found")
        refused(client.get("/book", auth=WRONG), 405, "method_not_allowed")

    def test_options(self, client: FlaskClient) -> None:
        """OPTIONS asks for no credentials and checks none: browsers send it without."""
        assert client.options("/staff", auth=WRONG).status_code == 200


@cache
def client_for_anything() -> FlaskClient:
    """A client of an app that does not count failures: one for all random headers."""
    app = make_app(CONFIG)
    count_no_attempts(app)
    return app.test_client()


class TestRoles:
    """Who may do what."""

    @pytest.mark.parametrize(
        ("role", "path", "status"),
        [
            (Role.CUSTOMER, "/known", 200),
            (Role.CUSTOMER, "/staff", 403),
            (Role.ORGANIZER, "/staff", 200),
            (Role.ADMIN, "/staff", 200),
        ],
    )
    def test_role(self, app: Flask, role: Role, path: str, status: int) -> None:
        """A known caller without the role gets 403: other credentials might help, these do not."""
        add_account(app, "ada", "ada's password", role)
        answer = app.test_client().get(path, auth=("ada", "ada's password"))
        assert answer.status_code == status
        if status == 403:
            check_problem(answer)
            refused(answer, 403, "forbidden")

    def test_staff(self) -> None:
        """Organizers and admins are staff."""
        assert [role for role in Role if Caller("ada", role).is_staff] == [Role.ORGANIZER, Role.ADMIN]


class TestNotConfigured:
    """A service without any user."""

    @pytest.mark.parametrize(
        "config",
        [Config(), Config(basic_auth_username="admin"), Config(basic_auth_password="secret password")],
    )
    def test_refuses(self, clock: SteppingClock, caplog: pytest.LogCaptureFixture, config: Config) -> None:
        """Protected views refuse and name what to set; so does the log at the start. Public views work."""
        client = make_app(config, clock).test_client()
        requests: list[tuple[str, Any]] = [("/staff", None), ("/staff", ADMIN), ("/open", ADMIN)]
        for path, credentials in requests:
            answer = client.get(path, auth=credentials)
            problem = refused(answer, 403, "authentication_not_configured")
            assert "BASIC_AUTH_USERNAME" in problem["detail"] and "BASIC_AUTH_PASSWORD" in problem["detail"]
        assert client.get("/open").status_code == 200
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert any("BASIC_AUTH_PASSWORD" in record.getMessage() for record in warnings)

    def test_configured(self, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
        """With an admin the start warns of nothing."""
        assert not caplog.records


class TestCost:
    """What a check costs. Counted in hashes: one takes 60 to 100 ms."""

    def test_thousand_requests(self, client: FlaskClient, hashes: HashCount) -> None:
        """A thousand authenticated requests cost one hash."""
        assert {client.get("/staff", auth=ADMIN).status_code for _ in range(1000)} == {200}
        assert hashes.calls == 1

    def test_thousand_requests_forgotten(
        self, client: FlaskClient, hashes: HashCount, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control: without the memory of successes each request costs one."""
        monkeypatch.setattr(auth, "REMEMBERED_S", 0.0)
        assert {client.get("/staff", auth=ADMIN).status_code for _ in range(50)} == {200}
        assert hashes.calls == 50

    def test_time(self, client: FlaskClient, clock: SteppingClock, hashes: HashCount) -> None:
        """A success is remembered for a time from its check on, however often it is used meanwhile."""
        for _ in range(4):
            client.get("/staff", auth=ADMIN)
            clock.sleep(auth.REMEMBERED_S / 4)
        assert hashes.calls == 1
        client.get("/staff", auth=ADMIN)
        assert hashes.calls == 2

    def test_bound(self, app: Flask, hashes: HashCount, monkeypatch: pytest.MonkeyPatch) -> None:
        """No more than a number of successes is remembered; the oldest is forgotten first."""
        monkeypatch.setattr(auth, "REMEMBERED_MAX", 2)
        client = app.test_client()
        for name in ("ada", "bob", "cy"):
            add_account(app, name, name, Role.CUSTOMER)
            client.get("/known", auth=(name, name))
        assert len(app.extensions[auth.EXTENSION]._remembered) == 2
        client.get("/known", auth=("cy", "cy"))
        client.get("/known", auth=("bob", "bob"))
        assert hashes.calls == 3
        client.get("/known", auth=("ada", "ada"))
        assert hashes.calls == 4

    def test_ended_are_dropped(self, app: Flask, clock: SteppingClock) -> None:
        """What is no longer remembered does not stay in memory either."""
        add_account(app, "ada", "ada", Role.CUSTOMER)
        app.test_client().get("/known", auth=("ada", "ada"))
        clock.sleep(auth.REMEMBERED_S)
        app.test_client().get("/known", auth=ADMIN)
        assert len(app.extensions[auth.EXTENSION]._remembered) == 1

    def test_same_credentials_at_once(self, app: Flask, hashes: HashCount) -> None:
        """Sixteen threads with the same new credentials at once cost one hash, and all are let in."""
        start = threading.Barrier(16)

        def call(_: int) -> int:
            start.wait()
            return app.test_client().get("/staff", auth=ADMIN).status_code

        with ThreadPoolExecutor(16) as threads:
            assert set(threads.map(call, range(16))) == {200}
        assert hashes.calls == 1

    def test_other_credentials_at_once(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Different credentials are hashed at the same time: who guesses does not keep others waiting behind him."""
        together = threading.Barrier(2)

        def check(password_hash: str, password: str) -> bool:
            together.wait(timeout=30)
            return check_password_hash(password_hash, password)

        monkeypatch.setattr(auth, "check_password_hash", check)
        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(app.test_client().get, "/open", auth=each) for each in (ADMIN, WRONG)]
            assert [call.result().status_code for call in calls] == [200, 401]

    def test_hashes_at_once_are_bounded(self, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many as WEB_THREADS: each takes 32 MiB."""
        app = make_app(replace(CONFIG, web_threads=2), clock)
        under_way, most, lock = 0, 0, threading.Lock()

        def check(password_hash: str, password: str) -> bool:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            result = check_password_hash(password_hash, password)
            with lock:
                under_way -= 1
            return result

        def guess(n: int) -> int:
            address = {"REMOTE_ADDR": f"198.51.100.{n}"}
            return app.test_client().get("/open", auth=("admin", f"{n}"), environ_base=address).status_code

        monkeypatch.setattr(auth, "check_password_hash", check)
        with ThreadPoolExecutor(16) as threads:
            assert set(threads.map(guess, range(64))) == {401}
        assert 1 <= most <= 2

    def test_unknown_user(self, client: FlaskClient, hashes: HashCount) -> None:
        """An unknown user costs a hash like a wrong password: the time of an answer tells nothing."""
        client.get("/open", auth=("nobody", "x"))
        assert hashes.calls == 1
        client.get("/open", auth=WRONG)
        assert hashes.calls == 2
        assert hashes.methods == {CHEAP_HASH}

    def test_no_password_kept(self, client: FlaskClient, app: Flask) -> None:
        """The password is kept nowhere in the clear, neither from the settings nor from a client."""
        client.get("/staff", auth=ADMIN)
        assert ADMIN[1] not in repr(vars(app.extensions[auth.EXTENSION]))

    def test_fingerprints(self, app: Flask) -> None:
        """No two pairs of name and password are remembered as the same, wherever the one ends."""
        authenticator: Authenticator = app.extensions[auth.EXTENSION]
        pairs = [("a", "bc"), ("ab", "c"), ("abc", ""), ("a\0b", "c"), ("a", "\0bc"), ("a:", "c")]
        assert len({authenticator._fingerprint(*pair) for pair in pairs}) == len(pairs)

    def test_fingerprints_differ_by_process(self, clock: SteppingClock) -> None:
        """What one process remembers means nothing to another."""
        prints = {
            make_app(CONFIG, clock).extensions[auth.EXTENSION]._fingerprint(*ADMIN) for _ in range(2)
        }
        assert len(prints) == 2


class TestTime:
    """How long a check takes: it must not tell who has an account."""

    COMPARISONS = 5
    ROUNDS = 7
    ALIKE = 0.67, 1.5
    COST = "scrypt:8192:8:1"
    """A quarter of the real cost."""
    HALF_THE_COST = "scrypt:4096:8:1"

    def test_production_hashes(self) -> None:
        """Passwords are hashed with scrypt, N = 2^15, r = 8, p = 1, and a salt of their own."""
        first, second = (generate_password_hash(ADMIN[1], PRODUCTION_HASH_METHOD) for _ in range(2))
        assert first.startswith("scrypt:32768:8:1$") and first != second

    def test_nobody_costs_as_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The hash that an unknown user's password is checked against is of the same method, and fits nothing."""
        monkeypatch.setattr(auth, "HASH_METHOD", PRODUCTION_HASH_METHOD)
        nobody = make_app(CONFIG).extensions[auth.EXTENSION]._nobody
        assert nobody.startswith("scrypt:32768:8:1$")

    def test_unknown_user(self, monkeypatch: pytest.MonkeyPatch, users: Users) -> None:
        """An unknown user and a wrong password take the same time, but for noise."""
        monkeypatch.setattr(auth, "HASH_METHOD", self.COST)
        least, most = self.ALIKE
        assert all(least < ratio < most for ratio in self._ratios(make_app(CONFIG, users=users)))

    def test_unknown_user_unhashed(self, monkeypatch: pytest.MonkeyPatch, users: Users) -> None:
        """The control: were next to nothing hashed for an unknown user, the times would be far apart."""
        monkeypatch.setattr(auth, "HASH_METHOD", self.COST)
        app = make_app(CONFIG, users=users)
        monkeypatch.setattr(auth, "HASH_METHOD", CHEAP_HASH)
        assert max(self._ratios(app)) < 1 / 3

    def test_unknown_user_at_half_the_cost(self, monkeypatch: pytest.MonkeyPatch, users: Users) -> None:
        """The finer control: half the work for an unknown user is noticed too."""
        monkeypatch.setattr(auth, "HASH_METHOD", self.COST)
        app = make_app(CONFIG, users=users)
        monkeypatch.setattr(auth, "HASH_METHOD", self.HALF_THE_COST)
        assert max(self._ratios(app)) < self.ALIKE[0]

    @pytest.fixture
    def users(self, mongod: str, database: Database[dict[str, Any]]) -> Iterator[Users]:
        """Accounts in a real MongoDB, ada's among them: to know her or nobody takes a look, to know the admin none."""
        clock = SystemClock()
        with connect(mongod) as client:
            users = Users(durable(client[database.name], USERS), clock)
            password_hash = generate_password_hash("ada's password", self.COST)
            assert Accounts(users, clock).register("ada", Role.CUSTOMER, password_hash)
            yield users

    def _ratios(self, app: Flask) -> tuple[float, float]:
        """The time of unknown users over that of wrong passwords, of the admin and of a stored account: the middle of
        some comparisons, of which a busy machine can spoil a few."""
        count_no_attempts(app)  # and hash for nobody in particular as HASH_METHOD says now
        of_admin, of_account = zip(*(self._comparison(app.test_client()) for _ in range(self.COMPARISONS)), strict=True)
        return median(of_admin), median(of_account)

    def _comparison(self, client: FlaskClient) -> tuple[float, float]:
        """The ratios of the median times, measured in turn."""
        times_s: dict[str, list[float]] = {"nobody": [], ADMIN[0]: [], "ada": []}
        for _ in range(self.ROUNDS):
            for user_id, measured in times_s.items():
                begun_s = time.perf_counter()
                challenged(client.get("/open", auth=(user_id, "wrong")))
                measured.append(time.perf_counter() - begun_s)
        nobody_s, admin_s, account_s = map(median, times_s.values())
        return nobody_s / admin_s, nobody_s / account_s


class TestFailures:
    """Guessing passwords."""

    def test_limit(self, locked_out: FlaskClient, hashes: HashCount) -> None:
        """After ten wrong answers in a minute an address gets 429, and nothing more is hashed for it."""
        answer = locked_out.get("/open", auth=WRONG)
        check_problem(answer)
        refused(answer, 429, "rate_limited")
        assert answer.headers["Retry-After"] == str(auth.FAILURES_WINDOW_S)
        refused(locked_out.get("/open", auth=ADMIN), 429, "rate_limited")
        assert hashes.calls == 0

    def test_before_the_limit(self, client: FlaskClient, hashes: HashCount) -> None:
        """The first ten are answered with 401, each at the cost of a hash."""
        for _ in range(auth.FAILURES_MAX):
            challenged(client.get("/open", auth=WRONG))
        assert hashes.calls == auth.FAILURES_MAX

    def test_removed(self, locked_out: FlaskClient, app: Flask, hashes: HashCount) -> None:
        """The control: where attempts are not counted, guessing goes on and is hashed each time."""
        count_no_attempts(app)
        challenged(locked_out.get("/open", auth=WRONG))
        assert hashes.calls == 1

    def test_without_credentials(self, locked_out: FlaskClient) -> None:
        """Nobody in particular is still served, from that address too."""
        assert locked_out.get("/open").status_code == 200

    def test_window_ends(self, locked_out: FlaskClient, clock: SteppingClock) -> None:
        """When the minute is over the address may try again."""
        clock.sleep(auth.FAILURES_WINDOW_S - 0.5)
        assert locked_out.get("/open", auth=ADMIN).headers["Retry-After"] == "1"
        clock.sleep(0.5)
        assert locked_out.get("/open", auth=ADMIN).status_code == 200

    def test_other_address(self, locked_out: FlaskClient) -> None:
        """Other addresses are not concerned."""
        answer = locked_out.get("/staff", auth=ADMIN, environ_base={"REMOTE_ADDR": "192.0.2.7"})
        assert answer.status_code == 200

    def test_forged_address(self, client: FlaskClient) -> None:
        """With no proxy in front a forged X-Forwarded-For gives no new attempts, and takes nobody else's."""
        victim = "192.0.2.7"
        for n in range(auth.FAILURES_MAX):
            challenged(client.get("/open", auth=WRONG, headers={"X-Forwarded-For": f"198.51.100.{n}"}))
        forged = {"X-Forwarded-For": victim}
        refused(client.get("/open", auth=WRONG, headers=forged), 429, "rate_limited")
        for _ in range(auth.FAILURES_MAX):
            client.get("/open", auth=WRONG, headers=forged)
        assert client.get("/staff", auth=ADMIN, environ_base={"REMOTE_ADDR": victim}).status_code == 200

    def test_behind_a_proxy(self, clock: SteppingClock) -> None:
        """Behind a trusted proxy the address that it saw is locked out, whatever its owner wrote before it; the
        others behind that proxy are not, and the user gets in from there."""
        client = make_app(replace(CONFIG, trusted_proxies=1), clock).test_client()
        for n in range(auth.FAILURES_MAX):
            forwarded = f"192.0.2.7, 198.51.100.{n}, 203.0.113.9"
            challenged(client.get("/open", auth=WRONG, headers={"X-Forwarded-For": forwarded}))
        refused(client.get("/open", auth=WRONG, headers={"X-Forwarded-For": "203.0.113.9"}), 429, "rate_limited")
        for other in ("192.0.2.7", "198.51.100.0"):
            answer = client.get("/staff", auth=ADMIN, headers={"X-Forwarded-For": other})
            assert answer.status_code == 200

    def test_many_addresses_of_one_subscriber(self, client: FlaskClient) -> None:
        """The /64 network that a subscriber has counts as one address: 2^64 of them give no more attempts."""
        for n in range(auth.FAILURES_MAX):
            own = {"REMOTE_ADDR": f"2001:db8:1:2::{n:x}"}
            challenged(client.get("/open", auth=WRONG, environ_base=own))
        last = {"REMOTE_ADDR": "2001:db8:1:2:ffff::1"}
        refused(client.get("/open", auth=WRONG, environ_base=last), 429, "rate_limited")
        neighbour = {"REMOTE_ADDR": "2001:db8:1:3::1"}
        challenged(client.get("/open", auth=WRONG, environ_base=neighbour))

    def test_remembered(self, client: FlaskClient) -> None:
        """Who was let in just before still is, from the same address: it costs nothing and tells nothing."""
        client.get("/staff", auth=ADMIN)
        for _ in range(auth.FAILURES_MAX + 1):
            client.get("/open", auth=WRONG)
        refused(client.get("/open", auth=WRONG), 429, "rate_limited")
        assert client.get("/staff", auth=ADMIN).status_code == 200

    def test_success_takes_no_attempt(self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """Right answers do not use up the attempts, and do not give wrong ones back."""
        monkeypatch.setattr(auth, "REMEMBERED_S", 0.0)
        for _ in range(auth.FAILURES_MAX - 1):
            challenged(client.get("/open", auth=WRONG))
            assert client.get("/staff", auth=ADMIN).status_code == 200
        challenged(client.get("/open", auth=WRONG))
        refused(client.get("/staff", auth=ADMIN), 429, "rate_limited")

    def test_storage_away(self, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """While nobody can know whether a password is right, none counts as wrong."""
        users = FakeUsers()
        app = make_app(CONFIG, clock, users=users)
        add_account(app, "ada", ADMIN[1], Role.CUSTOMER)
        with monkeypatch.context() as patch:
            patch.setattr(users, "find", away)
            for _ in range(auth.FAILURES_MAX + 1):
                refused(app.test_client().get("/open", auth=("ada", ADMIN[1])), 503, "storage_unavailable")
        assert app.test_client().get("/open", auth=("ada", ADMIN[1])).status_code == 200

    def test_counter_away(self, clock: SteppingClock) -> None:
        """When the shared counter is away this process counts by itself: guesses are never free."""
        client = make_app(CONFIG, clock, limits.GuardedCounter(Broken(), clock)).test_client()
        for _ in range(auth.FAILURES_MAX):
            challenged(client.get("/open", auth=WRONG))
        refused(client.get("/open", auth=WRONG), 429, "rate_limited")

    def test_log(self, client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
        """The log tells of a wrong answer and where it came from, not of what it was."""
        client.get("/open", auth=("people type passwords here", "or here"))
        [record] = [record for record in caplog.records if record.name == auth.__name__]
        assert record.__dict__["client"] == "127.0.0.1"
        assert "people type" not in caplog.text and "or here" not in caplog.text


class Broken:
    """A counter that is always away."""

    def hit(self, key: str, window_s: int, amount: int = 1) -> limits.Window:
        """Fail."""
        raise ConnectionError("refused")


class TestAddress:
    """The address that limits count by."""

    @pytest.mark.parametrize(
        ("remote", "address"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:5000", "192.0.2.7:5000"),
            ("", "unknown"),
        ],
    )
    def test_form(self, app: Flask, remote: str, address: str) -> None:
        """IPv6 counts by the /64 of a subscriber, IPv4 in IPv6 as IPv4, no address at all as one."""
        with app.test_request_context(environ_base={"REMOTE_ADDR": remote}):
            assert auth.client_address() == address
