"""/metrics of a real service: every worker counts, and whoever is asked answers for all of them."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.service.conftest import Start
from tests.service.running import DEADLINE_S, NO_TLS, Service, children_of, eventually, kill, processes_of

# What is tried runs in processes of its own: to count what this one runs tells little, and doubles its work.
pytestmark = pytest.mark.no_cover

CREDENTIALS = ("admin", "a password for the tests")
ROUTE = "/orders/<order_id>"
REQUESTS = "ticketing_http_requests_total"
DURATIONS = "ticketing_http_request_duration_seconds_count"


@pytest.fixture
def service(make_lean_service: Start) -> Service:
    """Two workers."""
    settings = {"BASIC_AUTH_USERNAME": CREDENTIALS[0], "BASIC_AUTH_PASSWORD": CREDENTIALS[1]}
    return make_lean_service(WEB_CONCURRENCY="2", **settings).start().wait_until_serving()


def total(service: Service, name: str) -> float:
    """What the service says of a sample for the route of these tests, over all its other labels."""
    answer = service.get("/metrics")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples = [each for family in text_string_to_metric_families(answer.text) for each in family.samples]
    return sum(each.value for each in samples if each.name == name and each.labels["route"] == ROUTE)


def tickets(service: Service) -> dict[str, float]:
    """What the service says of its events; the tests have one."""
    families = text_string_to_metric_families(service.get("/metrics").text)
    samples = [each for family in families for each in family.samples]
    return {each.name.removeprefix("ticketing_event_"): each.value for each in samples if "event_id" in each.labels}


def sell_out_with_both(service: Service) -> dict[str, float]:
    """Open an event and book until both workers know of it, and return how it is then: one of them is behind."""
    event = {"event_id": "concert", "name": "Concert", "total_tickets": 500}
    assert httpx.post(f"{service.url}/initialize", json=event, auth=CREDENTIALS, verify=NO_TLS).status_code == 201
    folder, booked = service.folder / "var" / "metrics", 0

    def both_know() -> bool:
        nonlocal booked
        order = {"event_id": "concert", "user_id": f"user-{booked}"}
        booked += httpx.post(f"{service.url}/book", json=order, timeout=DEADLINE_S, verify=NO_TLS).status_code == 201
        return all(b"concert" in (folder / f"{pid}.events").read_bytes() for pid in workers(service))

    eventually(both_know)
    return {
        "available_tickets": 500 - booked,
        "booked_tickets": booked,
        "waiting_orders": 0,
        "version": 1 + booked,
    }


def workers(service: Service) -> set[int]:
    """The process ids of the two workers: they are all that gunicorn's master has started."""
    (master,) = [pid for pid in children_of(service.pid) if pid in processes_of(service.folder)]
    return set(children_of(master))


def counts_of(service: Service, worker: int) -> bool:
    """Whether this worker has counted a request for the route of these tests."""
    file = service.folder / "var" / "metrics" / f"counter_{worker}.db"
    return file.exists() and ROUTE.encode() in file.read_bytes()


def ask_until_both_have_counted(service: Service) -> int:
    """Send requests, each over a connection of its own, until both workers have had some; return how many."""
    sent = 0

    def ask() -> bool:
        nonlocal sent
        for _ in range(20):
            assert httpx.get(f"{service.url}/orders/{sent}", timeout=DEADLINE_S, verify=NO_TLS).status_code == 404
            sent += 1
        return all(counts_of(service, worker) for worker in workers(service))

    eventually(ask)
    return sent


def test_both_workers_count_and_a_killed_one_is_not_forgotten(service: Service) -> None:
    """Each answer says all, whichever worker gives it. A start begins anew."""
    sent = ask_until_both_have_counted(service)
    for _ in range(10):
        assert total(service, REQUESTS) == total(service, DURATIONS) == sent

    status = sell_out_with_both(service)
    for _ in range(10):
        assert tickets(service) == status

    first = workers(service)
    killed = min(first)
    gauges = service.folder / "var" / "metrics" / f"gauge_livesum_{killed}.db"
    assert gauges.exists()
    kill(killed)
    eventually(lambda: len(workers(service) - first) == 1 and killed not in workers(service))
    assert not gauges.exists(), "what only a living worker can tell is still told"
    assert total(service, REQUESTS) == sent
    sent += ask_until_both_have_counted(service)
    for _ in range(10):
        assert total(service, REQUESTS) == total(service, DURATIONS) == sent

    assert tickets(service) == status
    assert service.stop() == 0
    service.start().wait_until_serving(times=2)
    assert total(service, REQUESTS) == 0
    assert tickets(service) == {}
