"""DELETE of users on a real mongod: the name is nowhere afterwards, the orders stay, an interruption does no harm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from mmap import mmap
from typing import Any

import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from flask import Flask

from tests.damage import Damage, changed, described, exact, garbled
from ticketing.accounts import RECENT_S
from ticketing.api.auth import Role
from ticketing.audit import audit
from ticketing.domain.commands import Book
from ticketing.errors import StorageUnavailable
from ticketing.ids import new_order_id
from ticketing.manager import DAMAGE_REMEMBERED_S
from ticketing.storage import recent
from ticketing.storage.archive import export_lines, import_lines
from ticketing.storage.ledger import ledger_collection
from ticketing.storage.names import Names
from ticketing.storage.recent import RecentCommits
from ticketing.storage.segments import Segments, segment_collection
from ticketing.storage.webhooks import Subscription, Webhooks

from .conftest import ADMIN, EVENT_ID, Answer, Api, Json, MakeApp, add_account, refused

pytestmark = pytest.mark.parametrize("mongo", ["mongod"], indirect=True)

RAW: CodecOptions[Any] = CodecOptions(RawBSONDocument)

# Names that are nowhere by accident.
ADA = ("ada-of-the-test", "correct horse battery staple")
URL = "https://example.com/tickets"
OLGA = ("olga-of-the-test", "a password of an organizer")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[mmap]:
    """Memory that the apps of the test share, as workers of a host do; ask for it before them."""
    monkeypatch.setattr(recent, "_shared", None)
    recent.share()
    assert recent._shared is not None
    memory, file = recent._shared
    yield memory
    file.close()
    memory.close()


@pytest.fixture
def api(app: Flask) -> Api:
    """A user with a confirmed, a waiting and a cancelled order in events of an organizer, with keys and logins, and
    with a webhook from a time when she was an admin, so that the names in all collections are looked for."""
    api = Api(app)
    add_account(app, ADA, Role.CUSTOMER)
    api.services.webhooks.add(subscription_of(ADA[0]))
    add_account(app, OLGA, Role.ORGANIZER)
    api.client.post("/auth/token", auth=ADA)
    for event_id, total_tickets in ((EVENT_ID, 2), ("opera", 1), ("play", 1)):
        api.initialize(total_tickets, event_id, auth=OLGA, key=f"open-{event_id}")
        api.book("ben", event_id=event_id)
    assert subscribe(api, OLGA).status_code == 201
    for event_id in (EVENT_ID, "opera"):
        book(api, event_id)
    api.post("/cancel", {"event_id": EVENT_ID, "user_id": ADA[0]}, auth=ADA, key="cancel")
    book(api, EVENT_ID, key="book-again")
    return api


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten bookings make one."""
    monkeypatch.setattr("ticketing.storage.segments.SEGMENT_SIZE", 20)
    monkeypatch.setattr("ticketing.storage.segments.EVENT_SIZE", 1)
    monkeypatch.setattr("ticketing.storage.pages.FIRST_PAGE_COMMITS", 2)


def segments_of(api: Api) -> Segments:
    """What a worker writes beside its requests."""
    database = api.services.database
    return Segments(segment_collection(database), ledger_collection(database), api.services.clock)


def unavailable(*_: Any) -> Any:
    """The storage is away."""
    raise StorageUnavailable


def subscription_of(user_id: str) -> Subscription:
    """A webhook that somebody made."""
    return Subscription(
        webhook_id=f"wh_{user_id}",
        url=URL,
        event_id=None,
        types=None,
        secret="whsec_c2VjcmV0",
        created_by=user_id,
        created_at=datetime(2027, 1, 1, tzinfo=UTC),
    )


def subscribe(api: Api, auth: tuple[str, str], event_id: str = EVENT_ID) -> Answer:
    """Make a webhook for an event."""
    return api.post("/webhooks", {"url": URL, "event_id": event_id}, auth=auth)


