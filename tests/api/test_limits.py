"""How often somebody may call: who is counted as whom, where, and what happens when nobody can count."""

from __future__ import annotations

import http.client
import logging
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from flask.testing import FlaskClient
from limits.storage import RedisStorage

from tests.ports import free_port
from ticketing.api import limits
from ticketing.api.auth import Authenticator
from ticketing.api.limits import GuardedCounter, MemoryCounter, RedisCounter, Window
from ticketing.config import Config

from .conftest import SteppingClock, check_problem, refused
from .scratch import RedisServer, make_app, wait_until

ADMIN = ("admin", "correct horse battery staple")
HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


@pytest.fixture
def clock() -> SteppingClock:
    """A clock that moves when a test says so."""
    return SteppingClock()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A running redis-server."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


def config_with(**settings: Any) -> Config:
    """Small limits, and an admin."""
    usual: dict[str, Any] = {
        "basic_auth_username": ADMIN[0],
        "basic_auth_password": ADMIN[1],
        "ratelimit_default": "5/minute",
        "ratelimit_book": "3/minute",
    }
    return Config(**usual | settings)


def statuses(client: FlaskClient, times: int, path: str = "/open", **options: Any) -> list[int]:
    """The statuses of so many GETs."""
    return [client.get(path, **options).status_code for _ in range(times)]


def bookings(client: FlaskClient, times: int, **options: Any) -> list[int]:
    """The statuses of so many POSTs to /book."""
    return [client.post("/book", **options).status_code for _ in range(times)]


