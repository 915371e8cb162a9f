"""What Prometheus is told of deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pymongo.database import Database

from tests.service.running import eventually
from ticketing.delivery.metrics import make_registry

from .receiver import Received, Receiver
from .test_deliverer import EVENT, Place


@pytest.fixture
def place(mongod: str, database: Database[dict[str, Any]]) -> Iterator[Place]:
    """A place on the real mongod, with an event of one ticket."""
    place = Place(mongod, database.name)
    place.open()
    yield place
    place.close()


def told(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """One figure."""
    value = registry.get_sample_value(f"ticketing_{name}", labels)
    assert value is not None
    return value


def test_attempts_and_what_is_behind(place: Place, receiver: Receiver) -> None:
    """A receiver that fails falls behind; when it takes what it missed nothing is left."""
    is_well = False

    def answer(received: Received) -> int:
        return 200 if is_well else 500

    receiver.answer = answer
    place.subscribe(receiver)
    deliverer = place.deliver()
    registry = make_registry(deliverer)  # of a courier that comes later
    place.book("ada", "ben", "cleo")
    # The event's beginning counts too, if the first look came after a booking: that nobody is told of it shows later.
    eventually(lambda: told(registry, "webhooks_behind_changes") in (3, 4))
    eventually(lambda: told(registry, "webhook_deliveries_total", outcome="failed") > 0)
    eventually(lambda: told(registry, "webhooks_failing") == told(registry, "webhooks_served") == 1)
    is_well = True
    eventually(lambda: told(registry, "webhooks_behind_changes") == 0)
    eventually(lambda: told(registry, "webhooks_failing") == 0)
    assert told(registry, "webhook_deliveries_total", outcome="delivered") == 3
    attempts = told(registry, "webhook_deliveries_total", outcome="failed") + 3
    assert told(registry, "webhook_delivery_duration_seconds_count") == attempts
    assert deliverer.ends() == {EVENT: 4}