def webhooks_seen(api: Api, auth: tuple[str, str]) -> list[Json]:
    """The webhooks that somebody is shown."""
    items: list[Json] = api.client.get("/webhooks", auth=auth).json["items"]
    return items


def book(api: Api, event_id: str, key: str | None = None) -> Answer:
    """Book as Ada."""
    answer = api.post("/book", {"event_id": event_id}, auth=ADA, key=key)
    assert answer.status_code in (201, 202)
    return answer


def places(api: Api, name: str) -> list[str]:
    """The collections whose documents hold a name, in their raw bytes."""
    database = api.services.database
    raw: Any = database.client.get_database(database.name, codec_options=RAW)
    names = database.list_collection_names(filter={"type": "collection"})
    return sorted(
        each for each in names if any(name.encode() in document.raw for document in raw[each].find())
    )


def in_order(api: Api) -> None:
    """Fail where a ledger is not in order."""
    reports = list(audit(api.services.database))
    assert len(reports) == 3
    assert not [finding for report in reports for finding in report.findings]


def orders(api: Api, event_id: str = EVENT_ID) -> list[Json]:
    """All orders of an event."""
    items: list[Json] = api.get(f"/events/{event_id}/orders", staff=True).json["items"]
    return items


def without_names(orders: list[Json]) -> list[Json]:
    """What does not change when a user is erased."""
    return [
        {name: value for name, value in order.items() if name not in ("user_id", "updated_at", "version")}
        for order in orders
    ]


@pytest.mark.parametrize("auth", [ADA, ADMIN])
def test_a_user_is_erased(api: Api, make_app: MakeApp, auth: tuple[str, str]) -> None:
    """By himself or by an admin: 204, and no byte of the database has the name; his orders stay, under a pseudonym, in
    this worker, in another one that knew them by name, and in one that reads them for the first time."""
    there = Api(make_app())
    known = {event_id: orders(there, event_id) for event_id in (EVENT_ID, "opera")}
    assert places(api, ADA[0]) == ["ledger", "sessions", "users", "webhooks"]
    path = "/users/me" if auth is ADA else f"/users/{ADA[0]}"
    assert api.client.delete(path, auth=auth).status_code == 204
    assert places(api, ADA[0]) == []
    assert api.services.database["orders"].count_documents({"user_id": ADA[0]}) == 0
    in_order(api)
    for reader in (api, there, Api(make_app())):
        for event_id, before in known.items():
            now = orders(reader, event_id)
            assert without_names(now) == without_names(before)
            assert {order["user_id"] for order in now} >= {"ben"}
            [pseudonym] = {order["user_id"] for order in now} - {"ben"}
            assert pseudonym.startswith("erased:")
    refused(api.client.get("/users/me", auth=ADA), 401, "unauthorized")
    refused(api.get(f"/users/{ADA[0]}", staff=True), 404, "user_not_found")


def test_an_organizer_is_erased(api: Api, app: Flask, make_app: MakeApp) -> None:
    """His events stay, and do not come to who takes his name next: not even in a worker that knew him."""
    there = Api(make_app())
    assert there.client.get(f"/events/{EVENT_ID}/orders", auth=OLGA).status_code == 200
    assert api.client.delete("/users/me", auth=OLGA).status_code == 204
    assert places(api, OLGA[0]) == []
    in_order(api)
    add_account(app, OLGA, Role.ORGANIZER)
    there.app.extensions["ticketing"].clock.sleep(RECENT_S)
    for reader in (api, there, Api(make_app())):
        refused(reader.client.get(f"/events/{EVENT_ID}/orders", auth=OLGA), 403, "forbidden")