def away_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the log said about a storage that is away."""
    return [record for record in caplog.records if "storage away" in record.getMessage()]


class CountedCounter:
    """A counter that counts how often it is asked, and fails while `error` is set."""

    def __init__(self, counter: limits.Counter) -> None:
        self._counter = counter
        self.asked = 0
        self.error: Exception | None = None

    def hit(self, key: str, window_s: int, amount: int = 1) -> Window:
        """Count or fail."""
        self.asked += 1
        if self.error:
            raise self.error
        return self._counter.hit(key, window_s, amount)


class TestLimits:
    """What is limited to how much."""

    def test_default(self, clock: SteppingClock) -> None:
        """A client may make so many requests in a window, over all endpoints together."""
        client = make_app(config_with(), clock).test_client()
        assert statuses(client, 3) + statuses(client, 3, "/open/below") == [200] * 5 + [429]

    def test_tight(self, clock: SteppingClock) -> None:
        """Booking and cancelling have a limit of their own each, and take nothing from the others."""
        client = make_app(config_with(), clock).test_client()
        assert bookings(client, 4) == [200] * 3 + [429]
        assert client.post("/cancel").status_code == 200
        assert statuses(client, 6) == [200] * 5 + [429]

    def test_several(self, clock: SteppingClock) -> None:
        """A setting may hold several limits: each holds. The shortest is counted first and refuses first."""
        client = make_app(config_with(ratelimit_default="2/second;3/minute"), clock).test_client()
        assert statuses(client, 3) == [200, 200, 429]
        clock.sleep(1)
        assert statuses(client, 2) == [200, 429]

    def test_unlimited(self, clock: SteppingClock) -> None:
        """Health is never limited, and says nothing about limits."""
        client = make_app(config_with(), clock).test_client()
        statuses(client, 6)
        assert statuses(client, 50, "/healthz") == [200] * 50
        assert not any(name in client.get("/healthz").headers for name in HEADERS)

    def test_disabled(self, clock: SteppingClock) -> None:
        """RATELIMIT_ENABLED=false: nothing is limited, nothing is said."""
        client = make_app(config_with(ratelimit_enabled=False), clock).test_client()
        assert statuses(client, 20) == [200] * 20
        assert not any(name in client.get("/open").headers for name in HEADERS)

    def test_window(self, clock: SteppingClock) -> None:
        """A window begins with the first request in it, and all of the limit is there again when it ends."""
        client = make_app(config_with(), clock).test_client()
        statuses(client, 1)
        clock.sleep(59)
        assert statuses(client, 5) == [200] * 4 + [429]
        clock.sleep(1)
        assert statuses(client, 6) == [200] * 5 + [429]

    def test_apps_do_not_share(self, clock: SteppingClock) -> None:
        """Each app counts for itself, and with its own limits."""
        one = make_app(config_with(), clock).test_client()
        other = make_app(config_with(ratelimit_default="7/minute"), clock).test_client()
        assert statuses(one, 6)[-1] == 429
        assert statuses(other, 8) == [200] * 7 + [429]

    def test_misspelt_endpoint(self, clock: SteppingClock) -> None:
        """A name that is no endpoint is refused at the start: it would be left without its limit."""
        app, config = make_app(config_with(), clock), config_with()
        counter = limits.make_counter(config, clock)
        with pytest.raises(ValueError, match="no such endpoints: bok, service.heathz"):
            limits.init_limits(app, config, counter, clock, tight={"bok": "1/minute"}, unlimited={"service.heathz"})


class TestAnswers:
    """What a client is told."""

    def test_headers(self, clock: SteppingClock) -> None:
        """Each limited answer tells the limit, what is left, and when it starts anew (seconds since 1970)."""
        client = make_app(config_with(), clock).test_client()
        begin = clock.now().timestamp()
        answer = client.post("/book")
        assert [answer.headers[name] for name in HEADERS] == ["3", "2", str(int(begin) + 61)]
        assert "Retry-After" not in answer.headers
        assert client.post("/book").headers["X-RateLimit-Remaining"] == "1"
        assert client.get("/open").headers["X-RateLimit-Limit"] == "5"

    def test_refused(self, clock: SteppingClock) -> None:
        """A 429 is a problem and says in how many seconds to come back; they become fewer."""
        client = make_app(config_with(), clock).test_client()
        bookings(client, 3)
        clock.sleep(18.5)
        answer = client.post("/book")
        check_problem(answer)
        refused(answer, 429, "rate_limited")
        assert answer.headers["Retry-After"] == "42"
        assert answer.headers["X-RateLimit-Remaining"] == "0"
        clock.sleep(41.4)
        assert client.post("/book").headers["Retry-After"] == "1"

    def test_errors_have_them_too(self, clock: SteppingClock) -> None:
        """An error of a limited endpoint is a limited answer."""
        client = make_app(config_with(), clock).test_client()
        assert client.get("/staff").headers["X-RateLimit-Remaining"] == "4"
        assert client.get("/fails").headers["X-RateLimit-Remaining"] == "3"

    def test_unknown_path(self, clock: SteppingClock) -> None:
        """A path that does not exist costs nothing and counts nothing."""
        client = make_app(config_with(), clock).test_client()
        assert statuses(client, 20, "/nothing") == [404] * 20


class TestWho:
    """Who is counted as whom."""

    def test_user(self, clock: SteppingClock) -> None:
        """A user has one count, wherever he calls from; it is not that of his address."""
        client = make_app(config_with(), clock).test_client()
        elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
        assert bookings(client, 2, auth=ADMIN) == [200, 200]
        assert bookings(client, 2, auth=ADMIN, environ_base=elsewhere) == [200, 429]
        assert bookings(client, 4) == [200] * 3 + [429]

    def test_address(self, clock: SteppingClock) -> None:
        """Without credentials each address has a count."""
        client = make_app(config_with(), clock).test_client()
        assert bookings(client, 4)[-1] == 429
        assert bookings(client, 4, environ_base={"REMOTE_ADDR": "192.0.2.7"}) == [200] * 3 + [429]

    def test_keys(self, clock: SteppingClock) -> None:
        """Users and addresses are counted under keys that cannot be the same."""
        counter = CountedKeys(clock)
        client = make_app(config_with(), clock, GuardedCounter(counter, clock)).test_client()
        client.get("/open")
        client.get("/open", auth=ADMIN)
        addressed, *_, by_name = counter.keys
        assert addressed.endswith("/all/5/1/minute/ip:127.0.0.1") and by_name.endswith("/all/5/1/minute/user:admin")

    def test_no_proxy(self, clock: SteppingClock) -> None:
        """With no proxy in front X-Forwarded-For is what anybody may write, and means nothing."""
        client = make_app(config_with(), clock).test_client()
        spoofed = [
            client.post("/book", headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code for n in range(4)
        ]
        assert spoofed == [200] * 3 + [429]

    @pytest.mark.parametrize(
        ("proxies", "forwarded", "counted_as"),
        [
            (1, "203.0.113.9", "203.0.113.9"),
            (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
            (2, "198.51.100.1, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
            (2, "203.0.113.9", "127.0.0.1"),
            (1, "", "127.0.0.1"),
        ],
    )
    def test_proxies(self, clock: SteppingClock, proxies: int, forwarded: str, counted_as: str) -> None:
        """Behind n proxies the n-th value from the right is the client; left of it stands what it wrote."""
        counter = CountedKeys(clock)
        app = make_app(config_with(trusted_proxies=proxies), clock, GuardedCounter(counter, clock))
        app.test_client().post("/book", headers={"X-Forwarded-For": forwarded})
        [key] = counter.keys
        assert key.endswith(f"/ip:{counted_as}")

    def test_wrong_credentials(self, clock: SteppingClock) -> None:
        """Wrong credentials are refused before they are counted as anybody's request."""
        client = make_app(config_with(), clock).test_client()
        assert statuses(client, 3, auth=("admin", "wrong")) == [401] * 3
        assert client.get("/open").headers["X-RateLimit-Remaining"] == "4"

    def test_checked_once(self, clock: SteppingClock) -> None:
        """Limit, view and decorator ask who is calling; the credentials are checked once."""
        app = make_app(config_with(), clock)
        check_really = Authenticator.check
        with mock.patch.object(Authenticator, "check", autospec=True, side_effect=check_really) as check:
            assert app.test_client().get("/staff", auth=ADMIN).status_code == 200
        assert check.call_count == 1


