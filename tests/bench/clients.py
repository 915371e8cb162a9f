"""Clients in a process of their own: they book, cancel and look, as fast as they are answered."""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

CLIENT_TIMEOUT_S = 15.0  # above the 10 s that the service promises
REPORT_EVERY_S = 0.5
BACK_OFF_S = 0.2  # after a 503
ORDERS_KEPT = 200  # a client cancels one of its latest orders
EXPECTED = {"book": {201, 202}, "cancel": {200}, "look": {200}}


@dataclass
class Report:
    """What a process saw since its last report. `troubles` counts what was not answered as it should be."""

    latencies_s: list[float] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)


def event_id(number: int) -> str:
    """The events of a run are numbered from 0; new ones come all the time."""
    return f"soak-{number}"


def run(
    address: tuple[str, int], credentials: tuple[str, str], clients: int, newest: Any, reports: Any, stop: Any
) -> None:
    """Be so many clients until `stop` is set.

    `newest` holds the number of the newest event; `reports` is a queue that takes a `Report` now and then.
    """
    report, lock = Report(), threading.Lock()

    def note(latency_s: float, trouble: str | None) -> None:
        with lock:
            report.latencies_s.append(latency_s)
            if trouble is not None:
                report.troubles[trouble] += 1

    threads = [
        threading.Thread(target=_Client(address, credentials, newest, stop).work, args=(note,))
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stop.wait(REPORT_EVERY_S)
        with lock:
            done, report = report, Report()
        reports.put(done)
        if stop.is_set():
            for thread in threads:
                thread.join()
    reports.put(report)


class _Client:
    """One connection. A user of its own for each booking."""

    def __init__(
        self, address: tuple[str, int], credentials: tuple[str, str], newest: Any, stop: Any
    ) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=CLIENT_TIMEOUT_S)
        basic = base64.b64encode(":".join(credentials).encode()).decode()
        self._authorization = {"Authorization": f"Basic {basic}"}
        self._newest = newest
        self._stop = stop
        self._orders: list[str] = []

    def work(self, note: Any) -> None:
        """One request after the other."""
        while not self._stop.is_set():
            kind, method, path, content, headers = self._next()
            began_s = time.monotonic()
            try:
                status, body = self._send(method, path, content, headers)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                note(time.monotonic() - began_s, f"{kind}: {type(error).__name__}")
                continue
            is_expected = status in EXPECTED[kind]
            note(time.monotonic() - began_s, None if is_expected else f"{kind}: {status}")
            if kind == "book" and is_expected:
                self._orders = [*self._orders[1 - ORDERS_KEPT :], body["order_id"]]
            if status == 503:
                self._stop.wait(BACK_OFF_S)
        self._connection.close()

    def _next(self) -> tuple[str, str, str, dict[str, Any] | None, dict[str, str]]:
        """What comes next: kind, method, path, body, headers. The newest two events are hot."""
        newest, dice = self._newest.value, random.random()
        hot = event_id(newest if random.random() < 0.7 else max(0, newest - 1))
        if dice < 0.6:
            body = {"event_id": hot, "user_id": uuid.uuid4().hex, "quantity": random.choice((1, 1, 2))}
            key = {"Idempotency-Key": uuid.uuid4().hex} if random.random() < 0.5 else {}
            return "book", "POST", "/book", body, key
        if dice < 0.75 and self._orders:
            order_id = self._orders.pop(random.randrange(len(self._orders)))
            return "cancel", "POST", "/cancel", {"order_id": order_id}, self._authorization
        if dice < 0.95:
            return "look", "GET", f"/status/{hot}", None, {}
        if dice < 0.998:
            return "look", "GET", f"/events/{hot}/waiting-list", None, {}
        return "look", "GET", f"/status/{event_id(random.randint(0, newest))}", None, {}  # any, maybe forgotten

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        self._connection.request(method, path, body and json.dumps(body), headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())
