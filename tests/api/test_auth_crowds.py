"""Many who log in at once: each is answered in time, nobody is refused for being many, and guesses stay few."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.security import check_password_hash, generate_password_hash

from ticketing.api import auth, limits
from ticketing.api.auth import Authenticator, Role
from ticketing.clock import Clock, SystemClock
from ticketing.config import Config
from ticketing.domain.accounts import Account
from ticketing.services import EXTENSION

from .conftest import CHEAP_HASH, Api, SteppingClock, count_no_attempts, refused
from .scratch import FakeUsers, RedisServer, make_app
from .test_auth import ADMIN, CONFIG, Broken

pytestmark = pytest.mark.usefixtures("cheap_hashes")

CROWD = 20
HASH_S = 0.05
SHORT = replace(CONFIG, web_threads=1, request_deadline_s=1.0)
"""A worker that has one hash under way at once, and little time."""

Counters = list[limits.GuardedCounter]
Credentials = tuple[str, str]
RIGHT: list[Credentials] = [(f"user-{n}", f"the password of user-{n}") for n in range(CROWD)]
WRONG: list[Credentials] = [(f"user-{n}", "a guess") for n in range(CROWD)]
UNKNOWN: list[Credentials] = [(f"nobody-{n}", "a guess") for n in range(CROWD)]


class Hashing:
    """Checks passwords so slowly that a crowd meets there, or until it may go on; counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.began = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._lock = threading.Lock()

    def __call__(self, password_hash: str, password: str) -> bool:
        with self._lock:
            self.calls += 1
        self.began.set()
        time.sleep(HASH_S)
        assert self.may_go_on.wait(30)
        return check_password_hash(password_hash, password)


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    """How passwords are checked."""
    hashing = Hashing()
    monkeypatch.setattr(auth, "check_password_hash", hashing)
    return hashing


def worker(
    config: Config = CONFIG, counter: limits.GuardedCounter | None = None, clock: Clock | None = None
) -> Flask:
    """A worker that knows the users."""
    users = FakeUsers()
    for user_id, password in RIGHT:
        password_hash = generate_password_hash(password, CHEAP_HASH)
        users.accounts[user_id] = Account(user_id, Role.CUSTOMER, password_hash, "stamp")
    return make_app(config, clock, counter, users)


def log_in(app: Flask, credentials: Credentials) -> int:
    """The status of an answer."""
    answer = app.test_client().get("/open", auth=credentials)
    assert answer.status_code != 503 or answer.headers["Retry-After"]
    return answer.status_code


def at_once(apps: Sequence[Flask], crowd: Sequence[Credentials]) -> Counter[int]:
    """How many got which status, from one address, each from a worker in its turn."""
    start = threading.Barrier(len(crowd))

    def call(n: int) -> int:
        start.wait()
        return log_in(apps[n % len(apps)], crowd[n])

    with ThreadPoolExecutor(len(crowd)) as threads:
        return Counter(threads.map(call, range(len(crowd))))


def attempts_left(app: Flask) -> int:
    """How many wrong passwords are still answered with 401."""
    return [log_in(app, (f"somebody-{n}", "x")) for n in range(auth.FAILURES_MAX + 1)].count(401)


