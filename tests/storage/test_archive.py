"""Export and import on a real mongod: exact, without holes while bookings go on, and nothing is ever overwritten."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, json_util
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, BulkWriteError

from tests.concurrency.stage import booking, cancellation, opening
from tests.damage import exact, garbled, removed
from tests.domain.rehearsal import Rehearsal, request
from ticketing.audit import audit
from ticketing.clock import SystemClock
from ticketing.manager import TicketManager
from ticketing.storage import archive
from ticketing.storage.archive import Imported, ImportRefused, export_lines, import_lines
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import Ledger, ledger_collection
from ticketing.storage.schema import create_indexes_and_views

from .test_ledger import Commands

Document = dict[str, Any]
NONCE = b"n" * 16


@pytest.fixture
def ledger(database: Database[Document]) -> Collection[Document]:
    """Where is exported."""
    return ledger_collection(database)


@pytest.fixture
def elsewhere(database: Database[Document]) -> Iterator[Collection[Document]]:
    """Where is imported: another database."""
    other = database.client[f"{database.name}_elsewhere"]
    yield ledger_collection(other)
    database.client.drop_database(other)


def history(event_id: str, people: int = 8, prefix: str = "user") -> Rehearsal:
    """Five tickets, more people than that, some of whom cancel; half of the requests have keys."""
    play = Rehearsal(5, event_id)
    for number in range(people):
        key = request(f"{event_id} {prefix} {number}") if number % 2 else None
        play.book(f"{prefix} {number}", request=key)
        if number % 3 == 0:
            play.cancel(f"{prefix} {number}")
    return play


def documents_of(play: Rehearsal, size: int = 2) -> list[Document]:
    """Its commits, of so many transitions each."""
    parts = play.transitions
    return [commit_document(play.event_id, parts[n : n + size], NONCE) for n in range(0, len(parts), size)]


def exported(ledger: Collection[Document], event_id: str | None = None) -> list[bytes]:
    """The lines of an export from which nothing was left out."""
    lines = []
    for line in export_lines(ledger, event_id):
        assert line.text is not None, line.commit_id
        lines.append(line.text.encode() + b"\n")
    return lines


def as_lines(documents: list[Document]) -> list[bytes]:
    """Documents as an export writes them."""
    return [json_util.dumps(document, json_options=json_util.CANONICAL_JSON_OPTIONS).encode() for document in documents]


# Out and in again.


def test_what_comes_back_is_the_same_to_the_byte(
    ledger: Collection[Document], elsewhere: Collection[Document]
) -> None:
    """All events, in commits of one and of many transitions, over several batches."""
    for event_id, size in (("a", 1), ("a-b", 3), ("A", 100)):
        ledger.insert_many(documents_of(history(event_id), size))
    lines = exported(ledger)
    assert import_lines(elsewhere, lines) == Imported(len(lines), 0)
    assert exact(elsewhere) == exact(ledger)


ODD_VALUES: list[Any] = [
    *(0, -1, 2**31 - 1, 2**31, Int64(3), 2**63 - 1, 0.0, -0.0, 1.5, 1e300, float("inf"), Decimal128("1.10")),
    *("", "“Ünïcode” 🎫", "\x00\x1f\u2028", '"\\', b"", b"\x00\xff", Binary(b"x", 5), Binary(b"u" * 16, 4)),
    *(DatetimeMS(0), DatetimeMS(-1), DatetimeMS(2**62), DatetimeMS(-(2**62)), ObjectId(b"o" * 12)),
    *(None, True, [], {}, [1, [2, {"a": []}]], {"b": 1, "a": 2}, bson.MinKey(), bson.Timestamp(1, 2)),
    *(bson.Regex("a", "i"), bson.Code("f()"), bson.Code("f()", {"a": 1})),
]


def test_every_type_comes_back_as_it_was(
    ledger: Collection[Document], elsewhere: Collection[Document]
) -> None:
    """What somebody repaired by hand may hold other types of numbers, and a date may be any."""
    (document,) = documents_of(Rehearsal(1, "concert"))
    ledger.insert_one({**document, "odd": ODD_VALUES, "first": Int64(1)})
    assert import_lines(elsewhere, exported(ledger)) == Imported(1, 0)
    assert exact(elsewhere) == exact(ledger)


def test_one_event_can_be_exported_alone(ledger: Collection[Document], elsewhere: Collection[Document]) -> None:
    """However alike the ids are."""
    for event_id in ("a", "a-b", "A", "ab"):
        ledger.insert_many(documents_of(history(event_id)))
    import_lines(elsewhere, exported(ledger, "a"))
    assert elsewhere.distinct("event_id") == ["a"]
    assert exact(elsewhere) == [raw for raw in exact(ledger) if bson.decode(raw)["event_id"] == "a"]


@pytest.mark.parametrize("damage", ["not decodable", "a field twice"])
def test_what_json_cannot_hold_is_left_out_and_named(ledger: Collection[Document], damage: str) -> None:
    """All other commits are there: nothing is altered in silence, and one bad commit does not cost the backup."""
    ledger.insert_many(documents_of(Rehearsal(1, "concert")) + documents_of(Rehearsal(1, "opera")))
    if damage == "not decodable":
        garbled(1)(ledger, "concert")
    else:
        ledger.delete_one({"event_id": "concert"})
        raw = bson.encode({"_id": "concert:000000000001", "last": 1, "lasu": 2}).replace(b"lasu", b"last")
        ledger.insert_one(RawBSONDocument(raw))
    lines = list(export_lines(ledger))
    assert [(line.commit_id, line.text is None) for line in lines] == [
        ("concert:000000000001", True),
        ("opera:000000000001", False),
    ]


# While bookings go on.


class Growing:
    """An event that grows by a commit with each line that an export takes. Keys are in no order, like digests."""

    def __init__(self, ledger: Collection[Document]) -> None:
        self._ledger = ledger
        self._play = Rehearsal(3, "concert")
        self._written = 0
        for _ in range(30):
            self.grow()

    def grow(self) -> None:
        """Book once more."""
        number = self._play.commands
        self._play.book(f"user {number}", request=request(f"{number * 7919 % 1000:03d}"))
        parts = self._play.transitions[self._written :]
        self._written += len(parts)
        self._ledger.insert_one(commit_document("concert", parts, NONCE))


def versions(documents: list[Document]) -> list[int]:
    """The first version of each commit."""
    return sorted(document["first"] for document in documents)


def test_an_export_has_no_hole_though_its_event_grows_under_it(
    ledger: Collection[Document], elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was there at its beginning, more of what came meanwhile, and nothing missing in between."""
    create_indexes_and_views(ledger.database)
    growing = Growing(ledger)
    small_batches(monkeypatch)
    lines = []
    for line in export_lines(ledger):
        assert line.text is not None
        lines.append(line.text.encode())
        if len(lines) < 100:
            growing.grow()
    assert len(lines) >= 100, "the export did not follow the growth: nothing was tried"
    import_lines(elsewhere, lines)
    (report,) = audit(elsewhere.database)
    assert report.findings == []