class CountedKeys(MemoryCounter):
    """Remembers what was counted."""

    def __init__(self, clock: SteppingClock) -> None:
        super().__init__(clock)
        self.keys: list[str] = []

    def hit(self, key: str, window_s: int, amount: int = 1) -> Window:
        """Count."""
        self.keys.append(key)
        return super().hit(key, window_s, amount)


class SlowWindows(OrderedDict[str, tuple[int, float]]):
    """Lets other threads run between a look at a count and the next step."""

    def get(self, key: str, default: Any = None) -> Any:
        """Look, and let others go first."""
        found = super().get(key, default)
        time.sleep(0)
        return found


class TestMemoryCounter:
    """Counting in a process."""

    def test_threads(self, clock: SteppingClock) -> None:
        """Sixteen threads count what sixteen threads do: no hit is lost and none is counted twice."""
        counter, start = MemoryCounter(clock), threading.Barrier(16)

        def count(_: int) -> list[int]:
            start.wait()
            return [counter.hit("key", 60).hits for _ in range(50)]

        counter._windows[60] = SlowWindows()
        with ThreadPoolExecutor(16) as threads:
            hits = [hit for each in threads.map(count, range(16)) for hit in each]
        assert sorted(hits) == list(range(1, 16 * 50 + 1))

    def test_ended_are_dropped(self, clock: SteppingClock) -> None:
        """Windows that have ended leave the memory: one of a day does not keep those of a minute."""
        counter = MemoryCounter(clock)
        counter.hit("slow", 86400)
        for n in range(1000):
            counter.hit(f"client {n}", 60)
        clock.sleep(60)
        assert counter.hit("client 7", 60) == Window(1, 60)
        assert counter.hit("slow", 86400) == Window(2, 86340)
        assert [len(windows) for windows in counter._windows.values()] == [1, 1]

    def test_bound(self, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many clients come, a number of windows is kept; the oldest is forgotten first."""
        monkeypatch.setattr(limits, "MEMORY_CLIENTS_MAX", 3)
        counter = MemoryCounter(clock)
        for key in ("a", "b", "c", "d"):
            counter.hit(key, 60)
        assert counter.hit("d", 60).hits == 2
        assert counter.hit("a", 60).hits == 1


class TestRedis:
    """Counting in a real redis-server."""

    def test_two_processes(self, redis: RedisServer) -> None:
        """A limit holds across workers: of 40 bookings through two gunicorn processes in turn, 20 pass."""
        with two_servers(RATELIMIT_BOOK="20/minute", RATELIMIT_STORAGE_URI=redis.uri) as ports:
            answers = [post_book(ports[n % 2]) for n in range(40)]
        assert answers == [200] * 20 + [429] * 20

    def test_two_processes_in_memory(self) -> None:
        """The control: with memory:// each of the two counts for itself, and all 40 pass."""
        with two_servers(RATELIMIT_BOOK="20/minute", RATELIMIT_STORAGE_URI="memory://") as ports:
            assert [post_book(ports[n % 2]) for n in range(40)] == [200] * 40
            assert [post_book(port) for port in ports] == [429] * 2

    def test_two_apps(self, redis: RedisServer) -> None:
        """Failed credentials are counted together, too."""
        config = config_with(ratelimit_storage_uri=redis.uri, ratelimit_default="100/minute")
        one, other = (make_app(config).test_client() for _ in range(2))
        assert statuses(one, 5, auth=("admin", "wrong")) + statuses(other, 6, auth=("admin", "wrong")) == (
            [401] * 10 + [429]
        )

    def test_one_round_trip(self, redis: RedisServer) -> None:
        """A limited request, its headers included, asks Redis once."""
        client = make_app(config_with(ratelimit_storage_uri=redis.uri)).test_client()
        client.post("/book")
        before = redis.commands()
        answers = [client.post("/book") for _ in range(2)]
        after = redis.commands()
        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0"]
        asked = {name: calls - before.get(name, 0) for name, calls in after.items()}
        assert asked["evalsha"] == 2
        # What the script does inside Redis is counted as commands as well, and so are this test's questions.
        assert {name for name, calls in asked.items() if calls} - {"info", "hello", "client|setinfo"} == {
            "evalsha",
            "incrby",
            "pttl",
        }

    def test_window(self, redis: RedisServer) -> None:
        """A window is counted up and has an end; one that has lost its end gets a new one."""
        counter = RedisCounter(redis.uri)
        assert counter.hit("key", 60).hits == 1
        hits, resets_in_s = counter.hit("key", 60, 2)
        assert hits == 3 and 0 < resets_in_s <= 60
        storage = RedisStorage(redis.uri)
        assert storage.storage.persist(storage.prefixed_key("key"))
        hits, resets_in_s = counter.hit("key", 60)
        assert hits == 4 and 0 < resets_in_s <= 60

    def test_window_ends(self, redis: RedisServer) -> None:
        """Redis forgets a window when it has ended, without being asked to."""
        counter, keys = RedisCounter(redis.uri), RedisStorage(redis.uri)
        counter.hit("key", 1)
        wait_until(lambda: not keys.storage.exists(keys.prefixed_key("key")), "the end of a window of 1 s")
        assert counter.hit("key", 1).hits == 1

    def test_restarted(self, redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
        """Redis may be restarted: connections that died with it are replaced, and no request notices."""
        client = make_app(config_with(ratelimit_storage_uri=redis.uri)).test_client()
        client.post("/book")
        redis.kill()
        redis.start()
        answer = client.post("/book")
        assert answer.status_code == 200 and answer.headers["X-RateLimit-Remaining"] == "2"
        assert not away_lines(caplog)

    @pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
    def test_no_patience(self, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of whatever kind it is: where nobody answers no request waits to try again, as redis-py would."""

        def sleep(seconds: float) -> None:
            pytest.fail(f"would wait for {seconds} s")

        monkeypatch.setattr("redis.retry.sleep", sleep)
        counter = RedisCounter(f"{scheme}://127.0.0.1:{free_port()}/0")
        with pytest.raises(Exception, match="refused|No master found|cannot be connected"):
            counter.hit("key", 60)


class TestRedisAway:
    """The service goes on without limits when there is no Redis, and says so."""

    def test_refused(self, clock: SteppingClock, caplog: pytest.LogCaptureFixture) -> None:
        """With nobody there from the start all requests are served, without headers; one of them tried."""
        uri = f"redis://127.0.0.1:{free_port()}"
        counter = CountedCounter(RedisCounter(uri))
        config = config_with(ratelimit_storage_uri=uri)
        client = make_app(config, clock, GuardedCounter(counter, clock)).test_client()
        assert bookings(client, 20) == [200] * 20
        assert not any(name in client.post("/book").headers for name in (*HEADERS, "Retry-After"))
        assert counter.asked == 1
        assert len(away_lines(caplog)) == 1

    @pytest.mark.parametrize("fault", [RedisServer.kill, RedisServer.hang])
    def test_dies(
        self,
        redis: RedisServer,
        clock: SteppingClock,
        caplog: pytest.LogCaptureFixture,
        fault: Callable[[RedisServer], None],
    ) -> None:
        """Killed or hanging in the middle: one request finds out, all are served, the log says it once."""
        counter = CountedCounter(RedisCounter(redis.uri))
        client = make_app(config_with(), clock, GuardedCounter(counter, clock)).test_client()
        assert bookings(client, 4)[-1] == 429
        fault(redis)
        asked_before = counter.asked
        assert bookings(client, 20) == [200] * 20
        assert counter.asked - asked_before == 1
        assert len(away_lines(caplog)) == 1

    def test_comes_back(
        self, redis: RedisServer, clock: SteppingClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When a hanging Redis goes on, so do the limits, with the counts that it kept; the log says so."""
        caplog.set_level(logging.INFO)
        client = make_app(config_with(ratelimit_storage_uri=redis.uri), clock).test_client()
        bookings(client, 3)
        redis.hang()
        assert bookings(client, 2) == [200, 200]
        redis.go_on()
        assert client.post("/book").status_code == 200
        clock.sleep(limits.AWAY_RETRY_S)
        assert client.post("/book").status_code == 429
        assert [record.getMessage() for record in caplog.records if "is back" in record.getMessage()]

    def test_real_time(self, redis: RedisServer) -> None:
        """By the machine's clock: sixteen threads meet a Redis that hangs, and all are served."""
        app = make_app(config_with(ratelimit_storage_uri=redis.uri))
        app.test_client().post("/book")
        redis.hang()
        with ThreadPoolExecutor(16) as threads:
            answers = threads.map(lambda _: app.test_client().post("/book").status_code, range(64))
            assert set(answers) == {200}


class TestGuardedCounter:
    """What a counter's absence costs."""

    def test_tries(self, clock: SteppingClock) -> None:
        """After a failure it is left alone for some seconds, then tried by one request, and so on."""
        counter = CountedCounter(MemoryCounter(clock))
        guarded = GuardedCounter(counter, clock)
        counter.error = ConnectionError("refused")
        for _ in range(3):
            assert [guarded.hit("key", 60) for _ in range(10)] == [None] * 10
            clock.sleep(limits.AWAY_RETRY_S)
        assert counter.asked == 3
        counter.error = None
        assert guarded.hit("key", 60) == Window(1, 60)
        assert guarded.hit("key", 60) == Window(2, 60)

    def test_one_tries(self, clock: SteppingClock) -> None:
        """While one request waits for what may hang again, the others go on."""
        hanging, go_on = threading.Event(), threading.Event()

        class Hanging(CountedCounter):
            def hit(self, key: str, window_s: int, amount: int = 1) -> Window:
                if self.asked:
                    hanging.set()
                    assert go_on.wait(20)
                return super().hit(key, window_s, amount)

        counter = Hanging(MemoryCounter(clock))
        guarded = GuardedCounter(counter, clock)
        counter.error = TimeoutError()
        guarded.hit("key", 60)
        clock.sleep(limits.AWAY_RETRY_S)
        with ThreadPoolExecutor(1) as thread:
            trying = thread.submit(guarded.hit, "key", 60)
            assert hanging.wait(20)
            assert [guarded.hit("key", 60) for _ in range(10)] == [None] * 10
            go_on.set()
            assert trying.result() is None
        assert counter.asked == 2

    def test_log(self, clock: SteppingClock, caplog: pytest.LogCaptureFixture) -> None:
        """However long it lasts and however often it is tried, the log says so once a minute at most."""
        counter = CountedCounter(MemoryCounter(clock))
        counter.error = ConnectionError("refused")
        guarded = GuardedCounter(counter, clock)
        for _ in range(600):
            guarded.hit("key", 60)
            clock.sleep(1)
        assert counter.asked == 120
        assert len(away_lines(caplog)) == 10
        assert away_lines(caplog)[0].__dict__["error"] == "ConnectionError: refused"

    def test_log_of_a_flapping_one(self, clock: SteppingClock, caplog: pytest.LogCaptureFixture) -> None:
        """Coming back in between does not make it say so more often."""
        counter = CountedCounter(MemoryCounter(clock))
        guarded = GuardedCounter(counter, clock)
        for second in range(120):
            counter.error = ConnectionError("refused") if second % 2 else None
            guarded.hit("key", 60)
            clock.sleep(limits.AWAY_RETRY_S)
        assert len(away_lines(caplog)) == 10

    def test_two_find_it_back(self, clock: SteppingClock, caplog: pytest.LogCaptureFixture) -> None:
        """Of requests that find it back at the same time one says so."""
        caplog.set_level(logging.INFO)
        guarded = GuardedCounter(MemoryCounter(clock), clock)
        guarded._went_away(ConnectionError())
        guarded._came_back()
        guarded._came_back()
        assert len([record for record in caplog.records if "is back" in record.getMessage()]) == 1

    def test_strictly(self, clock: SteppingClock) -> None:
        """What must not go uncounted is counted in this process meanwhile."""
        counter = CountedCounter(MemoryCounter(clock))
        guarded = GuardedCounter(counter, clock)
        assert guarded.hit_strictly("key", 60).hits == 1
        counter.error = ConnectionError("refused")
        assert [guarded.hit_strictly("key", 60).hits for _ in range(3)] == [1, 2, 3]


@contextmanager
def two_servers(**environment: str) -> Iterator[list[int]]:
    """The ports of two gunicorn processes with a worker each."""
    with ExitStack() as servers:
        yield [servers.enter_context(server(**environment)) for _ in range(2)]


@contextmanager
def server(**environment: str) -> Iterator[int]:
    """The port of a gunicorn process with one worker that serves the scratch app."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    command += ["--threads", "4", "--no-control-socket", "tests.api.scratch:serve()"]
    settings = {**os.environ, **environment, "LOG_LEVEL": "error"}
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=settings)
    try:
        wait_until(lambda: answers(port), "gunicorn")
        yield port
    finally:
        process.terminate()
        assert process.wait(20) == 0


def answers(port: int) -> bool:
    """Whether somebody serves at this port."""
    try:
        return request(port, "GET", "/healthz") == 200
    except OSError:
        return False


def post_book(port: int) -> int:
    """The status of a booking."""
    return request(port, "POST", "/book")


def request(port: int, method: str, path: str) -> int:
    """The status of a request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()
