"""Clients as bad as they come, by the thousand: the others are served as if nothing was."""

from __future__ import annotations

import contextlib
import itertools
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.ports import free_port
from tests.service.conftest import Start
from tests.service.running import Service, eventually

# What is tried runs in processes of its own: to count what this one runs tells little, and doubles its work.
pytestmark = pytest.mark.no_cover

CONNECTIONS = 5_000
HEAD = b"POST /book HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
# What a client sends at first; the rest follows a byte at a time, or never.
BEGINNINGS = (b"", b"G", b"GET /healthz HTTP/1.1\r\nX-Slow: ", HEAD, HEAD + b'{"event_id": "')
ASKING = b"GET /status/concert HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW_BODY = b'{"event_id": "concert", "user_id": "slowly"}'
SLOW_BOOKING = HEAD.replace(b"60000", b"%d" % len(SLOW_BODY)) + SLOW_BODY
CREDENTIALS = ("admin", "a password for the tests")
SETTINGS = {
    "BASIC_AUTH_USERNAME": CREDENTIALS[0],
    "BASIC_AUTH_PASSWORD": CREDENTIALS[1],
    "RATELIMIT_ENABLED": "false",  # all of them come from one address
}
DRIP_EVERY_S = 1.0
DRIPS = 3
PATIENCE_S = 10.0  # for an answer, at any time


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may open as many files as the system allows it at all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Connections that hold on to a service and want little of it, or nothing."""

    def __init__(self, port: int, stack: contextlib.ExitStack) -> None:
        self._port = port
        self._stack = stack
        self._holding: list[socket.socket] = []
        self._to_come: list[tuple[socket.socket, Iterator[bytes]]] = []  # what each sends yet, a byte at a time
        self.drips = 0

    def grow(self, count: int) -> None:
        """More of them; each has begun in another way, and some go on for ever."""
        for beginning in itertools.islice(itertools.cycle(BEGINNINGS), count):
            self.enter(beginning, itertools.repeat(b"a") if beginning else iter(()))

    def enter(self, beginning: bytes, to_come: Iterator[bytes]) -> socket.socket:
        """One that says something, and drips what is to come."""
        connection = self._connect(beginning)
        self._holding.append(connection)
        self._to_come.append((connection, to_come))
        return connection

    def grow_of_idle(self, count: int) -> None:
        """More of them, who have asked once, were answered, and keep their connections, like a browser."""
        came = [self._connect(ASKING) for _ in range(count)]
        for connection in came:
            assert _answer(connection).startswith(b"HTTP/1.1 200")
        self._holding += came

    def grow_of_half_closed(self, count: int) -> list[socket.socket]:
        """More of them, who have asked and closed their side. They listen, and have not looked yet."""
        came = [self._connect(ASKING) for _ in range(count)]
        for connection in came:
            connection.shutdown(socket.SHUT_WR)
        return came

    @contextlib.contextmanager
    def dripping(self) -> Iterator[None]:
        """Each who has something to come sends a byte of it each second. `drips` counts the seconds."""
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(DRIP_EVERY_S):
                self.drip()

        thread = threading.Thread(target=drip, name="dripping")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def drip(self) -> None:
        """Each who has something to come sends a byte of it."""
        for connection, to_come in self._to_come:
            connection.sendall(next(to_come, b""))
        self.drips += 1

    def still_there(self) -> int:
        """How many the service has not let go."""
        return sum(_is_open(connection) for connection in self._holding)

    def _connect(self, beginning: bytes) -> socket.socket:
        connection = self._stack.enter_context(socket.create_connection(("127.0.0.1", self._port), PATIENCE_S))
        connection.sendall(beginning)
        return connection


@pytest.fixture
def crowd_at(many_files: None) -> Iterator[Callable[[int], Crowd]]:
    """Makes a crowd at a port, which goes home after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda port: Crowd(port, stack)