def test_in_another_order_there_would_be_holes(ledger: Collection[Document]) -> None:
    """The negative control: the same growth, read along another index, steps over what came behind it."""
    create_indexes_and_views(ledger.database)
    growing = Growing(ledger)
    found = []
    with ledger.find({"transitions.request.key": {"$gt": b""}}, batch_size=2).hint("request_key") as documents:
        for document in documents:
            found.append(document)
            if len(found) < 100:
                growing.grow()
    read = versions(found)
    assert read != list(range(read[0], read[-1] + 1))


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two documents at a time come from the server, as if they were large."""
    find = Collection.find

    def find_few(self: Collection[Document], *args: Any, **options: Any) -> Any:
        return find(self, *args, **{"batch_size": 2, **options})

    monkeypatch.setattr(Collection, "find", find_few)


def test_an_export_under_load_is_sound_and_has_all_that_was_answered(
    mongod: str, database: Database[Document], ledger: Collection[Document], elsewhere: Collection[Document]
) -> None:
    """Two workers book and cancel on two events; whatever was answered before an export began is in it."""
    clock = SystemClock()
    managers = [TicketManager(Ledger(ledger, clock), clock) for _ in range(2)]
    for event_id in ("concert", "opera"):
        managers[0].execute(opening(event_id, total_tickets=40))
    answered = {"concert": 1, "opera": 1}  # the newest version that somebody was told
    stop = threading.Event()

    def work(number: int) -> None:
        event_id, manager = ("concert", "opera")[number % 2], managers[number // 2 % 2]
        for count in range(1_000_000):
            if stop.is_set():
                return
            user_id = f"user {number} {count}"
            order = manager.execute(booking(user_id, event_id, request(f"{number} {count}"))).order
            if count % 2:
                order = manager.execute(cancellation(user_id, event_id)).order
            assert order is not None
            answered[event_id] = max(answered[event_id], order.version)

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, number) for number in range(8)]
        try:
            exports: list[tuple[dict[str, int], Any, dict[str, int]]] = []
            give_up_s = time.monotonic() + 60
            while len(exports) < 5 or not any(before != after for before, _, after in exports):
                assert time.monotonic() < give_up_s, "nobody booked during an export"
                told = dict(answered)
                exports.append((told, exported(ledger), dict(answered)))
        finally:
            stop.set()
        assert all(each.result() is None for each in working)
    for told, lines, _ in exports:
        elsewhere.delete_many({})
        import_lines(elsewhere, lines)
        reports = {report.event_id: report for report in audit(elsewhere.database)}
        assert [report.findings for report in reports.values()] == [[], []]
        assert all(reports[event_id].transitions >= version for event_id, version in told.items())


# What an import refuses, and what it leaves alone.


SOUND = as_lines(documents_of(history("concert")))
NOTHING_IN_IT = b'{"_id": "e:000000000001", "event_id": "e", "first": 1, "last": 0, "transitions": []}'


def altered(line: bytes, old: bytes, new: bytes) -> bytes:
    """A line with one thing changed."""
    assert old in line
    return line.replace(old, new, 1)


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "a line that was cut off": (SOUND[3][:-20], "is no Extended JSON document"),
    "an empty line": (b"", "is no Extended JSON document"),
    "not UTF-8": (b'{"_id": "\xff"}', "is no Extended JSON document"),
    "compressed": (b"\x1f\x8b\x08\x00", "is no Extended JSON document"),
    "a number": (b"5", "is no Extended JSON document"),
    "a list": (b"[]", "is no Extended JSON document"),
    "deeply nested": (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "is no Extended JSON document"),
    "a number beyond all": (b'{"a": 1' + b"0" * 30 + b"}", "is no Extended JSON document"),
    "a date that is none": (b'{"a": {"$date": "yesterday"}}', "is no Extended JSON document"),
    "a binary that is none": (b'{"a": {"$binary": 5}}', "is no Extended JSON document"),
    "an id that is none": (b'{"a": {"$oid": "5"}}', "is no Extended JSON document"),
    "no commit": (b"{}", "is no commit of a ledger"),
    "an order": (b'{"_id": "concert.x", "event_id": "concert"}', "is no commit of a ledger"),
    "transitions that are none": (b'{"event_id": "e", "first": 1, "last": 1, "transitions": 5}', "is no commit"),
    "of no length": (NOTHING_IN_IT, "is no commit of a ledger"),
    "under another place": (altered(SOUND[3], b"0007", b"0008"), "is no commit of a ledger"),
    "of another event": (altered(SOUND[3], b'"event_id": "concert"', b'"event_id": "opera"'), "is no commit"),
    "without its last transition": (altered(SOUND[3], b'{"$numberInt": "8"}', b'{"$numberInt": "9"}'), "is no commit"),
    "too large": (altered(SOUND[3], b'"last"', b'"x": "' + b"x" * 2**24 + b'", "last"'), "is no commit of a ledger"),
    "the one after the next": (SOUND[4], "what comes before 'concert:000000000009' is missing"),
    "one that came already": (SOUND[2], "what comes before 'concert:000000000005' is missing"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_line_that_is_wrong_is_named_and_ends_the_import(elsewhere: Collection[Document], name: str) -> None:
    """Nothing of it and of what follows is written."""
    bad, finding = BAD_LINES[name]
    with pytest.raises(ImportRefused, match=f"line 4:? {finding}"):
        import_lines(elsewhere, [*SOUND[:3], bad, *SOUND[4:]])
    assert exact(elsewhere) == []


def test_an_import_may_be_run_again_after_an_interruption(
    elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is left alone, and what is missing is written."""
    monkeypatch.setattr(archive, "BATCH_BYTES", 1)

    def breaking_off() -> Iterator[bytes]:
        yield from SOUND[:5]
        raise AutoReconnect

    with pytest.raises(AutoReconnect):
        import_lines(elsewhere, breaking_off())
    assert elsewhere.count_documents({}) == 5
    assert import_lines(elsewhere, SOUND) == Imported(len(SOUND) - 5, 5)
    assert import_lines(elsewhere, SOUND + SOUND) == Imported(0, 2 * len(SOUND))
    (report,) = audit(elsewhere.database)
    assert report.findings == []


