"""/webhooks: who is told, and where to. The delivery itself: tests/delivery."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from pymongo.errors import PyMongoError

from tests.damage import described, insert_strays
from ticketing.api.auth import Role
from ticketing.storage.ledger import ledger_collection
from ticketing.storage.webhooks import DELIVERIES_KEPT, Cursor, Delivery, Failing, Subscription

from .conftest import ADMIN, EVENT_ID, Answer, Api, Json, MakeApp, add_account, refused

URL = "https://example.com/tickets?of=ours"
ORGANIZER = ("olga", "a password of an organizer")
AT = datetime(2027, 1, 1, 20, 0, tzinfo=UTC)


@pytest.fixture
def opened(app: Flask, api: Api) -> Iterator[Api]:
    """An event with a booking, and an organizer."""
    add_account(app, ORGANIZER, Role.ORGANIZER)
    api.initialize(2, auth=ORGANIZER)
    api.book("ada")
    yield api


def subscribe(api: Api, body: Json | None = None, **options: Any) -> Answer:
    """POST /webhooks for the event of these tests, unless another body is given."""
    return api.post("/webhooks", {"url": URL, "event_id": EVENT_ID} if body is None else body, **options)


class TestSubscribing:
    def test_the_secret_is_shown_once(self, opened: Api) -> None:
        """With the webhook that was made; and never again."""
        answer = subscribe(opened)
        assert answer.status_code == 201
        made = answer.json
        assert answer.headers["Location"] == f"/webhooks/{made['webhook_id']}"
        assert made.pop("secret").startswith("whsec_")
        assert made == opened.get(answer.headers["Location"], staff=True).json
        assert (made["url"], made["event_id"], made["types"], made["created_by"]) == (URL, EVENT_ID, None, ADMIN[0])
        assert (made["disabled_reason"], made["failing"]) == (None, None)
        assert opened.get("/webhooks", staff=True).json == {"items": [made], "next": None}
        secret = opened.services.webhooks.find(made["webhook_id"])
        assert secret is not None and secret.secret not in repr(secret)

    def test_it_begins_now(self, opened: Api) -> None:
        """What happened before is not told; an event that is opened later is told from its beginning."""
        opened.initialize(1, "other")
        one = subscribe(opened).json["webhook_id"]
        every = subscribe(opened, {"url": URL}).json["webhook_id"]
        webhooks = opened.services.webhooks
        assert webhooks.cursors(one) == {EVENT_ID: Cursor(version=2)}
        assert webhooks.cursors(every) == {EVENT_ID: Cursor(version=2), "other": Cursor(version=1)}

    @pytest.mark.parametrize("mongo", ["mongomock", "mongod"], indirect=True)
    def test_an_event_with_a_damaged_end(self, opened: Api) -> None:
        """It begins no later than the damage, and no earlier than the commit that has it."""
        opened.initialize(1, "other")
        described(2, last="x")(opened.services.database["ledger"], EVENT_ID)
        webhook_id = subscribe(opened, {"url": URL}).json["webhook_id"]
        cursors = opened.services.webhooks.cursors(webhook_id)
        assert cursors == {EVENT_ID: Cursor(version=2), "other": Cursor(version=1)}

    @pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
    def test_among_what_is_no_commit(self, opened: Api) -> None:
        """All events begin now, and nothing else is written: neither a stray's id nor what stands for it."""
        opened.initialize(1, "concert")
        opened.initialize(1, "other")
        opened.initialize(1, "zulu-1")
        insert_strays(ledger_collection(opened.services.database))
        webhook_id = subscribe(opened, {"url": URL}).json["webhook_id"]
        begun = {EVENT_ID: 2, "concert": 1, "other": 1, "zulu-1": 1}
        cursors = opened.services.webhooks.cursors(webhook_id)
        assert cursors == {event_id: Cursor(version=version) for event_id, version in begun.items()}
        one = subscribe(opened, {"url": URL, "event_id": "other"}).json["webhook_id"]
        assert opened.services.webhooks.cursors(one) == {"other": Cursor(version=1)}

    def test_a_try_that_was_cut_short(self, opened: Api) -> None:
        """Its cursors stay: the repeat begins where the first try did, so that nothing is left out between them."""
        webhook_id = subscribe(opened, key="k").json["webhook_id"]
        opened.services.database.webhooks.delete_one({"_id": webhook_id})
        opened.book("ben")
        assert subscribe(opened, key="k").json["webhook_id"] == webhook_id
        assert opened.services.webhooks.cursors(webhook_id) == {EVENT_ID: Cursor(version=2)}

    def test_a_repeat_finds_the_first(self, opened: Api) -> None:
        """The same key: the same webhook and secret; with another body it is refused."""
        first, repeat = subscribe(opened, key="k"), subscribe(opened, key="k")
        assert (repeat.json, repeat.headers["Idempotent-Replayed"]) == (first.json, "true")
        assert "Idempotent-Replayed" not in first.headers
        refused(subscribe(opened, {"url": URL}, key="k"), 422, "idempotency_key_reused")
        assert len(opened.get("/webhooks", staff=True).json["items"]) == 1

    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/",
            "ftp://example.com/",
            "https://",
            "https:///path",
            "https://user:password@example.com/",
            "https://example.com/#part",
            "https://example.com:99999/",
            "https://example.com:0/",
            "https://exa mple.com/",
            "https://exämple.com/",
            "https://[::1/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://10.1.2.3/",
            "https://169.254.169.254/latest/meta-data/",
            "https://[::ffff:192.168.0.1]/",
            "example.com",
            "x" * 2049,
        ],
    )
    def test_urls_that_are_refused(self, opened: Api, url: str) -> None:
        """What could never be delivered to, or must not."""
        problem = refused(subscribe(opened, {"url": url, "event_id": EVENT_ID}), 422, "validation_failed")
        assert list(problem["errors"]) == ["url"]

    def test_private_receivers_where_they_are_allowed(self, make_app: MakeApp) -> None:
        """For trying out: http, and addresses of the own network."""
        api = Api(make_app(webhooks_allow_private=True))
        for url in ("http://127.0.0.1:8080/", "https://[::1]/", URL):
            assert subscribe(api, {"url": url}).status_code == 201
        refused(subscribe(api, {"url": "ftp://127.0.0.1/"}), 422, "validation_failed")

    def test_what_else_is_refused(self, opened: Api) -> None:
        """Events that are not there, types that are none or stand twice, and all events for an organizer."""
        refused(subscribe(opened, {"url": URL, "event_id": "nowhere"}), 404, "event_not_found")
        for types in ([], ["order.eaten"], ["order.promoted", "order.promoted"]):
            body = {"url": URL, "event_id": EVENT_ID, "types": types}
            [field] = refused(subscribe(opened, body), 422, "validation_failed")["errors"]
            assert field.startswith("types")
        problem = refused(subscribe(opened, {"url": URL}, auth=ORGANIZER), 422, "validation_failed")
        assert list(problem["errors"]) == ["event_id"]


