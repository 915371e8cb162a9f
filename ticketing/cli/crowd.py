"""A crowd that books over HTTP, and what must be true of the orders afterwards."""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlencode, urlsplit

from .terminal import fail

ANSWER_TIMEOUT_S = 15.0  # above the 10 s within which the service answers
BACK_OFF_S = 0.2
TRIES_MAX = 50  # of what the crowd does not time: opening the event, reading it afterwards
TEMPORARY = {429, 503}


@dataclass
class Booking:
    """What one user saw. `order` is the answer to a booking, None while there is none. Times are monotonic."""

    user_id: str
    began_s: float
    ended_s: float = 0.0
    latency_s: float = 0.0  # of the request that was answered
    status: int | None = None
    order: dict[str, Any] | None = None
    outcomes: list[str] = field(default_factory=list)  # of each request: the status, or what became of it


class Client:
    """One connection, opened again when it broke. `headers` go with each request."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = connection(parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT_S)
        self._url, self._prefix, self._headers = url, parts.path.rstrip("/"), headers

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and body of the answer. Raises `OSError` or `HTTPException` where there is none."""
        sent = {"Content-Type": "application/json", **self._headers, **headers}
        try:
            self._connection.request(method, self._prefix + path, body and json.dumps(body), sent)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException):
            self.close()
            raise
        try:
            return answer.status, json.loads(content)
        except ValueError:  # whatever stands in front of the service
            return answer.status, {"code": "no_json"}

    def answer(self, method: str, path: str, body: Any = None) -> Any:
        """The body of a success, which may take several tries. Ends the command where there is none."""
        key = secrets.token_hex(16)
        for _ in range(TRIES_MAX):
            try:
                status, answer = self.ask(method, path, body, **{"Idempotency-Key": key})
            except (OSError, HTTPException) as error:
                fail(f"The service at {self._url} does not answer ({type(error).__name__}).")
            if status not in TEMPORARY:
                break
            time.sleep(BACK_OFF_S)
        if status >= 300:
            fail(f"{method} {path}: {status} {answer.get('code')}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def send_crowd(
    url: str, headers: Mapping[str, str], ticket: dict[str, str], seconds: float, *, users: int, connections: int
) -> Generator[Booking, None, None]:
    """What each user saw, as it comes: those who came before the time was over.

    `ticket` is what a booking says beside its user.
    """
    waiting: SimpleQueue[str] = SimpleQueue()
    done: SimpleQueue[Booking | None] = SimpleQueue()
    name = f"loadtest-{secrets.token_hex(4)}"
    for number in range(users):
        waiting.put(f"{name}-{number}")
    end_s = time.monotonic() + seconds
    interrupted = threading.Event()

    def is_over() -> bool:
        return interrupted.is_set() or time.monotonic() >= end_s

    def work() -> None:
        client = Client(url, headers)
        try:
            while not is_over():
                done.put(_book(client, ticket | {"user_id": waiting.get_nowait()}, is_over))
        except Empty:
            pass
        finally:
            client.close()
            done.put(None)

    with ThreadPoolExecutor(connections) as pool:
        workers = [pool.submit(work) for _ in range(connections)]
        try:
            for _ in workers:
                yield from iter(done.get, None)
        finally:  # after Ctrl-C nobody waits for the rest
            interrupted.set()
        for worker in workers:
            worker.result()


def _book(client: Client, body: dict[str, str], is_over: Callable[[], bool]) -> Booking:
    """Book as a careful client does: where there was no answer it asks again, with the same Idempotency-Key."""
    booking = Booking(body["user_id"], time.monotonic())
    while True:
        began_s = time.monotonic()
        try:
            status, answer = client.ask("POST", "/book", body, **{"Idempotency-Key": booking.user_id})
        except (OSError, HTTPException):
            status, answer = None, {}
        booking.ended_s = time.monotonic()
        booking.outcomes.append(_outcome(status, answer))
        if status is not None and status not in TEMPORARY:
            booking.status, booking.latency_s = status, booking.ended_s - began_s
            booking.order = answer if status in (201, 202) else None
            return booking
        if is_over():
            return booking
        time.sleep(BACK_OFF_S)


def _outcome(status: int | None, answer: dict[str, Any]) -> str:
    if status is None:
        return "no answer"
    return f"{status} {answer.get('status' if status < 300 else 'code')}"


def orders_of(admin: Client, path: str) -> Iterator[dict[str, Any]]:
    """All orders of the event at a path. Ends the command where they cannot be read."""
    query = {"limit": "500"}
    while True:
        page = admin.answer("GET", f"{path}/orders?{urlencode(query)}")
        yield from page["items"]
        if page["next"] is None:
            return
        query["after"] = page["next"]


def broken_promises(
    bookings: Sequence[Booking], orders: Sequence[dict[str, Any]], event: dict[str, Any], is_alone: bool
) -> list[str]:
    """A sentence for each promise that was broken. `is_alone`: nobody else books or cancels in this event."""
    broken = []
    by_id = {order["order_id"]: order for order in orders}
    answered = [booking for booking in bookings if booking.order is not None]
    for booking in answered:
        assert booking.order is not None
        found = by_id.get(booking.order["order_id"])
        if found is None:
            broken.append(f"{booking.order['order_id']} was answered, and is not there.")
        elif booking.status == 201 and found["status"] == "waiting" or is_alone and found["status"] == "cancelled":
            broken.append(f"{booking.order['order_id']} was {booking.order['status']}, and is {found['status']}.")
    active = Counter(order["user_id"] for order in orders if order["status"] != "cancelled")
    broken += [f"{user_id} has {count} orders." for user_id, count in active.items() if count > 1]
    booked = sum(order["quantity"] for order in orders if order["status"] == "confirmed")
    if max(booked, event["booked_tickets"]) > event["total_tickets"]:
        broken.append(f"{booked} of {event['total_tickets']} tickets are booked.")
    if is_alone:
        told_to_wait_s = min((booking.ended_s for booking in answered if booking.status == 202), default=math.inf)
        late = [booking for booking in answered if booking.status == 201 and booking.began_s > told_to_wait_s]
        broken += [f"{booking.user_id} came when others waited, and got a ticket." for booking in late]
    return broken
