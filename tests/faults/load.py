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

from tests.service.running import NO_TLS, eventually

from .history import Attempt, History

LONGEST_S = 10.0
CLIENT_TIMEOUT_S = 15.0  # above what the service promises: whoever waits longer has found a violation
TRIES_MAX = 60
# The codes of a 503 that may come when nothing is wrong but the storage or the load.
UNAVAILABLE = ("storage_unavailable", "overloaded")


class Load:
    """`connections` clients at work on one event, until told to stop.

    `credentials` are those of an admin. All but looks go out with an Idempotency-Key and are repeated with it until
    they are answered; some are repeated although they were.
    """

    def __init__(
        self, url: str, credentials: tuple[str, str], event_id: str, *, connections: int = 32, users: int = 400
    ) -> None:
        self.event_id = event_id
        self.attempts: list[Attempt] = []
        self._order_ids: list[str] = []
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
    def connections(self) -> int:
        """How many clients there are, each with one request under way at most."""
        return len(self._threads)

    @property
    def answered(self) -> int:
        """Requests that were answered, 503s not counted."""
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
        return httpx.Client(base_url=self._url, auth=self._credentials, timeout=CLIENT_TIMEOUT_S, verify=NO_TLS)

    def _work(self, number: int) -> None:
        rng = random.Random(number)
        name = f"client-{number}"
        with self._client() as client:
            while not self._stop.is_set():
                user = f"user-{rng.randrange(self._users)}"
                what = rng.random()
                quantity = rng.choice([1, 1, 1, 2])
                if what < 0.45:
                    self._until_answered(client, name, "book", {"user_id": user, "quantity": quantity}, rng)
                elif what < 0.5:
                    users = [f"user-{rng.randrange(self._users)}" for _ in range(3)]
                    body = {"orders": [(user, quantity, None) for user in users], "all_or_none": rng.random() < 0.5}
                    self._until_answered(client, name, "bulk", body, rng)
                elif what < 0.6 and self._order_ids:
                    order_id = rng.choice(self._order_ids[-50:])
                    body = {"order_id": order_id, "to_user_id": user, "quantity": 1}
                    self._until_answered(client, name, "transfer", body, rng)
                elif what < 0.75:
                    part = {"quantity": 1} if rng.random() < 0.3 else {}
                    self._until_answered(client, name, "cancel", {"user_id": user, **part}, rng)
                else:
                    self._once(client, name, "read", {}, None)

    def _until_answered(
        self, client: httpx.Client, name: str, kind: str, asked: dict[str, Any], rng: random.Random
    ) -> None:
        key = uuid.uuid4()
        for _ in range(TRIES_MAX):
            attempt = self._once(client, name, kind, asked, key)
            is_answered = attempt.returned is not None and attempt.outcome != "unavailable"
            if is_answered and rng.random() < 0.9:
                return
            if self._stop.is_set() and attempt.outcome in ("cut off", "turned away"):
                return  # the service has gone
            if not is_answered:
                # A client that keeps the manners of Retry-After, only more eager.
                time.sleep(0.1)

    def _once(
        self, client: httpx.Client, name: str, kind: str, asked: dict[str, Any], key: uuid.UUID | None
    ) -> Attempt:
        attempt = Attempt(
            name, kind, self.event_id, asked, key.bytes if key else None, next(self._moments), time.monotonic()
        )
        self.attempts.append(attempt)
        try:
            if kind == "read":
                response = client.get(f"/status/{self.event_id}")
            else:
                path, body = _request(kind, self.event_id, asked)
                response = client.post(path, json=body, headers={"Idempotency-Key": str(key)})
        except httpx.ConnectError:
            attempt.outcome, attempt.gave_up_s = "turned away", time.monotonic()
            return attempt
        except httpx.TimeoutException:
            attempt.outcome = "error:no answer"
            attempt.returned, attempt.returned_s = next(self._moments), time.monotonic()
            return attempt
        except httpx.TransportError as error:
            attempt.outcome, attempt.gave_up_s = "cut off", time.monotonic()
            print(f"{kind} of {name} after {attempt.gave_up_s - attempt.invoked_s:.3f} s: {error!r}")
            return attempt
        attempt.returned, attempt.returned_s = next(self._moments), time.monotonic()
        _note(attempt, response)
        if attempt.kind in ("book", "transfer") and attempt.order_id is not None:
            self._order_ids.append(attempt.order_id)
        return attempt


def _request(kind: str, event_id: str, asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and body."""
    if kind == "transfer":
        return f"/orders/{asked['order_id']}/transfer", {name: asked[name] for name in ("to_user_id", "quantity")}
    if kind == "bulk":
        orders = [{"user_id": user, "quantity": quantity} for user, quantity, _ in asked["orders"]]
        mode = "all_or_none" if asked["all_or_none"] else "each"
        return "/bookings/bulk", {"event_id": event_id, "mode": mode, "orders": orders}
    return f"/{kind}", {"event_id": event_id, **asked}


def _note(attempt: Attempt, response: httpx.Response) -> None:
    """Write into the attempt what the response says."""
    body = response.json()
    attempt.replayed = response.headers.get("Idempotent-Replayed") == "true"
    if response.status_code == 503:
        attempt.outcome = "unavailable" if body["code"] in UNAVAILABLE else f"error:{body['code']}"
        if "Retry-After" not in response.headers:
            attempt.outcome = "error:503 without Retry-After"
    elif response.status_code in (404, 409, 422):
        attempt.outcome, attempt.told = f"refused:{body['code']}", _refusal(body)
    elif response.status_code not in (200, 201, 202):
        attempt.outcome = f"error:{response.status_code} {response.text}"
    elif attempt.kind == "read":
        attempt.outcome, attempt.version = "read", body["version"]
        attempt.seen = {
            "total": body["total_tickets"],
            "booked": body["booked_tickets"],
            "available": body["available_tickets"],
            "held": body["held_tickets"],
        }
    elif attempt.kind == "bulk":
        attempt.outcome, attempt.told = "bulk", {"results": [_result(each) for each in body["results"]]}
        made = [each["order"] for each in body["results"] if "order" in each]
        attempt.version = made[0]["version"] if made else None
    else:
        order = body if attempt.kind == "book" else body["order"]
        attempt.outcome, attempt.order_id = order["status"], order["order_id"]
        attempt.version, attempt.position = order["version"], order["waiting_position"]
        attempt.promoted = [promoted["order_id"] for promoted in body.get("promoted", ())]
        attempt.told = {"order": _order(order)}
        if "from" in body:
            attempt.told["sender"] = _order(body["from"])


def _refusal(body: dict[str, Any]) -> dict[str, Any]:
    """What a refusal tells; of many bookings which were refused, without those that failed with them."""
    errors = [each.get("error", {}).get("code") for each in body.get("results", ())]
    refused = [{"index": index, "code": code} for index, code in enumerate(errors) if code != "failed_dependency"]
    return {**body, "refused": refused}


def _result(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        return {"refused": result["error"]["code"]}
    return {"order": _order(result["order"]), "position": result["order"]["waiting_position"]}


def _order(order: dict[str, Any]) -> dict[str, Any]:
    return {name: order[name] for name in ("order_id", "user_id", "quantity", "status", "ticket_type", "unit_price")}