def test_an_import_writes_while_it_reads(elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is in the database before the next batch is read: of the largest backup, one is in memory."""
    monkeypatch.setattr(archive, "BATCH_BYTES", 1)

    def watched() -> Iterator[bytes]:
        for number, line in enumerate(SOUND):
            assert elsewhere.count_documents({}) == number
            yield line

    assert len(SOUND) > 5
    assert import_lines(elsewhere, watched()) == Imported(len(SOUND), 0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_another_history_of_an_event_is_left_as_it_is(elsewhere: Collection[Document], size: int) -> None:
    """However it was cut into commits, and wherever the two part: not one commit gets mixed into it."""
    other = history("concert", people=6, prefix="another")
    elsewhere.insert_many(documents_of(other, size))
    before = exact(elsewhere)
    with pytest.raises(ImportRefused, match="line 1: the ledger has another commit 'concert:000000000001'"):
        import_lines(elsewhere, as_lines(documents_of(history("concert", people=12))))
    assert exact(elsewhere) == before


def test_a_history_that_went_on_otherwise_is_left_as_it_is(
    elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same beginning, and then each went on for itself: the import ends where they part."""
    monkeypatch.setattr(archive, "BATCH_BYTES", 1)
    here, there = history("concert"), history("concert")
    here.book("zoe")
    there.cancel("user 1")
    length = len(documents_of(history("concert"), 1))
    elsewhere.insert_many(documents_of(there, 1))
    before = exact(elsewhere)
    lines = as_lines(documents_of(here, 1))
    with pytest.raises(ImportRefused, match=f"line {length + 1}: the ledger has another commit"):
        import_lines(elsewhere, lines)
    assert exact(elsewhere) == before


def test_other_events_are_left_alone(elsewhere: Collection[Document]) -> None:
    """A single event can be brought back into a database that has others."""
    elsewhere.insert_many(documents_of(history("opera")))
    before = exact(elsewhere)
    import_lines(elsewhere, SOUND)
    assert set(before) < set(exact(elsewhere))
    assert [report.findings for report in audit(elsewhere.database)] == [[], []]


def test_a_hole_can_be_filled_from_a_backup(elsewhere: Collection[Document]) -> None:
    """A commit that was removed comes back, the others are found to be the same."""
    import_lines(elsewhere, SOUND)
    before = exact(elsewhere)
    removed(5)(elsewhere, "concert")
    assert import_lines(elsewhere, SOUND) == Imported(1, len(SOUND) - 1)
    assert exact(elsewhere) == before


def test_somebody_who_books_during_an_import_is_not_overwritten(
    elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place was free when the import looked, and is taken when it writes."""
    play = history("concert")
    look = archive._missing

    def look_and_lose(ledger: Collection[Document], batch: list[Any]) -> list[Any]:
        missing = look(ledger, batch)
        elsewhere.insert_one(commit_document("concert", play.transitions[2:3], b"another commit.."))
        return missing

    monkeypatch.setattr(archive, "_missing", look_and_lose)
    with pytest.raises(ImportRefused, match="line 3: somebody else .* took 'concert:000000000003'"):
        import_lines(elsewhere, as_lines(documents_of(play, 1)))
    assert [document["nonce"] for document in elsewhere.find().sort("_id")] == [NONCE, NONCE, b"another commit.."]


def test_a_server_that_does_not_take_a_commit_is_no_rival(elsewhere: Collection[Document]) -> None:
    """Another reason than a place that is taken reaches the caller as it is."""
    elsewhere.database.create_collection(elsewhere.name, validator={"last": {"$lt": 4}})
    with pytest.raises(BulkWriteError, match="failed validation"):
        import_lines(elsewhere, SOUND)


def test_the_promised_concerns_reach_the_server(mongod: str, database: Database[Document]) -> None:
    """Durable writes, and majority reads along `_id`, though the URI asks for less."""
    commands = Commands()
    careless = "&w=1&journal=false&readConcernLevel=local&readPreference=nearest"
    with MongoClient[Document](mongod + careless, event_listeners=[commands]) as client:
        ledger = ledger_collection(client[database.name])
        import_lines(ledger, SOUND)
        exported(ledger)
    written, found = commands.sent["insert"], commands.sent["find"]
    assert (written["writeConcern"]["w"], written["writeConcern"]["j"]) == ("majority", True)
    assert (found["readConcern"]["level"], found["hint"]) == ("majority", "_id_")