@pytest.mark.parametrize("who", [ADA, OLGA], ids=["customer", "organizer"])
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_no_change_feed_tells_the_name_afterwards(
    api: Api, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, who: tuple[str, str], is_interrupted: bool
) -> None:
    """Not even in a worker that has it in memory, from before the erasure or from its midst."""

    def told(reader: Api) -> str:
        return str(reader.get(f"/events/{EVENT_ID}/changes?after=0", staff=True).text)

    there, between = Api(make_app()), Api(make_app())
    assert who[0] in told(there)
    if is_interrupted:
        with monkeypatch.context() as patch:
            break_off(patch, api, "replace 1")
            refused(api.client.delete("/users/me", auth=who), 503, "storage_unavailable")
    assert who[0] in told(between)
    assert api.client.delete("/users/me", auth=who).status_code == 204
    for reader in (there, between, api, Api(make_app())):
        assert who[0] not in told(reader)
        assert reader.get(f"/events/{EVENT_ID}/changes?after=0", staff=True).status_code == 200


def test_who_takes_the_name_sees_no_webhooks(api: Api, app: Flask, make_app: MakeApp) -> None:
    """They have ended with the account, and nobody serves them: the next one of that name may replay nothing."""
    [made] = webhooks_seen(api, OLGA)
    assert api.client.delete("/users/me", auth=OLGA).status_code == 204
    assert api.services.webhooks.lease("anybody", 60.0, 9) == [subscription_of(ADA[0])]
    add_account(app, OLGA, Role.ORGANIZER)
    for reader in (api, Api(make_app())):
        assert webhooks_seen(reader, OLGA) == []
        replay = reader.client.post(f"/webhooks/{made['webhook_id']}/replay?after=0", auth=OLGA)
        refused(replay, 404, "webhook_not_found")


def test_a_webhook_that_is_made_meanwhile(api: Api, make_app: MakeApp) -> None:
    """By a worker that does not know of the erasure yet: it is refused, or ends with the account."""
    there = Api(make_app())
    assert webhooks_seen(there, OLGA)
    real_add = there.services.webhooks.add

    def add_late(subscription: Subscription) -> bool:
        assert api.client.delete("/users/me", auth=OLGA).status_code == 204
        return real_add(subscription)

    there.services.webhooks.add = add_late  # type: ignore[method-assign]
    refused(subscribe(there, OLGA), 403, "forbidden")
    assert places(api, OLGA[0]) == []


def test_a_name_that_has_only_webhooks(api: Api) -> None:
    """An admin finds and erases it too: 204, and then it is nowhere."""
    api.services.webhooks.add(subscription_of("zoe-of-the-test"))
    assert api.client.delete("/users/zoe-of-the-test", auth=ADMIN).status_code == 204
    refused(api.client.delete("/users/zoe-of-the-test", auth=ADMIN), 404, "user_not_found")