class TestLooking:
    def test_an_organizer_sees_its_own(self, opened: Api) -> None:
        """Another's webhook is not there for it, whatever it asks; the admin sees all."""
        own = subscribe(opened, auth=ORGANIZER).json["webhook_id"]
        other = subscribe(opened).json["webhook_id"]

        def ids(credentials: tuple[str, str]) -> set[str]:
            return {item["webhook_id"] for item in opened.client.get("/webhooks", auth=credentials).json["items"]}

        assert (ids(ORGANIZER), ids(ADMIN)) == ({own}, {own, other})
        for method, path in [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/deliveries"),
            ("POST", "/replay?after=0"),
        ]:
            answer = opened.client.open(f"/webhooks/{other}{path}", method=method, auth=ORGANIZER)
            refused(answer, 404, "webhook_not_found")

    def test_pages(self, opened: Api) -> None:
        """One after the other, each once."""
        made = {subscribe(opened).json["webhook_id"] for _ in range(5)}
        path, seen = "/webhooks?limit=2", []
        while path:
            answer = opened.get(path, staff=True)
            seen += [item["webhook_id"] for item in answer.json["items"]]
            path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
        assert (set(seen), len(seen)) == (made, 5)

    def test_the_last_deliveries(self, opened: Api) -> None:
        """The newest first, and no more than are kept."""
        webhook_id = subscribe(opened).json["webhook_id"]
        path = f"/webhooks/{webhook_id}/deliveries"
        assert opened.get(path, staff=True).json == {"items": [], "next": None}
        for version in range(1, DELIVERIES_KEPT + 3):
            opened.services.webhooks.log(webhook_id, delivery(version))
        shown = opened.get(f"{path}?limit=500", staff=True).json["items"]
        assert [item["version"] for item in shown] == list(range(DELIVERIES_KEPT + 2, 2, -1))
        assert shown[0]["error"] == "answered 500"
        assert len(opened.get(f"{path}?limit=3", staff=True).json["items"]) == 3

    def test_an_end(self, opened: Api) -> None:
        """Nothing of it is left."""
        webhook_id = subscribe(opened).json["webhook_id"]
        opened.services.webhooks.log(webhook_id, delivery(1))
        path = f"/webhooks/{webhook_id}"
        assert opened.client.delete(path, auth=ADMIN).status_code == 204
        refused(opened.client.delete(path, auth=ADMIN), 404, "webhook_not_found")
        assert opened.services.webhooks.cursors(webhook_id) == {}
        assert opened.services.webhooks.deliveries(webhook_id, 9) == []