class TestWait:
    """The wait for a hash ends with the time of the request."""

    @pytest.mark.parametrize("who", [RIGHT[1], RIGHT[0]], ids=["another", "the same"])
    def test_of_a_check(self, who: Credentials, hashing: Hashing) -> None:
        """Who has no turn in time gets 503 `overloaded`, and no attempt of the address is used up by it."""
        app = worker(SHORT)
        hashing.may_go_on.clear()
        with ThreadPoolExecutor() as threads:
            first = threads.submit(log_in, app, RIGHT[0])
            assert hashing.began.wait(30)
            began_s = time.monotonic()
            second = threads.submit(app.test_client().get, "/open", auth=who)
            try:
                refused(second.result(timeout=5), 503, "overloaded")
            finally:
                hashing.may_go_on.set()
            assert 0.5 <= time.monotonic() - began_s < 5
            assert first.result() == 200
        assert log_in(app, who) == 200
        assert attempts_left(app) == auth.FAILURES_MAX

    @pytest.mark.parametrize("mongo", ["mongomock"], indirect=True)
    @pytest.mark.parametrize("is_change", [False, True])
    def test_of_a_new_password(self, app: Flask, monkeypatch: pytest.MonkeyPatch, is_change: bool) -> None:
        """Registering, and giving another password: 503 in time, and nothing was done."""
        services, before = app.extensions[EXTENSION], app.extensions[auth.EXTENSION]
        app.extensions[EXTENSION] = replace(services, config=replace(services.config, request_deadline_s=1.0))
        counter = limits.make_counter(CONFIG, SystemClock())
        authenticator = Authenticator(before.accounts, before.tokens, counter, services.clock, hashes_max=1)
        app.extensions[auth.EXTENSION] = authenticator
        ada, password = {"user_id": "ada", "password": "a good passphrase of ada's"}, "another good passphrase"
        assert Api(app).get("/users", staff=True).status_code == 200  # from now on the admin is remembered
        if is_change:
            assert Api(app).post("/users", ada).status_code == 201

        began, may_go_on = threading.Event(), threading.Event()

        def hash_slowly(password: str, method: str) -> str:
            began.set()
            assert may_go_on.wait(30)
            return generate_password_hash(password, method)

        def send() -> object:
            if is_change:
                return Api(app).client.patch("/users/ada", json={"password": password}, auth=ADMIN)
            return Api(app).post("/users", ada)

        monkeypatch.setattr(auth, "generate_password_hash", hash_slowly)
        with ThreadPoolExecutor() as threads:
            first = threads.submit(Api(app).post, "/users", {"user_id": "bob", "password": password})
            assert began.wait(30)
            second = threads.submit(send)
            try:
                refused(second.result(timeout=5), 503, "overloaded")
            finally:
                may_go_on.set()
            assert first.result().status_code == 201
        found = before.accounts.fresh("ada")
        assert check_password_hash(found.password_hash, ada["password"]) if is_change else found is None