def test_without_ending_webhooks(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: they would outlive their owner."""
    monkeypatch.setattr(Webhooks, "remove_of", lambda *args: False)
    assert api.client.delete("/users/me", auth=OLGA).status_code == 204
    assert places(api, OLGA[0]) == ["webhooks"]


def test_a_repeated_key(api: Api) -> None:
    """Who repeats a request with its key gets its answer without the name."""
    assert api.client.delete(f"/users/{ADA[0]}", auth=ADMIN).status_code == 204
    add_account(api.app, ADA, Role.CUSTOMER)
    again = api.post("/book", {"event_id": EVENT_ID}, auth=ADA, key="book-again")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json["user_id"].startswith("erased:")


CRASHES = ["webhooks", "events_naming", "replace 1", "replace 2", "sessions", "remove"]


@pytest.mark.parametrize("crash_at", CRASHES)
def test_an_interrupted_erasure_is_completed(
    api: Api, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    """Wherever it ends: the ledgers are in order and their orders the same, the user may do nothing but ask for the
    rest of it, and when he has, the name is nowhere."""
    before = without_names(orders(api))
    with monkeypatch.context() as patch:
        break_off(patch, api, crash_at)
        refused(api.client.delete("/users/me", auth=ADA), 503, "storage_unavailable")
    in_order(api)
    assert places(api, ADA[0])
    there = Api(make_app())
    for reader in (api, there):
        assert without_names(orders(reader)) == before
    refused(there.post("/book", {"event_id": "play"}, auth=ADA), 401, "unauthorized")
    refused(there.client.get("/users/me", auth=ADA), 401, "unauthorized")
    refused(there.client.post("/auth/token", auth=ADA), 401, "unauthorized")
    assert there.client.delete("/users/me", auth=ADA).status_code == 204
    assert places(there, ADA[0]) == []
    in_order(there)
    assert without_names(orders(there)) == before


@pytest.mark.usefixtures("small_segments")
def test_an_erasure_that_broke_off_before_segments_went_is_completed(
    api: Api, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has the name no more, and the segments of what it was have it still."""
    for number in range(40):
        api.book(f"user-{number}")
    segments = segments_of(api)
    while segments.extend(EVENT_ID, api.services.clock.monotonic() + 5):
        pass
    assert "segments" in places(api, ADA[0])
    with monkeypatch.context() as patch:
        patch.setattr(Segments, "remove", unavailable)
        refused(api.client.delete("/users/me", auth=ADA), 503, "storage_unavailable")
        assert "ledger" in places(api, ADA[0])  # of the other event
        refused(api.client.delete("/users/me", auth=ADA), 503, "storage_unavailable")
    assert places(api, ADA[0]) != []
    assert api.client.delete("/users/me", auth=ADA).status_code == 204
    assert places(api, ADA[0]) == []
    in_order(api)
    assert Api(make_app()).status()["booked_tickets"] == 2


def test_an_erasure_without_time_left_is_completed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no time left for an event leaves it to the repeat, and does not take the storage for away."""
    clock, real_find = api.services.clock, Names.events_naming

    def find_slowly(*args: Any) -> list[str]:
        found = real_find(*args)
        clock.sleep(5.8)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Names, "events_naming", find_slowly)
        refused(api.client.delete("/users/me", auth=ADA), 503, "storage_unavailable")
    assert clock.monotonic() == pytest.approx(5.8 + RECENT_S)
    assert api.status()["booked_tickets"] == 2
    assert api.client.delete("/users/me", auth=ADA).status_code == 204
    assert places(api, ADA[0]) == []
    in_order(api)


def break_off(patch: pytest.MonkeyPatch, api: Api, at: str) -> None:
    """Let a step of the erasure fail; `replace 2` is the second event."""
    name, _, number = at.partition(" ")
    calls_left = int(number or 1)
    owners: Json = {"webhooks": Webhooks, "sessions": api.services.sessions, "remove": api.services.accounts}
    owner, name = owners.get(name, Names), "remove_of" if name in ("webhooks", "sessions") else name
    real = getattr(owner, name)

    def fail(*args: Any) -> Any:
        nonlocal calls_left
        calls_left -= 1
        if not calls_left:
            raise StorageUnavailable
        return real(*args)

    patch.setattr(owner, name, fail)


def test_a_name_without_an_account(api: Api) -> None:
    """An admin erases it too: what was booked under it without credentials, or came late. Nothing at all is 404."""
    assert api.client.delete("/users/ben", auth=ADMIN).status_code == 204
    assert places(api, "\x04\0\0\0ben\0") == []
    in_order(api)
    refused(api.client.delete("/users/ben", auth=ADMIN), 404, "user_not_found")


def test_bookings_meanwhile(api: Api, make_app: MakeApp) -> None:
    """What another worker lets the user book while it does not know yet is erased as well."""
    there = Api(make_app())
    assert there.client.get("/users/me", auth=ADA).status_code == 200
    clock = api.services.clock
    real_sleep = clock.sleep

    def sleep(seconds: float) -> None:
        if seconds == RECENT_S:
            book(there, "play")
        real_sleep(seconds)

    clock.sleep = sleep  # type: ignore[method-assign]
    assert api.client.delete("/users/me", auth=ADA).status_code == 204
    assert len(orders(api, "play")) == 2
    assert places(api, ADA[0]) == []


def test_a_booking_that_was_let_in_long_ago(api: Api, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker has let it in before the account was marked, and writes it when its event has been looked at."""
    there, real_replace = Api(make_app()), Names.replace

    def replace(names: Names, event_id: str, *args: Any) -> None:
        real_replace(names, event_id, *args)
        if event_id == "opera":
            there.services.manager.execute(Book(event_id="play", order_id=new_order_id("play"), user_id=ADA[0]))

    monkeypatch.setattr(Names, "replace", replace)
    assert api.client.delete("/users/me", auth=ADA).status_code == 204
    assert len(orders(api, "play")) == 2
    assert places(api, ADA[0]) == []
    in_order(api)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_second_order_that_was_let_in_long_ago(
    api: Api, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, is_interrupted: bool
) -> None:
    """Another worker writes it to an event in which her order is the pseudonym's already. No pseudonym has two active
    orders, also where the erasure breaks off before the name is replaced there."""
    there, real_replace, late = Api(make_app()), Names.replace, [EVENT_ID, "opera"]
    breaks = [StorageUnavailable()] * is_interrupted

    def replace(names: Names, event_id: str, *args: Any) -> None:
        if not late and breaks:
            raise breaks.pop()
        real_replace(names, event_id, *args)
        while event_id == "opera" and late:
            each = late.pop()
            there.services.manager.execute(Book(event_id=each, order_id=new_order_id(each), user_id=ADA[0]))

    monkeypatch.setattr(Names, "replace", replace)
    if is_interrupted:
        refused(api.client.delete("/users/me", auth=ADA), 503, "storage_unavailable")
        in_order(api)
    assert api.client.delete("/users/me", auth=ADA).status_code == 204
    assert places(api, ADA[0]) == []
    in_order(api)
    for reader in (api, there, Api(make_app())):
        assert (len(orders(reader, EVENT_ID)), len(orders(reader, "opera"))) == (4, 3)


def test_who_takes_the_name_at_once(api: Api, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before the end, though it never had an account; then it is somebody else's, whose orders are not touched."""
    real_replace = Names.replace

    def replace(*args: Any) -> None:
        refused(api.book("ben", event_id="late"), 401, "unauthorized")
        real_replace(*args)

    api.initialize(event_id="late")
    monkeypatch.setattr(Names, "replace", replace)
    assert api.client.delete("/users/ben", auth=ADMIN).status_code == 204
    assert api.services.accounts.fresh("ben") is None
    late = api.book("ben", event_id="late").json["order_id"]
    for reader in (api, Api(make_app())):
        assert [order["user_id"] for order in orders(reader, "late") if order["order_id"] == late] == ["ben"]


def test_two_erasures_at_once(api: Api, app: Flask, make_app: MakeApp) -> None:
    """One of them is done while the other waits for the workers. Who takes the name then keeps account and orders."""
    there, clock = Api(make_app()), api.services.clock
    real_sleep, late = clock.sleep, list[str]()

    def sleep(seconds: float) -> None:
        real_sleep(seconds)
        if seconds == RECENT_S and not late:
            late.append("is coming")
            assert there.client.delete(f"/users/{ADA[0]}", auth=ADMIN).status_code == 204
            add_account(app, ADA, Role.CUSTOMER)
            late[0] = book(there, "play").json["order_id"]

    clock.sleep = sleep  # type: ignore[method-assign]
    assert api.client.delete(f"/users/{ADA[0]}", auth=ADMIN).status_code == 204
    assert api.services.accounts.fresh(ADA[0]) is not None
    assert [order["order_id"] for order in orders(api, "play") if order["user_id"] == ADA[0]] == late
    in_order(api)


def test_an_account_goes_only_while_it_is_being_erased(api: Api, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another erasure ends and the name is taken just before the last step."""
    real_remove = api.services.sessions.remove_of

    def remove_of(*args: Any) -> None:
        real_remove(*args)
        account = api.services.accounts.fresh(ADA[0])
        assert account is not None
        api.services.accounts.remove(account)
        add_account(app, ADA, Role.CUSTOMER)

    monkeypatch.setattr(api.services.sessions, "remove_of", remove_of)
    assert api.client.delete(f"/users/{ADA[0]}", auth=ADMIN).status_code == 204
    assert api.services.accounts.fresh(ADA[0]) is not None


@pytest.mark.parametrize("crash_at", CRASHES)
def test_an_interrupted_erasure_of_a_name_without_an_account(
    api: Api, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    """Goes on with the same pseudonym."""
    with monkeypatch.context() as patch:
        break_off(patch, api, crash_at)
        refused(api.client.delete("/users/ben", auth=ADMIN), 503, "storage_unavailable")
    in_order(api)
    assert api.client.delete("/users/ben", auth=ADMIN).status_code == 204
    assert places(api, "\x04\0\0\0ben\0") == []
    in_order(api)
    named = {order["user_id"] for event_id in (EVENT_ID, "opera", "play") for order in orders(api, event_id)}
    assert len(named - {ADA[0]}) == 1


def test_a_name_that_is_being_erased_is_no_account(api: Api) -> None:
    """While damage holds its erasure up: who looks whether somebody has registered it sees nobody, nor gives it a
    password; and it cannot be registered meanwhile."""
    changed(2, orders__0__quantity=2)(ledger_collection(api.services.database), EVENT_ID)
    refused(api.client.delete("/users/ben", auth=ADMIN), 503, "ledger_damaged")
    refused(api.client.get("/users/ben", auth=ADMIN), 404, "user_not_found")
    listed = api.client.get("/users", auth=ADMIN).json["items"]
    assert [user["user_id"] for user in listed] == [ADA[0], OLGA[0]]
    patch = api.client.patch("/users/ben", json={"password": "a password of another"}, auth=ADMIN)
    refused(patch, 404, "user_not_found")
    account = api.services.accounts.fresh("ben")
    assert account is not None and account.pseudonym is not None
    refused(api.client.get("/users/me", auth=("ben", "")), 401, "unauthorized")


@pytest.mark.parametrize("who", [ADA, OLGA], ids=["customer", "organizer"])
def test_repairs_after_an_erasure(api: Api, make_app: MakeApp, who: tuple[str, str]) -> None:
    """Each commit with the name is lost, comes back with it from an older backup, and the name is erased again: one
    after the other, so that the commits have another pseudonym each. The ledger is in order all along, and its orders
    are those of one user."""
    ledger = ledger_collection(api.services.database)
    api.post("/cancel", {"event_id": EVENT_ID, "user_id": "ben"}, auth=OLGA)  # and Ada moves up
    backup = [line.text.encode() for line in export_lines(ledger, EVENT_ID)]
    named = [commit["_id"] for commit in api.ledger() if commit["event_id"] == EVENT_ID and who[0] in repr(commit)]
    assert len(named) >= 2
    assert api.client.delete(f"/users/{who[0]}", auth=ADMIN).status_code == 204
    before = orders(api)
    for commit_id in named:
        ledger.delete_one({"_id": commit_id})
        assert import_lines(ledger, backup).written == 1
        assert places(api, who[0]) == ["ledger"]
        in_order(api)
        assert orders(Api(make_app())) == before
        assert Api(make_app()).client.delete(f"/users/{who[0]}", auth=ADMIN).status_code == 204
        assert places(api, who[0]) == []
        in_order(api)
        assert orders(Api(make_app())) == before


STRAYS: dict[str, Callable[[str], Any]] = {
    "as-an-event": lambda event_id: event_id,
    "of-no-event": lambda event_id: "beta",
    "of-no-text": lambda event_id: ObjectId(),
    "before-the-first": lambda event_id: f"{event_id}:000000000000",
    "behind-the-last": lambda event_id: f"{event_id}:000000000900",
}


@pytest.mark.parametrize("stray", STRAYS)
def test_a_name_in_a_stray_document_is_told(api: Api, stray: str) -> None:
    """Where no reader of a ledger comes by: all events are done, the account stays, and it is not called erased."""
    ledger = api.services.database["ledger"]
    copy = own_commit(api) | {"_id": STRAYS[stray](EVENT_ID)}
    ledger.insert_one(copy)
    refused(api.client.delete("/users/me", auth=ADA), 503, "ledger_damaged")
    assert ADA[0] not in {order["user_id"] for order in orders(api, "opera")}
    assert "users" in places(api, ADA[0])
    assert api.get(f"/status/{EVENT_ID}").status_code == (503 if ":" in str(copy["_id"]) else 200)
    ledger.delete_one({"_id": copy["_id"]})
    api.services.clock.sleep(DAMAGE_REMEMBERED_S)
    assert api.client.delete("/users/me", auth=ADA).status_code == 204
    assert places(api, ADA[0]) == []


def test_a_name_under_an_id_that_is_no_text_at_all(api: Api) -> None:
    """No UTF-8: it is told, and all events are done."""
    raw: Any = api.services.database.get_collection("ledger", codec_options=RAW)
    (document,) = raw.find({"_id": own_commit(api)["_id"]})
    copy = bytearray(document.raw)
    copy[copy.index(EVENT_ID.encode())] = 0xFF
    raw.insert_one(RawBSONDocument(bytes(copy)))
    refused(api.client.delete("/users/me", auth=ADA), 503, "ledger_damaged")
    assert ADA[0] not in {order["user_id"] for event_id in (EVENT_ID, "opera") for order in orders(api, event_id)}


def test_damage_that_an_erasure_meets_is_told_to_the_worker(api: Api) -> None:
    """Who has the event in memory refuses it from then on."""
    commit = own_commit(api)
    changed(commit["first"], orders__0__quantity=2)(ledger_collection(api.services.database), EVENT_ID)
    assert api.status()["booked_tickets"] == 2
    refused(api.client.delete("/users/me", auth=ADA), 503, "ledger_damaged")
    for _ in range(2):
        refused(api.book("zoe"), 503, "ledger_damaged")
        api.services.clock.sleep(DAMAGE_REMEMBERED_S)


@pytest.mark.parametrize("failures", [1, 3])
def test_a_ledger_that_is_too_long_for_one_request(
    api: Api, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Is asked for again, as long as there is time."""
    real, left = api.services.manager.execute, [failures]

    def execute(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise StorageUnavailable
        return real(*args, **options)

    monkeypatch.setattr(api.services.manager, "execute", execute)
    assert api.client.delete("/users/me", auth=ADA).status_code == 204
    assert places(api, ADA[0]) == []


def own_commit(api: Api) -> Json:
    """The commit of Ada's last booking in the first of her events, whose transitions have one each."""
    ledger = api.services.database["ledger"]
    [*_, last] = ledger.find({"event_id": EVENT_ID, "transitions.orders.user_id": ADA[0]}).sort("first", 1)
    return dict(last)


DAMAGES: dict[str, Callable[[int], Damage]] = {
    "another-price": lambda version: changed(version, orders__0__unit_price="5.00"),
    "another-event": lambda version: described(version, event_id="nowhere"),
    "not-decodable": lambda version: garbled(version, "event_id"),
}


@pytest.mark.parametrize("knows_it", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_one_event_holds_up_no_other(
    api: Api, make_app: MakeApp, caplog: pytest.LogCaptureFixture, damage: str, knows_it: bool
) -> None:
    """It is told and logged, the account and what is damaged are left as they are, and when that has been repaired the
    rest of the erasure is done, with the same pseudonym."""
    ledger, commit = ledger_collection(api.services.database), own_commit(api)
    DAMAGES[damage](commit["first"])(ledger, EVENT_ID)
    damaged = exact(ledger, EVENT_ID)
    worker = api if knows_it else Api(make_app())
    answer = refused(worker.client.delete("/users/me", auth=ADA), 503, "ledger_damaged")
    assert EVENT_ID in answer["detail"]
    assert [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert damaged[commit["first"] - 1] in exact(ledger, EVENT_ID)
    pseudonyms = {order["user_id"] for order in orders(worker, "opera")} - {"ben"}
    assert ADA[0] not in pseudonyms
    assert places(worker, ADA[0]) == ["ledger", "sessions", "users"]
    refused(worker.post("/book", {"event_id": "play"}, auth=ADA), 401, "unauthorized")

    ledger.replace_one({"_id": commit["_id"]}, commit)
    there = Api(make_app())
    assert there.client.delete("/users/me", auth=ADA).status_code == 204
    assert places(there, ADA[0]) == []
    in_order(there)
    assert {order["user_id"] for order in orders(there)} == pseudonyms | {"ben"}


def test_without_replacing_the_name(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: were the name only forgotten by the workers, it would still be found, and nobody says otherwise."""
    monkeypatch.setattr(Names, "replace", lambda *args: None)
    refused(api.client.delete("/users/me", auth=ADA), 503, "ledger_damaged")
    assert "ledger" in places(api, ADA[0])


class TestCopiesOfCommits:
    """Those that workers of a host leave each other."""

    @pytest.mark.parametrize("auth", [ADA, ADMIN])
    def test_an_erased_name_is_in_none(
        self, shared: mmap, api: Api, make_app: MakeApp, auth: tuple[str, str]
    ) -> None:
        """Nowhere in the memory that they share, as soon as the answer is there; and copies are left as before."""
        there = Api(make_app())
        assert orders(there) == orders(api)
        assert shared.find(ADA[0].encode()) >= 0
        path = "/users/me" if auth is ADA else f"/users/{ADA[0]}"
        assert there.client.delete(path, auth=auth).status_code == 204
        assert shared.find(ADA[0].encode()) == -1
        api.book("late-1")
        there.book("late-2")
        assert min(shared.find(b"late-1"), shared.find(b"late-2")) >= 0
        assert orders(there) == orders(api) == orders(Api(make_app()))
        in_order(api)

    def test_nor_is_that_of_who_only_did_something(self, shared: mmap, app: Flask, api: Api) -> None:
        """Where no order is to be given to a pseudonym, no transition is written."""
        sue = ("sue-of-the-test", "a password of an admin")
        add_account(app, sue, Role.ADMIN)
        assert api.post("/book", {"event_id": "play", "user_id": "zoe"}, auth=sue).status_code == 202
        assert shared.find(sue[0].encode()) >= 0
        assert api.client.delete(f"/users/{sue[0]}", auth=ADMIN).status_code == 204
        assert shared.find(sue[0].encode()) == -1

    def test_it_would_be(self, shared: mmap, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """The control: copies that nobody wipes out."""
        monkeypatch.setattr(RecentCommits, "forget", lambda copies: None)
        assert api.client.delete("/users/me", auth=ADA).status_code == 204
        assert shared.find(ADA[0].encode()) >= 0

    def test_who_completes_an_erasure_wipes_them_out(
        self, shared: mmap, api: Api, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever began it has died when its transition was written, and before he could: there is none to write."""
        with monkeypatch.context() as patch:
            break_off(patch, api, "replace 1")
            patch.setattr(RecentCommits, "forget", lambda copies: None)
            refused(api.client.delete("/users/me", auth=ADA), 503, "storage_unavailable")
        assert shared.find(ADA[0].encode()) >= 0
        there = Api(make_app())
        assert there.client.delete("/users/me", auth=ADA).status_code == 204
        assert places(there, ADA[0]) == []
        assert shared.find(ADA[0].encode()) == -1