class TestAnEndMeanwhile:
    """Who is about to write something of a webhook learns too late that it has ended: nothing comes back."""

    def ended(self, api: Api, body: Json | None = None) -> str:
        webhook_id: str = subscribe(api, body).json["webhook_id"]
        assert api.client.delete(f"/webhooks/{webhook_id}", auth=ADMIN).status_code == 204
        return webhook_id

    def nothing_is_left(self, api: Api) -> bool:
        """Neither of it nor of another webhook."""
        database = api.services.database
        names = ("webhooks", "webhook_cursors", "webhook_deliveries")
        return not any(list(database[name].find()) for name in names)

    def test_between_look_and_insert(self, opened: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """The webhook was there a moment ago: what was inserted is taken back."""
        webhook_id, webhooks = subscribe(opened, {"url": URL}).json["webhook_id"], opened.services.webhooks
        real = webhooks._cursors.insert_one

        def insert_late(document: Json) -> None:
            webhooks.remove(webhook_id)
            real(document)

        monkeypatch.setattr(webhooks._cursors, "insert_one", insert_late)
        assert webhooks.advance(webhook_id, "newer", Cursor(), 3) == Cursor(version=3)
        assert self.nothing_is_left(opened)

    @pytest.mark.parametrize("write", ["log", "advance", "replay"])
    def test_somebody_else_inserts_first(self, opened: Api, monkeypatch: pytest.MonkeyPatch, write: str) -> None:
        """Of a webhook that goes on: what each wrote is there."""
        webhook_id, webhooks = subscribe(opened, {"url": URL}).json["webhook_id"], opened.services.webhooks
        writes: dict[str, Any] = {
            "log": lambda: webhooks.log(webhook_id, delivery(3)),
            "advance": lambda: webhooks.advance(webhook_id, "newer", Cursor(), 3),
            "replay": lambda: webhooks.replay(webhook_id, "newer", 0),
        }
        real_look = webhooks._is_there

        def look(webhook_id: str) -> bool:
            monkeypatch.setattr(webhooks, "_is_there", real_look)
            writes["replay" if write == "advance" else "advance" if write == "replay" else "log"]()
            return True

        monkeypatch.setattr(webhooks, "_is_there", look)
        told = writes[write]()
        if write == "log":
            assert len(webhooks.deliveries(webhook_id, 9)) == 2
        else:
            assert webhooks.cursors(webhook_id)["newer"] == Cursor(version=0, replays=1)
            assert told == (Cursor(version=0, replays=1) if write == "advance" else None)

    @pytest.mark.parametrize("cursor", [Cursor(version=2), Cursor()])
    def test_who_delivers(self, opened: Api, cursor: Cursor) -> None:
        """A notice of an event that it had begun with, or one that was opened since."""
        webhook_id, webhooks = self.ended(opened, {"url": URL}), opened.services.webhooks
        webhooks.log(webhook_id, delivery(3))
        assert webhooks.advance(webhook_id, EVENT_ID, cursor, 3) == Cursor(version=3)
        assert self.nothing_is_left(opened)

    def test_who_replays(self, opened: Api) -> None:
        """It is not served again."""
        opened.services.webhooks.replay(self.ended(opened), EVENT_ID, 0)
        assert self.nothing_is_left(opened)

    @pytest.mark.parametrize("collection", ["_deliveries", "_cursors"])
    def test_an_end_that_is_cut_short(
        self, opened: Api, monkeypatch: pytest.MonkeyPatch, collection: str
    ) -> None:
        """It is served no more, whatever is noted or asked of it, and is there for a repeat, which does the rest."""
        answer = subscribe(opened, key="k")
        webhook_id, webhooks = answer.json["webhook_id"], opened.services.webhooks

        def fail(*args: Any) -> None:
            raise PyMongoError

        with monkeypatch.context() as patch:
            for name in ("delete_one", "delete_many"):
                patch.setattr(getattr(webhooks, collection), name, fail)
            refused(opened.client.delete(f"/webhooks/{webhook_id}", auth=ADMIN), 503, "storage_unavailable")
        webhooks.disable(webhook_id, "the receiver is gone (410)")
        webhooks.advance(webhook_id, EVENT_ID, Cursor(version=2), 3)
        assert opened.client.post(f"/webhooks/{webhook_id}/replay?after=0", auth=ADMIN).status_code == 202
        shown = opened.get(f"/webhooks/{webhook_id}", staff=True).json
        assert shown["disabled_reason"].startswith("it is being deleted")
        assert opened.client.delete(f"/webhooks/{webhook_id}", auth=ADMIN).status_code == 204
        assert self.nothing_is_left(opened)

    def test_made_anew(self, opened: Api) -> None:
        """With the same key, so with the same id: it begins with what comes then."""
        webhook_id, webhooks = subscribe(opened, key="k").json["webhook_id"], opened.services.webhooks
        opened.client.delete(f"/webhooks/{webhook_id}", auth=ADMIN)
        webhooks.advance(webhook_id, EVENT_ID, Cursor(version=2), 3)
        for user in ("ben", "cleo"):
            opened.book(user)
        assert subscribe(opened, key="k").json["webhook_id"] == webhook_id
        assert webhooks.cursors(webhook_id) == {EVENT_ID: Cursor(version=4)}


class TestAnotherRole:
    """Webhooks rest on a role: they end with it."""

    def subscribed(self, api: Api) -> str:
        webhook_id: str = subscribe(api, auth=ORGANIZER).json["webhook_id"]
        api.services.webhooks.log(webhook_id, delivery(1))
        return webhook_id

    def test_of_who_is_a_customer_now(self, opened: Api) -> None:
        """Nobody serves them any more, nothing of them is left, and those of others stay."""
        webhook_id, other = self.subscribed(opened), subscribe(opened).json["webhook_id"]
        answer = opened.client.patch(f"/users/{ORGANIZER[0]}", json={"role": "customer"}, auth=ADMIN)
        assert answer.status_code == 200
        assert [item["webhook_id"] for item in opened.get("/webhooks", staff=True).json["items"]] == [other]
        assert opened.services.webhooks.cursors(webhook_id) == {}
        assert opened.services.webhooks.deliveries(webhook_id, 9) == []

    def test_of_an_admin_who_is_an_organizer_now(self, opened: Api) -> None:
        """An organizer is not told of all events."""
        opened.client.patch(f"/users/{ORGANIZER[0]}", json={"role": "admin"}, auth=ADMIN)
        assert subscribe(opened, {"url": URL}, auth=ORGANIZER).status_code == 201
        opened.client.patch(f"/users/{ORGANIZER[0]}", json={"role": "organizer"}, auth=ADMIN)
        assert opened.get("/webhooks", staff=True).json["items"] == []

    def test_what_ends_no_webhook(self, opened: Api) -> None:
        """Another password, or the role of an admin."""
        self.subscribed(opened)
        for change in ({"password": "another good passphrase"}, {"role": "admin"}):
            assert opened.client.patch(f"/users/{ORGANIZER[0]}", json=change, auth=ADMIN).status_code == 200
            assert len(opened.get("/webhooks", staff=True).json["items"]) == 1

    def test_one_that_is_made_meanwhile(self, opened: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a request that was let in before: it finds that the role has gone, and takes the webhook back."""
        webhooks = opened.services.webhooks
        real_add = webhooks.add

        def add_late(subscription: Subscription) -> bool:
            opened.client.patch(f"/users/{ORGANIZER[0]}", json={"role": "customer"}, auth=ADMIN)
            return real_add(subscription)

        monkeypatch.setattr(webhooks, "add", add_late)
        refused(subscribe(opened, auth=ORGANIZER), 403, "forbidden")
        assert opened.get("/webhooks", staff=True).json["items"] == []


class TestReplay:
    def test_it_goes_back_and_serves_again(self, opened: Api) -> None:
        """The cursor is where it was told, and what had disabled it is forgotten."""
        webhook_id, webhooks = subscribe(opened).json["webhook_id"], opened.services.webhooks
        failing = Failing(since=AT, attempts=3, error="no connection", next_attempt_at=AT)
        webhooks.set_failing(webhook_id, failing)
        webhooks.disable(webhook_id, "the receiver is gone (410)")
        shown = opened.get(f"/webhooks/{webhook_id}", staff=True).json
        assert (shown["disabled_reason"], shown["failing"]["attempts"]) == ("the receiver is gone (410)", 3)
        answer = opened.client.post(f"/webhooks/{webhook_id}/replay?after=1", auth=ADMIN)
        assert answer.status_code == 202
        assert (answer.json["disabled_reason"], answer.json["failing"]) == (None, None)
        assert webhooks.cursors(webhook_id) == {EVENT_ID: Cursor(version=1, replays=1)}

    def test_a_replay_wins_over_a_delivery_under_way(self, opened: Api) -> None:
        """Who goes on from the old cursor learns of it, and moves nothing."""
        webhook_id, webhooks = subscribe(opened).json["webhook_id"], opened.services.webhooks
        [old] = webhooks.cursors(webhook_id).values()
        webhooks.replay(webhook_id, EVENT_ID, 0)
        assert webhooks.advance(webhook_id, EVENT_ID, old, 2) == Cursor(version=0, replays=1)
        assert webhooks.advance(webhook_id, EVENT_ID, Cursor(version=0, replays=1), 1) == Cursor(version=1, replays=1)
        assert webhooks.cursors(webhook_id) == {EVENT_ID: Cursor(version=1, replays=1)}

    def test_of_an_event_that_was_opened_since(self, opened: Api) -> None:
        """Who delivers its first notice has no cursor of it yet, and learns of the replay too."""
        webhook_id, webhooks = subscribe(opened, {"url": URL}).json["webhook_id"], opened.services.webhooks
        opened.initialize(1, "newer")
        assert webhooks.advance(webhook_id, "newer", Cursor(), 1) == Cursor(version=1)
        webhooks.replay(webhook_id, "newer", 0)
        assert webhooks.advance(webhook_id, "newer", Cursor(), 2) == Cursor(version=0, replays=1)
        assert webhooks.cursors(webhook_id)["newer"] == Cursor(version=0, replays=1)

    def test_of_which_event(self, opened: Api) -> None:
        """A webhook of all events needs one named; one of an event takes no other."""
        every, one = subscribe(opened, {"url": URL}).json, subscribe(opened).json

        def replay(webhook: Json, query: str) -> Answer:
            return opened.client.post(f"/webhooks/{webhook['webhook_id']}/replay?{query}", auth=ADMIN)

        assert replay(every, f"after=0&event_id={EVENT_ID}").status_code == 202
        for webhook, query, field in [
            (every, "after=0", "event_id"),
            (one, "after=0&event_id=other", "event_id"),
            (one, "after=3", "after"),
            (one, "", "after"),
        ]:
            assert list(refused(replay(webhook, query), 422, "validation_failed")["errors"]) == [field]
        for event_id in ("nowhere", "no event"):
            refused(replay(every, f"after=0&event_id={event_id}"), 404, "event_not_found")


def delivery(version: int) -> Delivery:
    """An attempt that failed."""
    return Delivery(
        message_id="msg_1",
        type="order.confirmed",
        event_id=EVENT_ID,
        version=version,
        at=AT,
        attempt=1,
        duration_ms=3,
        http_status=500,
        error="answered 500",
    )
