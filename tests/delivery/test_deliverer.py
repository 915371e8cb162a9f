"""Who is sent what, in which order, whatever happens to receivers and to those who deliver."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from tests.concurrency.stage import booking, cancellation, opening
from tests.damage import described, garbled, insert_strays
from tests.ports import free_port
from tests.service.running import eventually, outer_environ
from ticketing.app import build_services
from ticketing.clock import SystemClock
from ticketing.config import Config
from ticketing.delivery import deliverer as deliverer_module
from ticketing.delivery.deliverer import Deliverer, Settings, pause_after
from ticketing.delivery.sender import Sender
from ticketing.domain.commands import CancelEvent, Transfer, Update
from ticketing.errors import StorageUnavailable
from ticketing.services import Services
from ticketing.storage.ledger import ledger_collection
from ticketing.storage.webhooks import Failing, Subscription, Webhooks

from .conftest import MakeReceiver
from .receiver import Received, Receiver

EVENT = "concert"
SECRET = "whsec_" + "c2VjcmV0" * 5
OTHER_SECRET = "whsec_" + "b3RoZXJz" * 5
FAST = Settings(lease_s=60.0, backoff_first_s=0.02)


class Place:
    """A service and those who deliver for it."""

    def __init__(self, uri: str, database: str) -> None:
        self.uri, self.database = uri, database
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri, tz_aware=True, retryWrites=False)
        self.parts = self.new_parts()
        self._running: list[tuple[Deliverer, threading.Thread]] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.metrics_port = 0  # of the last of them

    def new_parts(self, clock: SystemClock | None = None) -> Services:
        """The parts of one more process."""
        return build_services(Config(mongodb_database=self.database), self.client, clock or SystemClock())

    @property
    def ledger(self) -> Collection[dict[str, Any]]:
        """Where the commits are, and what else somebody has put there."""
        return ledger_collection(self.client[self.database])

    @property
    def webhooks(self) -> Webhooks:
        """The subscriptions."""
        return self.parts.webhooks

    def open(self, event_id: str = EVENT, total_tickets: int = 1) -> None:
        """Open an event."""
        self.parts.manager.execute(opening(event_id, total_tickets))

    def book(self, *users: str, event_id: str = EVENT) -> None:
        """Book a ticket for each."""
        for user in users:
            self.parts.manager.execute(booking(user, event_id))

    def transfer(self, from_user_id: str, to_user_id: str) -> None:
        """All tickets of a user's order go to another."""
        order = self.parts.manager.state_of(EVENT).active_order_of(from_user_id)
        assert order is not None
        self.parts.manager.execute(
            Transfer(event_id=EVENT, order_id=order.order_id, new_order_id=f"{EVENT}.new", to_user_id=to_user_id)
        )

    def subscribe(
        self,
        receiver: Receiver,
        event_id: str | None = EVENT,
        types: list[str] | None = None,
        name: str = "one",
        secret: str = SECRET,
    ) -> None:
        """Let a receiver be told from now on."""
        assert self.webhooks.add(
            Subscription(
                webhook_id=f"wh_{name}",
                url=receiver.url,
                event_id=event_id,
                types=types,
                secret=secret,
                created_by="admin",
                created_at=SystemClock().now(),
            )
        )

    def subscription(self, name: str = "one") -> Subscription:
        """How a subscription fares."""
        found = self.webhooks.find(f"wh_{name}")
        assert found is not None
        return found

    def left_of_webhooks(self) -> list[dict[str, Any]]:
        """All documents that there are for subscriptions."""
        database = self.client[self.database]
        names = ("webhooks", "webhook_cursors", "webhook_deliveries")
        return [document for name in names for document in database[name].find()]

    def attempts(self) -> int:
        """How often the last notice was sent in vain."""
        failing = self.subscription().failing
        return failing.attempts if failing else 0

    def deliver(
        self, settings: Settings = FAST, deadline_s: float = 30.0, clock: SystemClock | None = None
    ) -> Deliverer:
        """Begin to deliver, as one more process does."""
        parts = self.new_parts(clock)

        def new_sender() -> Sender:
            return Sender(allow_private=True, deadline_s=deadline_s)

        deliverer = Deliverer(parts.webhooks, parts.feed, clock or SystemClock(), new_sender, settings)
        thread = threading.Thread(target=deliverer.run)
        thread.start()
        self._running.append((deliverer, thread))
        return deliverer

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Begin to deliver in a process of its own."""
        environ = {
            "MONGODB_URI": self.uri,
            "MONGODB_DATABASE": self.database,
            "WEBHOOKS_ALLOW_PRIVATE": "true",
        }
        self.metrics_port = free_port()
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "webhooks", "deliver", "--lease-s", "2"]
        command += ["--metrics-port", str(self.metrics_port)]
        with (folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(command, cwd=folder, env={**outer_environ(), **environ}, stderr=output)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """End all who deliver."""
        for deliverer, _ in self._running:
            deliverer.stop()
        for _, thread in self._running:
            thread.join()
        self._running.clear()

    def close(self) -> None:
        """End all."""
        self.stop()
        for process in self.processes:
            process.kill()
            process.wait()
        self.client.close()


@pytest.fixture
def place(mongod: str, database: Database[dict[str, Any]]) -> Iterator[Place]:
    """A place on the real mongod, with an event of one ticket."""
    place = Place(mongod, database.name)
    place.open()
    yield place
    place.close()


def no_stream(webhooks: Webhooks) -> Iterator[None]:
    """In the place of `new_commits`, as on a single mongod."""
    raise StorageUnavailable


def confirmed(*users: str) -> list[tuple[str, str | None]]:
    """What is told of bookings of the first event that got their tickets."""
    return [("order.confirmed", user) for user in users]


class TestDelivering:
    def test_a_story(self, place: Place, receiver: Receiver) -> None:
        """Each notice once, in order, signed, with the order as it was after it."""
        place.subscribe(receiver)
        deliverer = place.deliver()
        eventually(lambda: deliverer.ends() == {EVENT: 1})
        place.book("ada", "ben", "cleo")
        place.parts.manager.execute(cancellation("ada"))
        place.transfer("ben", "dan")
        place.parts.manager.execute(Update(event_id=EVENT, fields={"venue": "City Hall"}))
        place.parts.manager.execute(CancelEvent(event_id=EVENT))
        eventually(lambda: len(receiver.received) >= 9)
        assert receiver.told() == [
            ("order.confirmed", "ada"),
            ("order.waitlisted", "ben"),
            ("order.waitlisted", "cleo"),
            ("order.cancelled", "ada"),
            ("order.promoted", "ben"),
            ("order.transferred", "ben"),
            ("order.transferred", "dan"),
            ("event.updated", None),
            ("event.cancelled", None),
        ]
        for received in receiver.received:
            notice = received.verify(SECRET)
            datetime.fromisoformat(notice["timestamp"])
            assert notice["data"]["event_id"] == EVENT
            if notice["type"].startswith("order."):
                assert notice["data"]["order"]["version"] == notice["data"]["version"]
            else:
                assert set(notice["data"]) == {"event_id", "version"}
        assert [each.notice["data"]["version"] for each in receiver.received] == [2, 3, 4, 5, 5, 6, 6, 7, 8]
        assert receiver.received[2].notice["data"]["order"]["waiting_position"] == 2
        sent, got = (each.notice["data"]["order"] for each in receiver.received[5:7])
        assert (sent["status"], got["status"], got["quantity"]) == ("cancelled", "confirmed", 1)
        assert len({each.message_id for each in receiver.received}) == 9
        eventually(lambda: place.webhooks.cursors("wh_one")[EVENT].version == 8)
        eventually(lambda: len(place.webhooks.deliveries("wh_one", 99)) == 9)
        assert {each.http_status for each in place.webhooks.deliveries("wh_one", 99)} == {204}

    def test_what_happened_while_nobody_delivered(self, place: Place, receiver: Receiver) -> None:
        """It is in the ledger; nothing is told of what was before the subscription, or of other types."""
        place.book("before")
        place.parts.manager.execute(cancellation("before"))
        place.subscribe(receiver, types=["order.confirmed", "order.cancelled"])
        place.book("ada", "ben")
        place.parts.manager.execute(cancellation("ada"))
        place.deliver()
        eventually(lambda: len(receiver.received) >= 2)
        eventually(lambda: place.webhooks.cursors("wh_one")[EVENT].version == 6)
        assert receiver.told() == [("order.confirmed", "ada"), ("order.cancelled", "ada")]

    def test_all_events(self, place: Place, receiver: Receiver) -> None:
        """Those that were there, and those that are opened later; those of one in their order."""
        place.open("older", 9)
        place.subscribe(receiver, event_id=None)
        place.deliver()
        place.open("newer", 9)
        users = [f"user-{number}" for number in range(5)]
        for user in users:
            place.book(user, event_id="newer")
            place.book(user, event_id="older")
        eventually(lambda: len(receiver.received) >= 10)
        for event_id in ("newer", "older"):
            told = [each.told[1] for each in receiver.received if each.notice["data"]["event_id"] == event_id]
            assert told == users

    @pytest.mark.parametrize("while_delivering", [True, False])
    def test_sales_that_open_by_the_clock(
        self, place: Place, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, while_delivering: bool
    ) -> None:
        """Who moves up then is told so, though nobody looks at the event; also where sales opened while nobody
        delivered, and for those who are told of all events."""
        monkeypatch.setattr(deliverer_module, "OPENED_EVERY_S", 0.05)
        clock = MovedClock()
        place.subscribe(receiver, event_id=None)
        place.book("ada", "ben")
        opens_at = clock.now() + timedelta(hours=1)
        place.parts.manager.execute(Update(event_id=EVENT, fields={"sales_open_at": opens_at}))
        place.parts.manager.execute(cancellation("ada"))
        place.deliver(clock=clock)
        eventually(lambda: place.webhooks.cursors("wh_one")[EVENT].version == 5)
        if not while_delivering:
            place.stop()
        clock.moved = timedelta(hours=2)
        if not while_delivering:
            place.deliver(clock=clock)
        eventually(lambda: receiver.told()[-1] == ("order.promoted", "ben"))
        assert receiver.received[-1].notice["data"]["version"] == 6
        assert len(receiver.received) == 5

    def test_without_change_streams(
        self, place: Place, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a single mongod, or while the stream is lost: new commits are looked for, and none is missed."""
        monkeypatch.setattr(Webhooks, "new_commits", no_stream)
        monkeypatch.setattr(deliverer_module, "PAUSE_S", 0.05)
        place.subscribe(receiver)
        place.deliver()
        place.book("ada")
        eventually(lambda: receiver.told() == confirmed("ada"))

    def test_a_stream_that_is_lost(
        self, place: Place, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was committed meanwhile is found by the look that follows."""
        real, lost = Webhooks.new_commits, threading.Event()

        def breaks_off(webhooks: Webhooks) -> Iterator[tuple[str, int] | None]:
            if lost.is_set():
                yield from real(webhooks)
            yield (EVENT, 1)
            eventually(lambda: place.webhooks.cursors("wh_one")[EVENT].version == 1)
            place.book("ada")
            lost.set()
            raise StorageUnavailable

        monkeypatch.setattr(Webhooks, "new_commits", breaks_off)
        place.subscribe(receiver)
        place.deliver()
        eventually(lambda: receiver.told() == confirmed("ada"))
        assert lost.is_set()

    def test_no_commit_falls_between_stream_and_look(self, place: Place, mongod: str) -> None:
        """The look waits for what is older than a moment, even if no majority had it then; the stream begins there."""
        seen = Commands()
        with MongoClient[dict[str, Any]](mongod, retryWrites=False, event_listeners=[seen]) as client:
            commits = Webhooks(client[place.database], timeout_s=20.0).new_commits()
            assert next(commits) == (EVENT, 1)
            commits.close()
        (ping, _), (aggregate, stream), (find, look) = seen.commands[:3]
        assert (ping, aggregate, find) == ("ping", "aggregate", "find")
        moment = stream["pipeline"][0]["$changeStream"]["startAtOperationTime"]
        assert moment <= look["readConcern"]["afterClusterTime"]


class TestStrayDocuments:
    """What stands among the commits, or in one of them, keeps nobody from being told."""

    @pytest.mark.parametrize("with_stream", [True, False])
    def test_a_last_version_that_is_none(
        self, place: Place, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, with_stream: bool
    ) -> None:
        """It is passed by, with a change stream and without one."""
        if not with_stream:
            monkeypatch.setattr(Webhooks, "new_commits", no_stream)
        monkeypatch.setattr(deliverer_module, "PAUSE_S", 0.05)
        place.open("other", 9)
        place.subscribe(receiver, event_id="other")
        described(1, last="x")(place.ledger, EVENT)
        deliverer = place.deliver()
        place.book("ada", event_id="other")
        eventually(lambda: receiver.told() == confirmed("ada"))
        eventually(lambda: deliverer.ends() == {EVENT: 1, "other": 2})

    def test_what_is_no_commit(self, place: Place, receiver: Receiver) -> None:
        """It comes while they deliver, and then a booking."""
        place.open("other", 9)
        place.subscribe(receiver, event_id=None)
        deliverer = place.deliver()
        eventually(lambda: deliverer.ends() == {EVENT: 1, "other": 1})
        insert_strays(place.ledger)
        place.book("ada", event_id="other")
        eventually(lambda: receiver.told() == confirmed("ada"))
        eventually(lambda: deliverer.ends() == {EVENT: 1, "other": 2})

    @pytest.mark.parametrize("fails", ["new_commits", "ends_of_ledgers", "cursors", "advance"])
    def test_whatever_goes_wrong(
        self,
        place: Place,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        fails: str,
    ) -> None:
        """It is logged, and the thread goes on a little later, with nothing told twice and nothing left out."""
        monkeypatch.setattr(deliverer_module, "PAUSE_S", 0.05)
        real, failed = getattr(Webhooks, fails), threading.Event()

        def fail_once(webhooks: Webhooks, *args: Any) -> Any:
            if failed.is_set():
                return real(webhooks, *args)
            failed.set()
            raise TypeError("of this test")

        if fails == "ends_of_ledgers":  # which is asked where there is no stream
            monkeypatch.setattr(Webhooks, "new_commits", no_stream)
        place.book("before")
        place.subscribe(receiver)
        monkeypatch.setattr(Webhooks, fails, fail_once)
        deliverer = place.deliver()
        assert fails == "advance" or failed.wait(60.0)  # which comes after a booking
        place.book("ada", "ben")
        eventually(lambda: len(receiver.received) >= 2)
        eventually(lambda: place.webhooks.cursors("wh_one")[EVENT].version == 4)
        assert receiver.told() == [("order.waitlisted", "ada"), ("order.waitlisted", "ben")]
        assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["of this test"]
        eventually(lambda: deliverer.ends() == {EVENT: 4})

    def test_an_event_id_that_is_none(self, place: Place) -> None:
        """In a commit that says when sales open."""
        opens_at = SystemClock().now()
        for event_id in ("opera", "play"):
            place.parts.manager.execute(opening(event_id, 1))
            place.parts.manager.execute(Update(event_id=event_id, fields={"sales_open_at": opens_at}))
        for damage in (garbled(2, "event_id"), described(1, event_id=["a", 5]), described(1, event_id="no event")):
            damage(place.ledger, "play")
            found = place.webhooks.events_opened(opens_at - timedelta(hours=1), opens_at)
            assert found == ["opera"]


class MovedClock(SystemClock):
    """A clock that is ahead by as much as it was moved."""

    moved = timedelta()

    def now(self) -> datetime:
        """Later than it is."""
        return super().now() + self.moved


class Commands(CommandListener):
    """What a client asks of MongoDB."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        """Note it."""
        self.commands.append((event.command_name, event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing more."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing more."""


class TestReceiversInTrouble:
    def test_one_that_fails_and_comes_back(self, place: Place, receiver: Receiver) -> None:
        """It gets every notice, in order, under the same id at each try; the log has what it answered."""
        answers = iter([500, 302, 404, 200, 503])
        receiver.answer = lambda received: next(answers, 200)
        place.open("other", 9)
        place.subscribe(receiver, event_id="other")
        place.deliver()
        place.book("ada", "ben", event_id="other")
        eventually(lambda: len(receiver.received) >= 6)
        assert [each.told[1] for each in receiver.received] == ["ada"] * 4 + ["ben"] * 2
        assert len({each.message_id for each in receiver.received}) == 2
        eventually(lambda: len(place.webhooks.deliveries("wh_one", 9)) == 6)
        attempts = [(each.attempt, each.http_status) for each in place.webhooks.deliveries("wh_one", 9)]
        assert attempts[::-1] == [(1, 500), (2, 302), (3, 404), (4, 200), (1, 503), (2, 200)]
        eventually(lambda: place.subscription().failing is None)

    def test_one_that_hangs_delays_nobody_else(self, place: Place, make_receiver: MakeReceiver) -> None:
        """The others are told meanwhile; and when it does not hang any more, it is told too."""
        hanging, sound, is_hanging = make_receiver(), make_receiver(), threading.Event()

        def hang(received: Received) -> int:
            is_hanging.set()
            return hanging.hang(received)

        hanging.answer = hang
        place.open("other", 99)
        for receiver, name in ((hanging, "hanging"), (sound, "sound")):
            place.subscribe(receiver, event_id="other", name=name)
        place.deliver()
        users = [f"user-{number}" for number in range(10)]
        place.book(users[0], event_id="other")
        assert is_hanging.wait(60.0)
        place.book(*users[1:], event_id="other")  # while it hangs: each is answered, and is in the ledger
        assert place.new_parts().manager.state_of("other").booked_tickets == 10
        eventually(lambda: len(sound.received) == 10)
        assert hanging.received == []
        hanging.answer = lambda received: 200
        hanging.left.set()
        eventually(lambda: [each.told[1] for each in hanging.received] == users)

    def test_one_that_hangs_is_not_waited_for_for_ever(self, place: Place, receiver: Receiver) -> None:
        """A try ends with its deadline."""
        receiver.answer = receiver.hang
        place.subscribe(receiver)
        place.deliver(deadline_s=0.1)
        place.book("ada")
        eventually(lambda: len(place.webhooks.deliveries("wh_one", 9)) >= 2)
        assert place.webhooks.deliveries("wh_one", 1)[0].error == "no answer within 0.1 s"
        failing = place.subscription().failing
        assert failing is not None and failing.attempts >= 1

    def test_one_that_is_gone(self, place: Place, receiver: Receiver) -> None:
        """410: disabled at once. A replay brings it back, from where it was told to begin."""
        receiver.answer = lambda received: 410
        place.subscribe(receiver)
        place.deliver()
        place.book("ada")
        eventually(lambda: not place.subscription().is_active)
        assert place.subscription().disabled_reason == "the receiver is gone (410)"
        assert len(receiver.received) == 1
        receiver.answer = lambda received: 200
        place.webhooks.replay("wh_one", EVENT, 1)
        eventually(lambda: receiver.told() == confirmed("ada", "ada"))
        assert len({each.message_id for each in receiver.received}) == 1

    def test_one_that_has_failed_for_days(self, place: Place, receiver: Receiver) -> None:
        """After three days it is disabled with the reason; until then it is not."""
        receiver.answer = lambda received: 500
        place.subscribe(receiver)
        now = SystemClock().now()
        long_ago = now - timedelta(days=3)
        failing = Failing(since=long_ago, attempts=30, error="answered 500", next_attempt_at=long_ago)
        place.webhooks.set_failing("wh_one", failing)
        place.deliver()
        place.book("ada")
        eventually(lambda: not place.subscription().is_active)
        reason = place.subscription().disabled_reason
        assert reason is not None and reason.endswith("answered 500") and "failed since" in reason
        assert len(receiver.received) == 1

    def test_a_new_process_keeps_to_the_pause(self, place: Place, receiver: Receiver) -> None:
        """It is as long as the number of attempts says, and nothing is sent before its end."""
        receiver.answer = lambda received: 500
        place.subscribe(receiver)
        now = SystemClock().now()
        place.webhooks.set_failing("wh_one", Failing(since=now, attempts=1, error="", next_attempt_at=now))
        place.book("ada")
        place.deliver(Settings(lease_s=60.0, backoff_first_s=3600.0))
        eventually(lambda: place.attempts() == 2)
        failing = place.subscription().failing
        assert failing is not None
        [delivery] = eventually(lambda: place.webhooks.deliveries("wh_one", 9))
        pause_s = (failing.next_attempt_at - delivery.at).total_seconds()
        assert 3600 <= pause_s < 7200 + 60
        place.stop()
        place.deliver()
        place.book("ben")
        eventually(lambda: place.client[place.database].webhooks.find_one({"lease": {"$exists": True}}))
        assert len(receiver.received) == 1

    def test_an_end_while_it_is_served(self, place: Place, receiver: Receiver) -> None:
        """Nobody is told any more."""
        place.subscribe(receiver)
        deliverer = place.deliver()
        place.book("ada")
        eventually(lambda: receiver.told() == confirmed("ada"))
        place.webhooks.remove("wh_one")
        eventually(lambda: not deliverer._couriers)
        place.book("ben")
        eventually(lambda: deliverer.ends() == {EVENT: 3})
        assert len(receiver.received) == 1

    @pytest.mark.parametrize("event_id", [EVENT, None])
    def test_an_end_while_something_is_under_way(
        self, place: Place, make_receiver: MakeReceiver, event_id: str | None
    ) -> None:
        """Nothing of it comes back with the answer, also of an event that was opened later; made anew under the same
        id it is told of what comes then only."""
        first, second = make_receiver(), make_receiver()

        def end(received: Received) -> int:
            place.webhooks.remove("wh_one")
            return 200

        first.answer = end
        place.subscribe(first, event_id)
        told_of = event_id or "newer"
        if event_id is None:
            place.open("newer")
        deliverer = place.deliver()
        place.book("ada", event_id=told_of)
        eventually(lambda: first.told() == confirmed("ada"))
        eventually(lambda: not deliverer._couriers)
        assert place.left_of_webhooks() == []
        place.book("ben", event_id=told_of)
        place.subscribe(second, event_id)
        place.book("cleo", event_id=told_of)
        eventually(lambda: second.told() == [("order.waitlisted", "cleo")])
        assert len(first.received) == 1

    def test_one_that_is_made_anew_at_once(
        self, place: Place, make_receiver: MakeReceiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Under the same id, before the process that served it has noticed its end: the new one is served, not the
        old one under its name."""
        first, second, due, real = make_receiver(), make_receiver(), threading.Event(), Webhooks.lease

        def lease(webhooks: Webhooks, *args: Any) -> list[Subscription]:
            if due.is_set():
                place.webhooks.remove("wh_one")
                place.subscribe(second, secret=OTHER_SECRET)
                due.clear()
            return real(webhooks, *args)

        monkeypatch.setattr(Webhooks, "lease", lease)
        place.subscribe(first)
        deliverer = place.deliver()
        place.book("ada")
        eventually(lambda: first.told() == confirmed("ada"))
        eventually(lambda: place.webhooks.cursors("wh_one")[EVENT].version == 2)
        due.set()
        eventually(lambda: [each._subscription.url for each in deliverer._all_couriers()] == [second.url])
        place.book("ben")
        eventually(lambda: second.told() == [("order.waitlisted", "ben")])
        second.received[0].verify(OTHER_SECRET)
        assert len(first.received) == 1

    def test_a_replay_while_it_is_served(self, place: Place, receiver: Receiver) -> None:
        """The same notices again, under their ids, then on with the new ones."""
        place.open("other", 9)
        place.subscribe(receiver, event_id="other")
        place.deliver()
        place.book("ada", "ben", event_id="other")
        eventually(lambda: len(receiver.received) == 2)
        place.webhooks.replay("wh_one", "other", 1)
        eventually(lambda: len(receiver.received) == 4)
        place.book("cleo", event_id="other")
        eventually(lambda: len(receiver.received) == 5)
        assert [each.told[1] for each in receiver.received] == ["ada", "ben", "ada", "ben", "cleo"]
        ids = [each.message_id for each in receiver.received]
        assert ids[:2] == ids[2:4] and len(set(ids)) == 3

    def test_a_replay_after_an_erasure(self, place: Place, receiver: Receiver) -> None:
        """By the process that told the name before: it tells it no more."""
        place.subscribe(receiver)
        place.deliver()
        place.book("ada", "ben")
        eventually(lambda: len(receiver.received) == 2)
        eventually(lambda: place.webhooks.cursors("wh_one")[EVENT].version == 3)
        assert place.parts.erasure.erase("ada", "admin", SystemClock().monotonic() + 30)
        place.webhooks.replay("wh_one", EVENT, 1)
        eventually(lambda: len(receiver.received) == 4)
        assert [each.told[1] for each in receiver.received[:2]] == ["ada", "ben"]
        again, behind = (str(each.told[1]) for each in receiver.received[2:])
        assert again.startswith("erased:") and behind == "ben"


class TestStopping:
    def test_from_a_signal_handler(self, place: Place) -> None:
        """It waits for no lock: the thread that runs may hold any of them when the signal comes."""
        parts = place.new_parts()
        deliverer = Deliverer(parts.webhooks, parts.feed, SystemClock(), lambda: Sender(allow_private=True), FAST)
        # An Event has its lock inside.
        parts_of_it = [getattr(each, "_cond", each) for each in vars(deliverer).values()]
        locks = [each for each in parts_of_it if hasattr(each, "acquire")]
        assert locks

        def stop_as_a_handler_does() -> None:
            with ExitStack() as held:
                for lock in locks:
                    held.enter_context(lock)
                deliverer.stop()

        thread = threading.Thread(target=stop_as_a_handler_does, daemon=True)
        thread.start()
        thread.join(10.0)
        assert not thread.is_alive(), "stop waits for a lock that its own thread holds"
        deliverer.run()  # which ends at once

    def test_it_ends_a_pause(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever waits for the next round goes on at once."""
        monkeypatch.setattr(deliverer_module, "PAUSE_S", 3600.0)
        deliverer = place.deliver(Settings(lease_s=4 * 3600.0))
        eventually(lambda: deliverer.ends() == {EVENT: 1})
        place.stop()


class TestPauses:
    def test_they_double(self) -> None:
        """From the first one on, as long as they are not too long."""
        pauses = [pause_after(attempts, 5.0, luck=0.0) for attempts in range(1, 13)]
        assert pauses[:3] == [5.0, 10.0, 20.0]
        assert all(after == 2 * before for before, after in pairwise(pauses))

    @pytest.mark.parametrize("attempts", [13, 14, 100, 10_000])
    def test_they_end_at_four_hours(self, attempts: int) -> None:
        """However often it has failed."""
        assert pause_after(attempts, 5.0, luck=0.0) == 4 * 3600.0

    def test_each_is_shortened_by_up_to_a_half(self) -> None:
        """By chance, also the longest."""
        for attempts, longest_s in ((1, 5.0), (4, 40.0), (99, 4 * 3600.0)):
            assert [pause_after(attempts, 5.0, luck) / longest_s for luck in (0.0, 0.5, 1.0)] == [1.0, 0.75, 0.5]


class TestSharing:
    def test_two_deliver_nothing_twice(self, place: Place, make_receiver: MakeReceiver) -> None:
        """Each subscription has one who serves it; when one process stops, the other goes on at once."""
        receivers = {f"{number}": make_receiver() for number in range(6)}
        place.open("other", 999)
        for name, receiver in receivers.items():
            place.subscribe(receiver, event_id="other", name=name)
        first, _ = place.deliver(), place.deliver()
        users = [f"user-{number}" for number in range(15)]
        place.book(*users[:10], event_id="other")
        eventually(lambda: all(len(receiver.received) >= 10 for receiver in receivers.values()))
        first.stop()
        place.book(*users[10:], event_id="other")
        eventually(lambda: all(len(receiver.received) >= 15 for receiver in receivers.values()))
        for receiver in receivers.values():
            assert [each.told[1] for each in receiver.received] == users

    def test_a_lease_has_one_holder_until_it_expires(self, place: Place, receiver: Receiver) -> None:
        """Nobody else gets it meanwhile; then whoever asks first, and the first holder learns that it is lost."""
        place.subscribe(receiver)
        [mine] = place.webhooks.lease("me", 60.0, 1)
        assert mine.webhook_id == "wh_one"
        assert place.webhooks.lease("you", 60.0, 1) == []
        assert place.webhooks.lease("me", -1.0, 1) == [mine]
        assert place.webhooks.lease("you", 60.0, 1) == [mine]
        assert place.webhooks.lease("me", 60.0, 1) == []
        place.webhooks.release("you")
        assert place.webhooks.lease("me", 60.0, 0) == []
        assert place.webhooks.lease("me", 60.0, 1) == [mine]

    def test_kills(self, place: Place, receiver: Receiver, tmp_path: Path) -> None:
        """SIGKILL in the middle of a delivery: who takes over tells everything, in order, and repeats one at most."""
        killed: list[Received] = []

        def answer(received: Received) -> int:
            if len(receiver.received) in (3, 6) and len(killed) < len(receiver.received) // 3:
                killed.append(received)
                place.processes[-1].kill()
                place.start(tmp_path)
            return 200

        receiver.answer = answer
        place.open("other", 99)
        place.subscribe(receiver, event_id="other")
        users = [f"user-{number}" for number in range(10)]
        place.book(*users, event_id="other")
        place.start(tmp_path)
        eventually(lambda: receiver.received and receiver.received[-1].told[1] == users[-1])
        told = [each.told[1] for each in receiver.received]
        assert list(dict.fromkeys(told)) == users  # none is missing, and none comes before its turn
        places = [users.index(str(user)) for user in told]
        assert places == sorted(places)
        assert len(told) == 10 + len(killed) == 12
        metrics = httpx.get(f"http://127.0.0.1:{place.metrics_port}/metrics").text
        assert "\nticketing_webhooks_served 1.0\n" in metrics
        process = place.processes[-1]
        process.terminate()
        assert process.wait(30) == 0
        assert "Delivering." in (tmp_path / "output.txt").read_text()
        lease = place.client[place.database].webhooks.find_one({"_id": "wh_one"})
        assert lease is not None and "lease" not in lease
