"""Copies of commits in a real service: two workers of gunicorn book on one event, and hardly read its ledger."""

from __future__ import annotations

import http.client
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.service.conftest import Start
from tests.service.running import DEADLINE_S, NO_TLS, Service, children_of, eventually, kill
from ticketing.storage.recent import INDEX_BYTES, RING_BYTES

# What is tried runs in processes of its own: to count what this one runs tells little, and doubles its work.
pytestmark = pytest.mark.no_cover

CREDENTIALS = ("admin", "a password for the tests")
OURS = "python:ticketing.gunicorn_conf"

WITHOUT_COPIES = """
from ticketing.gunicorn_conf import *
from ticketing.storage import recent

recent._shared = None
"""

BOOKINGS = 40
MEMORY_BYTES = -(-(INDEX_BYTES + RING_BYTES) // PAGESIZE) * PAGESIZE

MakeService = Callable[[str], Service]


@pytest.fixture
def start_gunicorn(make_lean_service: Start) -> MakeService:
    """Start gunicorn itself with two workers and these settings of its own."""

    def start(settings: str) -> Service:
        command = [sys.executable, "-m", "gunicorn", "-c", settings, "wsgi:app"]
        auth = {"BASIC_AUTH_USERNAME": CREDENTIALS[0], "BASIC_AUTH_PASSWORD": CREDENTIALS[1]}
        service = make_lean_service(command=command, WEB_CONCURRENCY="2", RATELIMIT_ENABLED="false", **auth).start()
        eventually(service.is_healthy)
        return service

    return start


def counts(service: Service) -> dict[str, float]:
    """What its workers have counted together."""
    families = text_string_to_metric_families(service.get("/metrics").text)
    return {each.name: each.value for family in families for each in family.samples if not each.labels}


def workers(service: Service) -> set[int]:
    """The process ids of the workers."""
    return eventually(lambda: set(children_of(service.pid)))


def peer_of(service: Service, port: int) -> int:
    """The worker that has a connection from this port of ours."""
    ends = f":{service.port:04X} 0100007F:{port:04X} 01 "
    (line,) = (each for each in Path("/proc/net/tcp").read_text().splitlines() if ends in each)
    socket = f"socket:[{line.split()[9]}]"
    (pid,) = (
        pid
        for pid in workers(service)
        if any(str(fd.readlink()) == socket for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink())
    )
    return pid


@contextmanager
def a_connection_to_each(service: Service) -> Iterator[list[http.client.HTTPConnection]]:
    """One that is kept to each of both workers."""
    with ExitStack() as stack:
        found: dict[int, http.client.HTTPConnection] = {}

        def both_have_one() -> bool:
            one = http.client.HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
            stack.enter_context(closing(one))
            one.request("GET", "/healthz")
            assert one.getresponse().read()
            found[peer_of(service, one.sock.getsockname()[1])] = one
            return len(found) == 2

        eventually(both_have_one)
        yield list(found.values())


def book(connection: http.client.HTTPConnection, user_id: str) -> dict[str, Any]:
    """Book a ticket and return the order."""
    body = json.dumps({"event_id": "concert", "user_id": user_id})
    connection.request("POST", "/book", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    order: dict[str, Any] = json.load(answer)
    assert answer.status == 201, order
    return order


def reads_while_both_book(service: Service) -> float:
    """Open an event and book in turns through both workers, who know it; how often they read a ledger meanwhile."""
    event = {"event_id": "concert", "name": "Concert", "total_tickets": 500}
    assert httpx.post(f"{service.url}/initialize", json=event, auth=CREDENTIALS, verify=NO_TLS).status_code == 201
    with a_connection_to_each(service) as connections:
        for number, connection in enumerate(connections):
            book(connection, f"first-{number}")
        before = counts(service)
        orders = [book(connections[number % 2], f"user-{number}") for number in range(BOOKINGS)]
        after = counts(service)
    assert len({order["order_id"] for order in orders}) == BOOKINGS
    assert service.get("/status/concert").json()["booked_tickets"] == BOOKINGS + 2
    assert after["ticketing_lost_races_total"] == before["ticketing_lost_races_total"]
    return after["ticketing_catch_ups_total"] - before["ticketing_catch_ups_total"]


def shared_memory(worker: int) -> set[int]:
    """The inodes of the memory for copies that a process has: each was made once."""
    found = set()
    for line in Path(f"/proc/{worker}/maps").read_text().splitlines():
        addresses, access, _, _, inode, *_ = line.split()
        begin, end = (int(address, 16) for address in addresses.split("-"))
        if re.fullmatch("rw.s", access) and end - begin == MEMORY_BYTES:
            found.add(int(inode))
    return found


def test_workers_that_take_turns_need_not_read(start_gunicorn: MakeService) -> None:
    """After the first touch each finds at hand what the other one has committed."""
    assert reads_while_both_book(start_gunicorn(OURS)) == 0


def test_without_copies_each_reads_what_the_other_has_committed(start_gunicorn: MakeService, folder: Path) -> None:
    """The control."""
    (folder / "without_copies.py").write_text(WITHOUT_COPIES)
    assert reads_while_both_book(start_gunicorn("without_copies.py")) >= BOOKINGS - 2


def test_a_reload_shares_memory_anew(start_gunicorn: MakeService) -> None:
    """Workers share what they leave with those that replace one of them, and not with those that a reload brings."""
    service = start_gunicorn(OURS)
    first = two_without(service, set())
    (memory,) = memories(first)
    killed = min(first)
    kill(killed)
    second = two_without(service, {killed})
    assert memories(second) == {memory}
    service.signal(signal.SIGHUP)
    (other_memory,) = memories(two_without(service, second))
    assert other_memory != memory


def two_without(service: Service, gone: set[int]) -> set[int]:
    """Both workers, when they serve and these are gone."""

    def two() -> set[int]:
        now = workers(service)
        return now if len(now) == 2 and not now & gone and service.is_healthy() else set()

    return eventually(two)


def memories(pids: set[int]) -> set[int]:
    """The memory for copies that these workers have."""
    return set.union(*(shared_memory(pid) for pid in pids))