class TestACrowd:
    def test_others_are_served(self, make_lean_service: Start, crowd_at: Callable[[int], Crowd]) -> None:
        """5,000 connections that are idle, or send a byte now and then, and one that books."""
        service = make_lean_service(**SETTINGS).start().wait_until_serving()
        crowd = crowd_at(service.port)
        with httpx.Client(base_url=service.url, timeout=PATIENCE_S, auth=CREDENTIALS) as client:
            client.post("/initialize", json={"name": "Concert", "total_tickets": 9, "event_id": "concert"})
            for number in range(2):
                crowd.grow(CONNECTIONS // 2)
                crowd.drip()
                assert _book(client, number).status_code == 201
            with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as newcomer:
                assert _book(newcomer, 2).status_code == 201
        assert crowd.still_there() == CONNECTIONS
        assert service.stop() == 0
        assert "Traceback" not in service.output

    def test_others_are_served_while_it_drips(
        self, make_lean_service: Start, crowd_at: Callable[[int], Crowd]
    ) -> None:
        """1,000 that send a byte each second, 500 that have asked and idle, 500 that have asked and closed their side:
        meanwhile one books again and again, those get their answers, and so does a booking that drips."""
        service = make_lean_service(**SETTINGS).start().wait_until_serving()
        crowd = crowd_at(service.port)
        with httpx.Client(base_url=service.url, timeout=PATIENCE_S, auth=CREDENTIALS) as client:
            client.post("/initialize", json={"name": "Concert", "total_tickets": 9, "event_id": "concert"})
            crowd.grow(1_000)
            slow = crowd.enter(SLOW_BOOKING[:-DRIPS], iter([bytes([byte]) for byte in SLOW_BOOKING[-DRIPS:]]))
            with crowd.dripping():
                crowd.grow_of_idle(500)
                half_closed = crowd.grow_of_half_closed(500)
                numbers = itertools.count()
                while crowd.drips < DRIPS:
                    assert _book(client, next(numbers)).status_code in (201, 202)
        assert _answer(slow).startswith((b"HTTP/1.1 201", b"HTTP/1.1 202"))
        assert {connection.makefile("rb").read()[:12] for connection in half_closed} == {b"HTTP/1.1 200"}
        assert crowd.still_there() == 1_000 + 500 + 1
        assert "Traceback" not in service.output

    def test_threads_would_not_do(self, make_lean_service: Start, crowd_at: Callable[[int], Crowd]) -> None:
        """The control: in a worker of system threads, as many slow clients as threads stop it."""
        port = free_port()
        gthread = ["-k", "gthread", "--threads", "4", "-b", f"127.0.0.1:{port}"]
        service = make_lean_service(command=[sys.executable, "-m", "gunicorn", *gthread, "wsgi:app"])
        service.url = f"http://127.0.0.1:{port}"
        service.start()
        eventually(service.is_healthy)
        crowd = crowd_at(port)
        crowd.grow(4 * len(BEGINNINGS))
        with crowd.dripping(), pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{service.url}/healthz", timeout=2)


class TestOneClient:
    def test_that_closes_its_side_is_answered_or_let_go(self, lean_service: Service) -> None:
        """Half-closed: who has asked gets the answer; who broke off gets a refusal at most, and the end."""
        for sent, answers in [
            (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", (b"HTTP/1.1 200",)),
            *((beginning, (b"", b"HTTP/1.1 400")) for beginning in BEGINNINGS),
        ]:
            with socket.create_connection(("127.0.0.1", lean_service.port), PATIENCE_S) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                assert connection.makefile("rb").read()[:12] in answers

    def test_that_falls_silent_is_let_go(self, make_lean_service: Start) -> None:
        """In the head, in the body, and while it does not take its answers."""
        service = make_lean_service(GUNICORN_CMD_ARGS="--keep-alive 1", **SETTINGS)
        service.start().wait_until_serving()
        for beginning in BEGINNINGS:
            with socket.create_connection(("127.0.0.1", service.port), PATIENCE_S) as connection:
                connection.sendall(beginning)
                assert connection.makefile("rb").read()[:12] in (b"", b"HTTP/1.1 400")
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE_S) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with pytest.raises(ConnectionError):
                while True:
                    connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        service.wait_until_output_has("a client was too slow")
        assert "Traceback" not in service.output


def _book(client: httpx.Client, number: int) -> httpx.Response:
    return client.post("/book", json={"event_id": "concert", "user_id": f"user-{number}"})


def _answer(connection: socket.socket) -> bytes:
    """One answer, to its end."""
    read = b""
    while not (head := read.partition(b"\r\n\r\n"))[1] or len(head[2]) < _length(head[0]):
        received = connection.recv(65_536)
        assert received, read
        read += received
    return read


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split()[0])


def _is_open(connection: socket.socket) -> bool:
    """Whether the other side has not closed it, having said nothing either."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
