"""PATCH /events/<id>, POST /events/<id>/cancel, and events with times."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import ADMIN, EVENT_ID, Api, refused
from .test_bookings import EVENT_MEMBERS

# The test's clock begins on 2027-01-01 at 20:00 and goes on by a second a look.
PAST, FUTURE = "2026-12-31T00:00:00Z", "2027-02-01T00:00:00Z"
on_both = pytest.mark.parametrize("mongo", ["mongomock", "mongod"], indirect=True)

DETAILS: dict[str, Any] = {
    "venue": "City Hall",
    "description": "Doors open at seven.",
    "timezone": "Europe/Berlin",
    "starts_at": "2027-06-01T20:00:00.000Z",
    "ends_at": "2027-06-01T23:00:00.000Z",
    "sales_open_at": "2026-12-01T00:00:00.000Z",
    "sales_close_at": "2027-05-31T00:00:00.000Z",
    "max_tickets_per_order": 4,
    "max_tickets_per_user": 3,
}


class TestAnEventWithDetails:
    @on_both
    def test_shows_them(self, api: Api) -> None:
        """What was said is shown, times in UTC; and it is the same from the ledger."""
        opened = api.initialize(**DETAILS).json
        assert {name: opened[name] for name in DETAILS} == DETAILS
        assert api.get(f"/events/{EVENT_ID}").json == opened

    def test_takes_times_with_any_offset(self, api: Api) -> None:
        """RFC 3339: an offset is turned into UTC, more than milliseconds are cut off."""
        opened = api.initialize(starts_at="2027-06-01T22:00:00.123456+02:00").json
        assert opened["starts_at"] == "2027-06-01T20:00:00.123Z"

    @pytest.mark.parametrize(
        "value",
        ["2027-06-01", "2027-06-01T20:00:00", "2027-13-01T20:00:00Z", "tomorrow", "", 5, "0001-01-01T00:00:00+01:00"],
    )
    def test_refuses_what_is_no_time(self, api: Api, value: object) -> None:
        """422 that names the field; nothing is opened."""
        problem = refused(api.initialize(starts_at=value), 422, "validation_failed")
        assert problem["errors"].keys() == {"starts_at"}
        assert api.ledger() == []

    def test_refuses_a_place_without_a_clock(self, api: Api) -> None:
        """Only names of the time zone database."""
        problem = refused(api.initialize(timezone="Europe/Atlantis"), 422, "validation_failed")
        assert problem["errors"].keys() == {"timezone"}

    def test_its_repeat_gets_the_first_answer(self, api: Api) -> None:
        """Times count for the fingerprint of a key, and come back as they were."""
        first = api.initialize(key="k", **DETAILS)
        again = api.initialize(key="k", **DETAILS)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json == first.json
        refused(api.initialize(key="k", **DETAILS | {"venue": "Elsewhere"}), 422, "idempotency_key_reused")


class TestSales:
    @pytest.mark.parametrize(
        ("details", "status"),
        [
            ({"sales_open_at": FUTURE}, "scheduled"),
            ({"sales_close_at": PAST}, "sales_closed"),
            ({"ends_at": PAST}, "ended"),
            ({"sales_open_at": PAST, "sales_close_at": FUTURE}, "on_sale"),
        ],
    )
    def test_the_status_says_whether_it_is_on_sale(self, api: Api, details: dict[str, Any], status: str) -> None:
        """In the answer to /initialize, in /status and in the event."""
        assert api.initialize(**details).json["status"] == status
        assert api.status()["status"] == status
        assert api.get(f"/events/{EVENT_ID}").json["status"] == status

    def test_too_early_is_told_when_to_come_back(self, api: Api) -> None:
        """409 with the time, and Retry-After in seconds; the key is free to be used again."""
        api.initialize(sales_open_at="2027-01-01T21:00:00Z")
        for _ in range(2):
            answer = api.book("ada", key="k")
            problem = refused(answer, 409, "sales_not_open")
            assert problem["sales_open_at"] == "2027-01-01T21:00:00.000Z"
            assert 3_500 < int(answer.headers["Retry-After"]) <= 3_600
            assert answer.headers.get("Idempotent-Replayed") is None

    @on_both
    def test_sales_that_open_by_the_clock_serve_the_line_first(self, api: Api) -> None:
        """Whoever looks or books first sees that the line has moved up."""
        api.initialize(1)
        api.book("ada")
        api.book("bob")
        api.update(sales_open_at="2027-01-01T20:00:30Z")
        assert api.cancel("ada").json["promoted"] == []
        assert api.status()["held_tickets"] == 1
        while (status := api.status())["status"] == "scheduled":
            pass  # a second a look
        status = api.status()  # the last look may have been decided just before, and shown just after
        assert (status["booked_tickets"], status["held_tickets"], status["waiting_list_count"]) == (1, 0, 0)
        assert api.ledger()[-1]["transitions"][0]["type"] == "promoted"
        assert api.book("cyd").status_code == 202


class TestUpdate:
    @on_both
    def test_more_tickets_promote(self, api: Api) -> None:
        """200 with the event and who moved up, and its new ETag."""
        api.initialize(1)
        orders = [api.book(user).json["order_id"] for user in ("ada", "bob", "cyd")]
        answer = api.update(4, total_tickets=2)
        assert answer.status_code == 200
        assert list(answer.json) == [*EVENT_MEMBERS, "promoted"]
        assert answer.headers["ETag"] == '"5"'
        assert [(each["order_id"], each["status"]) for each in answer.json["promoted"]] == [(orders[1], "confirmed")]
        assert api.order(orders[1])["status"] == "confirmed"
        assert api.order(orders[2])["waiting_position"] == 1

    @on_both
    def test_opening_again_serves_the_line(self, api: Api) -> None:
        """The answer says who moved up: as many as fit, first come first."""
        api.initialize(2)
        for user, quantity in (("ada", 2), ("bob", 1), ("cyd", 1), ("dan", 1)):
            api.book(user, quantity)
        api.update(sales_close_at=PAST)
        assert api.cancel("ada").json["promoted"] == []
        answer = api.update(sales_close_at=None)
        assert (answer.json["status"], answer.json["held_tickets"]) == ("sold_out", 0)
        assert [(order["user_id"], order["status"]) for order in answer.json["promoted"]] == [
            ("bob", "confirmed"),
            ("cyd", "confirmed"),
        ]
        assert api.line() == [(1, "dan")]

    @pytest.mark.parametrize("header", ['"1"', '"3"', 'W/"2"', "2", '"1", "2"', "nonsense", ""])
    def test_another_version_is_refused(self, api: Api, header: str) -> None:
        """412, and nothing is changed."""
        api.initialize()
        api.book("ada")
        before = api.ledger()
        answer = api.client.patch(
            f"/events/{EVENT_ID}", json={"venue": "Here"}, headers={"If-Match": header}, auth=ADMIN
        )
        refused(answer, 412, "precondition_failed")
        assert api.ledger() == before

    def test_without_a_version_it_is_refused(self, api: Api) -> None:
        """428 (RFC 6585, 3): whoever means any version says so with `*`."""
        api.initialize()
        answer = api.client.patch(f"/events/{EVENT_ID}", json={"venue": "Here"}, auth=ADMIN)
        refused(answer, 428, "precondition_required")
        assert api.update(venue="Here").json["venue"] == "Here"

    def test_null_takes_a_detail_away(self, api: Api) -> None:
        """And no other field changes."""
        opened = api.initialize(**DETAILS).json
        updated = api.update(venue=None, sales_close_at=None).json
        changed = {name for name in opened if updated[name] != opened[name]}
        assert changed == {"venue", "sales_close_at", "version", "updated_at"}
        assert updated["venue"] is None

    @pytest.mark.parametrize(
        "fields", [{"name": None}, {"cancelled_at": None}, {"total_tickets": 0}, {"status": "ended"}]
    )
    def test_some_fields_are_not_to_be_set(self, api: Api, fields: dict[str, Any]) -> None:
        """422 that names the field."""
        api.initialize()
        problem = refused(api.update(**fields), 422, "validation_failed")
        assert problem["errors"].keys() == fields.keys()

    def test_an_event_that_is_not_there(self, api: Api) -> None:
        """404."""
        refused(api.update(event_id="nowhere", venue="Here"), 404, "event_not_found")
        refused(api.update(event_id="no id", venue="Here"), 404, "event_not_found")


class TestCancel:
    @on_both
    def test_sells_nothing_any_more(self, api: Api) -> None:
        """200 with the event; again: the same. Orders stay."""
        api.initialize(1)
        order_id = api.book("ada").json["order_id"]
        answer = api.cancel_event()
        assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
        assert answer.json["cancelled_at"] == answer.json["updated_at"]
        assert api.cancel_event().json == answer.json
        refused(api.book("bob"), 409, "event_cancelled")
        assert api.order(order_id)["status"] == "confirmed"
        assert api.cancel("ada").json["order"]["status"] == "cancelled"

    @on_both
    def test_a_key_gets_its_answer_again(self, api: Api) -> None:
        """Also the key of a second cancellation, which changed nothing."""
        api.initialize()
        for key in ("first", "second"):
            answer, again = api.cancel_event(key=key), api.cancel_event(key=key)
            assert (again.json, again.headers["Idempotent-Replayed"]) == (answer.json, "true")
            api.services.manager.state_of(EVENT_ID)


class TestTheClock:
    """What the clock alone changes of an event, at a version that stays what it is."""

    def test_who_has_seen_it_before_is_told(self, api: Api) -> None:
        """No 304 for an event whose sale has begun since."""
        api.initialize(sales_open_at="2027-01-01T20:00:10Z")
        etag = api.get(f"/events/{EVENT_ID}").headers["ETag"]
        unchanged = {"If-None-Match": etag}
        assert api.get(f"/events/{EVENT_ID}", headers=unchanged).status_code == 304
        while api.status()["status"] == "scheduled":
            pass  # a second a look
        answer = api.get(f"/events/{EVENT_ID}", headers=unchanged)
        assert (answer.status_code, answer.json["status"], answer.headers["ETag"]) == (200, "on_sale", etag)

    def test_an_update_that_changes_nothing_shows_it_as_it_is_now(self, api: Api) -> None:
        """And not as it was when it was changed last."""
        api.initialize(sales_open_at="2027-01-01T20:00:10Z")
        while api.status()["status"] == "scheduled":
            pass
        assert api.update(name="Concert").json["status"] == "on_sale"
