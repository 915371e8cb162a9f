"""Real clients on real connections: they book, cancel and look, repeat what went unanswered, and keep a record."""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from pymongo import MongoClient

from tests.service.running import eventually

from .history import Attempt, History

LONGEST_S = 10.0
CLIENT_TIMEOUT_S = 15.0  # above what the service promises: whoever waits longer has found a violation
OUTCOMES = {201: "confirmed", 202: "waiting", 200: "cancelled"}
TRIES_MAX = 60


class Load:
    """`connections` clients at work on one event, until told to stop.

    `credentials` are those of an admin. Bookings and cancellations go out with an Idempotency-Key and are repeated
    with it until they are answered; some are repeated although they were.
    """

    def __init__(
        self, url: str, credentials: tuple[str, str], event_id: str, *, connections: int = 32, users: int = 400
    ) -> None:
        self.event_id = event_id
        self.attempts: list[Attempt] = []
        self._url = url
        self._credentials = credentials
        self._users = users
        self._moments = itertools.count(1)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"client-{number}")
            for number in range(connections)
        ]

    def initialize(self, total_tickets: int) -> None:
        """Open the event."""
        with self._client() as client:
            body = {"name": "Event", "total_tickets": total_tickets, "event_id": self.event_id}
            response = client.post("/initialize", json=body)
            assert response.status_code == 201, response.text

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Clients work while the block runs; afterwards each ends what it has begun."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop()
            for thread in self._threads:
                thread.join()

    def stop(self) -> None:
        """Let each client end what it has begun; what stays unanswered is given up."""
        self._stop.set()

    @property
    def answered(self) -> int:
        """Bookings, cancellations and looks that were answered, 503s not counted."""
        return sum(
            attempt.returned is not None and attempt.outcome != "unavailable" for attempt in list(self.attempts)
        )

    @property
    def unavailable(self) -> int:
        """How many were told 503."""
        return sum(attempt.outcome == "unavailable" for attempt in list(self.attempts))

    def wait_for_answers(self, more: int) -> None:
        """Until so many more were answered."""
        enough = self.answered + more
        eventually(lambda: self.answered >= enough)

    def history(self, uri: str, database: str) -> History:
        """What the clients saw, after a last look when all is quiet, and the ledger."""
        with self._client() as client:
            self._once(client, "observer", "read", {}, None)
        with MongoClient[dict[str, Any]](uri, tz_aware=True) as mongo:
            documents = list(mongo[database]["ledger"].find({"event_id": self.event_id}).sort("_id", 1))
        return History(self.attempts, documents, LONGEST_S)

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, auth=self._credentials, timeout=CLIENT_TIMEOUT_S)

    def _work(self, number: int) -> None:
        rng = random.Random(number)
        name = f"client-{number}"
        with self._client() as client:
            while not self._stop.is_set():
                user = f"user-{rng.randrange(self._users)}"
                what = rng.random()
                if what < 0.5:
                    body = {"event_id": self.event_id, "user_id": user, "quantity": rng.choice([1, 1, 1, 2])}
                    self._until_answered(client, name, "book", body, rng)
                elif what < 0.75:
                    self._until_answered(client, name, "cancel", {"event_id": self.event_id, "user_id": user}, rng)
                else:
                    self._once(client, name, "read", {}, None)

    def _until_answered(
        self, client: httpx.Client, name: str, kind: str, body: dict[str, Any], rng: random.Random
    ) -> None:
        key = uuid.uuid4()
        for _ in range(TRIES_MAX):
            attempt = self._once(client, name, kind, body, key)
            is_answered = attempt.returned is not None and attempt.outcome != "unavailable"
            if is_answered and rng.random() < 0.9:
                return
            if self._stop.is_set() and attempt.outcome in ("cut off", "turned away"):
                return  # the service has gone
            if not is_answered:
                # A client that keeps the manners of Retry-After, only more eager.
                time.sleep(0.1)

    def _once(
        self, client: httpx.Client, name: str, kind: str, body: dict[str, Any], key: uuid.UUID | None
    ) -> Attempt:
        asked = {field: value for field, value in body.items() if field != "event_id"}
        attempt = Attempt(
            name, kind, self.event_id, asked, key.bytes if key else None, next(self._moments), time.monotonic()
        )
        self.attempts.append(attempt)
        try:
            if kind == "read":
                response = client.get(f"/status/{self.event_id}")
            else:
                response = client.post(f"/{kind}", json=body, headers={"Idempotency-Key": str(key)})
        except httpx.ConnectError:
            attempt.outcome = "turned away"
            return attempt
        except httpx.TransportError as error:
            attempt.outcome = "cut off" if not isinstance(error, httpx.ReadTimeout) else "error:no answer"
            if attempt.outcome != "cut off":
                attempt.returned, attempt.returned_s = next(self._moments), time.monotonic()
            return attempt
        attempt.returned, attempt.returned_s = next(self._moments), time.monotonic()
        _note(attempt, response)
        return attempt


def _note(attempt: Attempt, response: httpx.Response) -> None:
    """Write into the attempt what the response says."""
    body = response.json()
    attempt.replayed = response.headers.get("Idempotent-Replayed") == "true"
    if response.status_code == 503:
        attempt.outcome = "unavailable" if "Retry-After" in response.headers else "error:503 without Retry-After"
    elif response.status_code in (404, 409, 422):
        attempt.outcome, attempt.order_id = f"refused:{body['code']}", body.get("order_id")
    elif response.status_code not in OUTCOMES:
        attempt.outcome = f"error:{response.status_code} {response.text}"
    elif attempt.kind == "read":
        attempt.outcome, attempt.version = "read", body["version"]
        attempt.seen = {
            "total": body["total_tickets"],
            "booked": body["booked_tickets"],
            "available": body["available_tickets"],
            "held": body["held_tickets"],
        }
    else:
        order = body["order"] if attempt.kind == "cancel" else body
        attempt.outcome, attempt.order_id = OUTCOMES[response.status_code], order["order_id"]
        attempt.version, attempt.position = order["version"], order["waiting_position"]
        attempt.promoted = [promoted["order_id"] for promoted in body.get("promoted", ())]