class TestMany:
    """Many from one address, as behind a proxy that is not trusted or in one house."""

    @pytest.fixture(params=["memory", "away", "redis"])
    def counters(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Counters]:
        """What two workers count with: together, or where the counter is away each by itself."""
        clock = SystemClock()
        if request.param == "memory":
            yield [limits.GuardedCounter(limits.MemoryCounter(clock), clock)] * 2
        elif request.param == "away":
            yield [limits.GuardedCounter(Broken(), clock) for _ in range(2)]
        else:
            redis = RedisServer(tmp_path)
            redis.start()
            try:
                yield [limits.GuardedCounter(limits.RedisCounter(redis.uri), clock) for _ in range(2)]
            finally:
                redis.kill()

    @pytest.mark.parametrize("web_threads", [4, 16])
    def test_right(self, hashing: Hashing, counters: Counters, web_threads: int) -> None:
        """Those who are all right are all let in, and use up nothing."""
        config = replace(CONFIG, web_threads=web_threads)
        apps = [worker(config, counter) for counter in counters]
        assert at_once(apps, RIGHT) == {200: CROWD}
        assert attempts_left(apps[0]) == auth.FAILURES_MAX

    def test_right_after_wrong(self, hashing: Hashing, counters: Counters) -> None:
        """Also where one attempt is left: they wait for those under way, of which each may turn out wrong."""
        apps = [worker(CONFIG, counter) for counter in counters]
        for credentials in WRONG[: auth.FAILURES_MAX - 1]:
            assert log_in(apps[0], credentials) == 401
        assert at_once(apps, RIGHT) == {200: CROWD}
        assert attempts_left(apps[0]) == 1

    @pytest.mark.parametrize("web_threads", [4, 16])
    @pytest.mark.parametrize("crowd", [WRONG, UNKNOWN], ids=["wrong", "unknown"])
    def test_wrong(
        self, hashing: Hashing, counters: Counters, crowd: list[Credentials], web_threads: int
    ) -> None:
        """Of guesses that are sent all at once ten are hashed, not one more, however many could be under way."""
        app = worker(replace(CONFIG, web_threads=web_threads), counters[0])
        assert at_once([app], crowd) == {401: auth.FAILURES_MAX, 429: CROWD - auth.FAILURES_MAX}
        assert hashing.calls == auth.FAILURES_MAX
        assert log_in(app, RIGHT[0]) == 429

    def test_wrong_in_two_workers(self, hashing: Hashing) -> None:
        """Nor are more where two workers count together."""
        clock = SystemClock()
        counter = limits.GuardedCounter(limits.MemoryCounter(clock), clock)
        apps = [worker(CONFIG, counter), worker(CONFIG, counter)]
        assert at_once(apps, WRONG) == {401: auth.FAILURES_MAX, 429: CROWD - auth.FAILURES_MAX}
        assert hashing.calls == auth.FAILURES_MAX

    def test_wrong_uncounted(self, hashing: Hashing) -> None:
        """The control: where attempts are not counted all of them are hashed."""
        app = worker()
        count_no_attempts(app)
        assert at_once([app], WRONG) == {401: CROWD}
        assert hashing.calls == CROWD

    def test_refused_at_once(self, hashing: Hashing) -> None:
        """An address without attempts is told so also where nobody gets a turn, and no user is looked up for it."""
        app = worker(SHORT)
        assert attempts_left(app) == auth.FAILURES_MAX
        users = app.extensions[auth.EXTENSION].accounts._users
        lookups = users.lookups
        hashing.may_go_on.clear()
        hashing.began.clear()
        with ThreadPoolExecutor() as threads:
            elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
            other = threads.submit(app.test_client().get, "/open", auth=ADMIN, environ_base=elsewhere)
            try:
                assert hashing.began.wait(30)
                assert log_in(app, RIGHT[0]) == 429
            finally:
                hashing.may_go_on.set()
            assert other.result().status_code == 200
        assert users.lookups == lookups


class TestAttempt:
    """What becomes of an attempt that did not fail."""

    def test_refused(self) -> None:
        """Who is refused adds nothing, be it known before his turn or in it."""
        clock = SystemClock()
        counter = limits.MemoryCounter(clock)
        app = worker(CONFIG, limits.GuardedCounter(counter, clock))

        def counted() -> int:
            return counter.hit(auth._attempts_key("127.0.0.1"), auth.FAILURES_WINDOW_S, 0).hits

        assert at_once([app], WRONG)[429] == CROWD - auth.FAILURES_MAX
        before = counted()
        assert at_once([app], RIGHT) == {429: CROWD}
        assert counted() == before
        assert before % auth.FAILURES_MAX == 0

    def test_broken_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A check that ends without a result takes none."""

        def check(password_hash: str, password: str) -> bool:
            raise MemoryError

        app = worker()
        with monkeypatch.context() as patch:
            patch.setattr(auth, "check_password_hash", check)
            assert [log_in(app, each) for each in RIGHT] == [500] * CROWD
        assert attempts_left(app) == auth.FAILURES_MAX

    def test_across_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those who are right as a new window begins are in nobody's way in it."""
        clock, together = SteppingClock(), threading.Barrier(3)

        def check(password_hash: str, password: str) -> bool:
            if together.wait(30) == 0:
                clock.sleep(auth.FAILURES_WINDOW_S)
            together.wait(30)
            return check_password_hash(password_hash, password)

        app = worker(clock=clock)
        with monkeypatch.context() as patch:
            patch.setattr(auth, "check_password_hash", check)
            assert at_once([app], RIGHT[:3]) == {200: 3}
        assert [log_in(app, WRONG[0]), log_in(app, RIGHT[4])] == [401, 200]
