"""What /metrics tells of bookings, commits and events. Requests are in test_service.py, several workers in
tests/service/test_metrics.py."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from .conftest import EVENT_ID, Api, MakeApp


def samples(api: Api) -> dict[str, float]:
    """Every sample by its name and labels, as they stand in the text: `name{label="value"}`."""
    text = api.get("/metrics").text
    assert list(text_string_to_metric_families(text))
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def bookings(api: Api) -> dict[str, float]:
    """How many bookings had which outcome; those that had any."""
    prefix = 'ticketing_bookings_total{outcome="'
    found = {name.removeprefix(prefix)[:-2]: n for name, n in samples(api).items() if name.startswith(prefix)}
    return {outcome: count for outcome, count in found.items() if count}


def test_bookings_by_outcome(make_app: MakeApp) -> None:
    """Confirmed, waiting, each refusal by its code, and repeats, which book nothing, apart."""
    api = Api(make_app())
    assert samples(api)['ticketing_bookings_total{outcome="waiting"}'] == 0
    api.initialize(2)
    api.book("ada", key="a")
    api.book("ada", key="a")
    api.book("ada", key="b")
    api.book("ada", key="b")
    api.book("ben")
    api.book("cleo")
    api.book("dan", 11)
    api.book("dan", 3)
    api.book("dan", event_id="nowhere")
    api.cancel("ada")
    assert bookings(api) == {
        "confirmed": 2,
        "waiting": 1,
        "replayed": 2,
        "already_booked": 1,
        "exceeds_max_tickets_per_order": 1,
        "exceeds_total_tickets": 1,
        "event_not_found": 1,
    }


def test_many_bookings_at_once_are_counted_each(make_app: MakeApp) -> None:
    """By their own outcomes; refused together, they are one."""
    api = Api(make_app())
    api.initialize(2)
    users = [{"user_id": user} for user in ("ada", "ben", "cleo", "ada")]
    bulk = {"event_id": EVENT_ID, "mode": "each", "orders": users}
    for _ in range(2):
        assert api.post("/bookings/bulk", bulk, key="bulk").status_code == 200
    together = bulk | {"mode": "all_or_none", "orders": [{"user_id": "dan"}, {"user_id": "eve"}]}
    assert api.post("/bookings/bulk", together).status_code == 409
    assert bookings(api) == {"confirmed": 2, "waiting": 1, "already_booked": 1, "replayed": 4, "bulk_refused": 1}


def test_a_booking_that_could_not_be_tried_is_counted(make_app: MakeApp) -> None:
    """Under the code that its caller got."""
    api = Api(make_app(queue_length_max=0))
    assert api.book("ada").status_code == 503
    assert bookings(api) == {"overloaded": 1}


def test_commits_batches_and_catch_ups(make_app: MakeApp) -> None:
    """Each commit and each look into the ledger, and the race that one of two workers loses."""
    one, two = Api(make_app()), Api(make_app())
    one.initialize(10)
    two.status()
    one.book("ada")
    two.book("ben")  # decided on the event as it was before ada came
    told = samples(two)
    assert told["ticketing_lost_races_total"] == 1
    assert told["ticketing_commit_transitions_count"] == told["ticketing_commit_transitions_sum"] == 1
    assert told["ticketing_commit_duration_seconds_count"] == 1
    assert told["ticketing_batch_requests_count"] == told["ticketing_batch_requests_sum"] == 2
    assert told["ticketing_catch_ups_total"] == 2  # the status, and after the race
    assert samples(one)["ticketing_lost_races_total"] == 0


def test_the_tickets_of_events_and_the_orders_in_memory(make_app: MakeApp) -> None:
    """As /status says, for the events that changed last; what is not there is not told."""
    api = Api(make_app())
    api.initialize(2)
    for user in ("ada", "ben", "cleo"):
        api.book(user)
    api.status()
    api.get("/status/nowhere")
    told, status = samples(api), api.status()
    assert {name: n for name, n in told.items() if name.startswith("ticketing_event_")} == {
        f'ticketing_event_available_tickets{{event_id="{EVENT_ID}"}}': status["available_tickets"],
        f'ticketing_event_booked_tickets{{event_id="{EVENT_ID}"}}': status["booked_tickets"],
        f'ticketing_event_waiting_orders{{event_id="{EVENT_ID}"}}': status["waiting_list_count"],
        f'ticketing_event_version{{event_id="{EVENT_ID}"}}': status["version"],
    }
    assert told["ticketing_state_orders"] == 4  # the event itself counts as one
    assert told["ticketing_queued_requests"] == 0  # how many it can be: tests/concurrency/test_batches.py
