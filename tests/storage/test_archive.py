"""Export and import on a real mongod: exact, without holes while bookings go on, and nothing is ever overwritten."""

from __future__ import annotations

import re
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
from tests.damage import Damage, changed, described, doubled, exact, garbled, removed, with_new_checksums
from tests.domain.rehearsal import Rehearsal, request
from ticketing.audit import audit
from ticketing.clock import SystemClock
from ticketing.domain.commands import Pseudonymize
from ticketing.manager import TicketManager
from ticketing.storage import archive
from ticketing.storage.archive import Imported, export_lines, import_lines, names_again
from ticketing.storage.checksums import with_checksum
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import Ledger, ledger_collection
from ticketing.storage.names import Names
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
    commits = (commit_document(play.event_id, parts[n : n + size], NONCE) for n in range(0, len(parts), size))
    return [with_checksum(commit) for commit in commits]


def exported(ledger: Collection[Document], event_id: str | None = None) -> list[bytes]:
    """The lines of an export that found nothing."""
    lines = []
    for line in export_lines(ledger, event_id):
        assert line.finding is None, line.finding
        lines.append(line.text.encode() + b"\n")
    return lines


def refusals(ledger: Collection[Document], lines: list[bytes], imported: Imported) -> list[str]:
    """Import lines, with that result. What is said of the events that were left out."""
    found: list[str] = []
    assert import_lines(ledger, lines, found.append) == imported._replace(left_out=len(found))
    return found


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
    ledger.insert_one(with_checksum({**document, "odd": ODD_VALUES, "first": Int64(1)}))
    for imported in (Imported(1, 0), Imported(0, 1)):
        assert import_lines(elsewhere, exported(ledger)) == imported
        assert exact(elsewhere) == exact(ledger)


def test_one_event_can_be_exported_alone(ledger: Collection[Document], elsewhere: Collection[Document]) -> None:
    """However alike the ids are."""
    for event_id in ("a", "a-b", "A", "ab"):
        ledger.insert_many(documents_of(history(event_id)))
    import_lines(elsewhere, exported(ledger, "a"))
    assert elsewhere.distinct("event_id") == ["a"]
    assert exact(elsewhere) == [raw for raw in exact(ledger) if bson.decode(raw)["event_id"] == "a"]


@pytest.mark.parametrize("damage", ["not decodable", "a field twice"])
def test_what_json_cannot_hold_is_named_in_its_place(ledger: Collection[Document], damage: str) -> None:
    """All other commits are there: nothing is altered in silence, and one bad commit does not cost the backup."""
    ledger.insert_many(documents_of(Rehearsal(1, "concert")) + documents_of(Rehearsal(1, "opera")))
    if damage == "not decodable":
        garbled(1)(ledger, "concert")
    else:
        ledger.delete_one({"event_id": "concert"})
        raw = bson.encode({"_id": "concert:000000000001", "last": 1, "lasu": 2}).replace(b"lasu", b"last")
        ledger.insert_one(RawBSONDocument(raw))
    finding = "'concert:000000000001' is not what JSON can hold: its line has its _id alone"
    damaged, sound = export_lines(ledger)
    assert damaged == (finding, '{"_id": "concert:000000000001"}')
    assert (sound.finding, len(sound.text) > 100) == (None, True)


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
OTHERS = as_lines(documents_of(history("alpha"))), as_lines(documents_of(history("zeta")))
OF_NO_EVENT = ("no commit", "transitions that are none")  # are named apart, and leave a hole
NOTHING_IN_IT = b'{"_id": "concert:000000000007", "event_id": "concert", "first": 7, "last": 6, "transitions": []}'


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
    "transitions that are none": (b'{"event_id": "e", "first": 1, "last": 1, "transitions": 5}', "is no commit"),
    "of no length": (NOTHING_IN_IT, "is no commit of a ledger"),
    "under another place": (altered(SOUND[3], b"0007", b"0008"), "is no commit of a ledger"),
    "of another event": (altered(SOUND[3], b'"event_id": "concert"', b'"event_id": "opera"'), "is no commit"),
    "without its last transition": (altered(SOUND[3], b'{"$numberInt": "8"}', b'{"$numberInt": "9"}'), "is no commit"),
    "too large": (altered(SOUND[3], b'"last"', b'"x": "' + b"x" * 2**24 + b'", "last"'), "is no commit of a ledger"),
    "the one after the next": (SOUND[4], "what comes before 'concert:000000000009' is missing"),
    "one that came already": (SOUND[2], "'concert:000000000005' comes out of turn"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_line_that_is_wrong_leaves_its_event_out(elsewhere: Collection[Document], name: str) -> None:
    """It is named, and nothing of the event is written, neither before the line nor behind it. The others come in."""
    bad, finding = BAD_LINES[name]
    lines = [*OTHERS[0], *SOUND[:3], bad, *SOUND[4:], *OTHERS[1]]
    found = refusals(elsewhere, lines, Imported(written=len(OTHERS[0] + OTHERS[1])))
    number = len(OTHERS[0]) + 4
    if name in OF_NO_EVENT:
        assert re.match(f"line {number}: None {finding}", found.pop(0))
        number, finding = number + 1, "what comes before 'concert:000000000009' is missing"
    (refusal,) = found
    assert re.match(f"event 'concert': line {number}:? .*{finding}", refusal)
    assert elsewhere.distinct("event_id") == ["alpha", "zeta"]


def test_what_is_no_document_counts_for_the_event_before_it(elsewhere: Collection[Document]) -> None:
    """It may have been its last commit. A line that stands before all events is named alone."""
    lines = [b"gibberish", *OTHERS[0], *SOUND, b"gibberish", *OTHERS[1]]
    assert refusals(elsewhere, lines, Imported(written=len(OTHERS[0] + OTHERS[1]))) == [
        "line 1 is no Extended JSON document",
        f"event 'concert': line {len(lines) - len(OTHERS[1])} is no Extended JSON document",
    ]


@pytest.mark.parametrize("batch_bytes", [1, 1_000, 1_000_000])
def test_a_large_event_waits_in_a_file_until_it_is_known_to_be_sound(
    elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch, batch_bytes: int
) -> None:
    """However large it is: nothing of it is written when its last line is damaged, all of it when none is."""
    monkeypatch.setattr(archive, "BATCH_BYTES", batch_bytes)
    monkeypatch.setattr(archive, "SPOOL_BYTES_IN_MEMORY", 10)
    lines = as_lines(documents_of(history("concert", people=200)))
    others = OTHERS[0] + OTHERS[1]
    assert len(refusals(elsewhere, [*OTHERS[0], *lines[:-1], b"{", *OTHERS[1]], Imported(len(others)))) == 1
    assert elsewhere.distinct("event_id") == ["alpha", "zeta"]
    assert refusals(elsewhere, [*OTHERS[0], *lines, *OTHERS[1]], Imported(len(lines), len(others))) == []
    assert [report.findings for report in audit(elsewhere.database)] == [[], [], []]


# What is damaged, out and in again.

OVERLAPPING: Document = with_checksum(commit_document("concert", history("concert").transitions[9:11], NONCE))
"""A commit of versions 10 and 11, in the place of version 10, where 11 has a commit of its own."""
DAMAGES: dict[str, tuple[Damage, list[str]]] = {
    "removed": (removed(4), ["what comes before 'concert:000000000005' is missing"]),
    "without its beginning": (removed(1), ["what comes before 'concert:000000000002' is missing"]),
    "of another event": (described(4, event_id="opera"), ["'concert:000000000004' is no commit of a ledger"]),
    "doubled": (doubled(4, under=17), ["'concert:000000000017' is no commit of a ledger"]),
    "doubled in the middle": (
        lambda ledger, event_id: (removed(6)(ledger, event_id), doubled(4, under=6)(ledger, event_id)),
        ["'concert:000000000006' is no commit of a ledger"],
    ),
    "overlapping": (
        lambda ledger, event_id: ledger.insert_one(OVERLAPPING),
        ["'concert:000000000011' comes out of turn"],
    ),
    "of no length that memory could hold": (
        described(4, last=Int64(2**62)),
        ["'concert:000000000004' is no commit of a ledger"],
    ),
    "another name": (
        changed(4, orders__0__user_id="zoe"),
        ["'concert:000000000004' is not what was written: its checksum is another"],
    ),
    "another summary": (
        described(4, nonce=b"m" * 16),
        ["'concert:000000000004' is not what was written: its checksum is another"],
    ),
    "a checksum that is none": (
        described(4, checksum="sound"),
        ["'concert:000000000004' is not what was written: its checksum is another"],
    ),
    "a field behind the checksum": (
        described(4, more=1),
        ["'concert:000000000004' is not what was written: its checksum is another"],
    ),
    "many": (
        lambda ledger, event_id: [each(ledger, event_id) for each in (removed(3), described(5, last=7), removed(9))],
        [
            "what comes before 'concert:000000000004' is missing",
            "'concert:000000000005' is no commit of a ledger",
            "what comes before 'concert:000000000010' is missing",
        ],
    ),
    "not decodable": (
        garbled(4),
        ["'concert:000000000004' is not what JSON can hold: its line has its _id alone"],
    ),
    "not decodable at its end": (
        garbled(12),
        ["'concert:000000000012' is not what JSON can hold: its line has its _id alone"],
    ),
}
EVENTS = ("alpha", "concert", "zeta")


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_by_an_export_and_left_out_by_an_import(
    ledger: Collection[Document], elsewhere: Collection[Document], name: str
) -> None:
    """All that JSON can hold is written as it is. An import takes all other events, and nothing of the damaged one."""
    for event_id in EVENTS:
        ledger.insert_many(documents_of(history(event_id), 1))
    damage, findings = DAMAGES[name]
    if name == "overlapping":
        removed(10)(ledger, "concert")
    damage(ledger, "concert")
    lines = list(export_lines(ledger))
    assert [line.finding for line in lines if line.finding] == findings
    texts = [line.text.encode() for line in lines]
    assert len(texts) == ledger.count_documents({})
    sound = {event_id: exact(ledger, event_id) for event_id in ("alpha", "zeta")}
    for written in (len(sound["alpha"] + sound["zeta"]), 0):  # a repeat changes nothing
        imported = Imported(written, len(sound["alpha"] + sound["zeta"]) - written)
        (refusal,) = refusals(elsewhere, texts, imported)
        assert refusal.startswith("event 'concert': line ")
        assert name.startswith("not decodable") or refusal.endswith(findings[0])
        assert exact(elsewhere) == sound["alpha"] + sound["zeta"]


def test_what_no_event_has_is_damage_of_its_own(
    ledger: Collection[Document], elsewhere: Collection[Document]
) -> None:
    """A document whose `_id` names none costs no event its place in a backup."""
    ledger.insert_many(documents_of(history("zeta")))
    sound = exact(ledger)
    ledger.insert_many([{"_id": 5}, {"_id": "order"}, {"_id": ObjectId(b"o" * 12)}])
    lines = list(export_lines(ledger))
    findings = [line.finding for line in lines if line.finding]
    assert findings == [f"{each!r} is no commit of a ledger" for each in (5, "order", ObjectId(b"o" * 12))]
    texts = [line.text.encode() for line in lines]
    assert len(refusals(elsewhere, texts, Imported(len(sound)))) == 3
    assert exact(elsewhere) == sound


def test_commits_without_a_checksum_are_judged_by_what_they_say(
    ledger: Collection[Document], elsewhere: Collection[Document]
) -> None:
    """Earlier versions wrote none."""
    for document in documents_of(history("concert")):
        del document["checksum"]
        ledger.insert_one(document)
    import_lines(elsewhere, exported(ledger))
    assert exact(elsewhere) == exact(ledger)


def test_what_one_backup_lacks_may_be_in_another(ledger: Collection[Document], elsewhere: Collection[Document]) -> None:
    """Lines of two put together, each commit once, make a whole event."""
    ledger.insert_many(documents_of(history("concert"), 1))
    whole = exact(ledger)
    older = exported(ledger)[:6]
    removed(4)(ledger, "concert")
    newer = [line.text.encode() + b"\n" for line in export_lines(ledger)]
    assert refusals(elsewhere, sorted({*older, *newer}), Imported(len(whole))) == []
    assert exact(elsewhere) == whole


# What an import leaves alone.


def test_an_import_may_be_run_again_after_an_interruption(
    elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two events, or between two batches of one: what was written is left alone, and the rest is written."""
    lines = [*OTHERS[0], *SOUND]
    real_insert = Collection.insert_many
    calls = iter(range(100))

    def insert(*args: Any) -> Any:
        if next(calls) == len(OTHERS[0]) + 5:
            raise AutoReconnect
        return real_insert(*args)

    with monkeypatch.context() as patch:
        patch.setattr(archive, "BATCH_BYTES", 1)
        patch.setattr(Collection, "insert_many", insert)
        with pytest.raises(AutoReconnect):
            import_lines(elsewhere, lines)
    there = len(OTHERS[0]) + 5
    assert elsewhere.count_documents({}) == there
    assert refusals(elsewhere, lines, Imported(len(lines) - there, there)) == []
    assert refusals(elsewhere, SOUND + SOUND, Imported(0, 2 * len(SOUND))) == []
    assert [report.findings for report in audit(elsewhere.database)] == [[], []]


def test_the_same_export_twice_in_a_row_is_one(elsewhere: Collection[Document]) -> None:
    """Also where nothing of it was there before."""
    assert refusals(elsewhere, SOUND + SOUND, Imported(len(SOUND), len(SOUND))) == []


def test_two_first_commits_of_an_event(elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two histories that stand together nothing gets in, whatever is written at once."""
    monkeypatch.setattr(archive, "BATCH_BYTES", 1)
    first, another = (as_lines(documents_of(history("concert", people=6, prefix=prefix))) for prefix in ("a", "b"))
    finding = f"event 'concert': line {len(first) + 1}: 'concert:000000000001' comes twice"
    assert refusals(elsewhere, [*first, *another], Imported(left_out=1)) == [finding]
    assert elsewhere.count_documents({}) == 0


def test_an_import_writes_while_it_reads(elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    """An event is in the database when its lines are a batch, and the next event begins."""
    monkeypatch.setattr(archive, "BATCH_BYTES", 1)
    backup = [as_lines(documents_of(history(event_id))) for event_id in EVENTS]

    def watched() -> Iterator[bytes]:
        written = 0
        for lines in backup:
            yield lines[0]
            assert elsewhere.count_documents({}) == written
            yield from lines[1:]
            written += len(lines)

    assert import_lines(elsewhere, watched()) == Imported(sum(map(len, backup)))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_another_history_of_an_event_is_left_as_it_is(elsewhere: Collection[Document], size: int) -> None:
    """However it was cut into commits, and wherever the two part: not one commit gets mixed into it."""
    other = history("concert", people=6, prefix="another")
    elsewhere.insert_many(documents_of(other, size))
    before = exact(elsewhere)
    lines = [*OTHERS[0], *as_lines(documents_of(history("concert", people=12))), *OTHERS[1]]
    finding = "event 'concert': the ledger has another commit 'concert:000000000001'"
    assert refusals(elsewhere, lines, Imported(len(OTHERS[0] + OTHERS[1]))) == [finding]
    assert exact(elsewhere, "concert") == before


def test_a_history_that_went_on_otherwise_is_left_as_it_is(
    elsewhere: Collection[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same beginning, and then each went on for itself. What the ledger lacks of the beginning is not filled."""
    monkeypatch.setattr(archive, "BATCH_BYTES", 1)
    here, there = history("concert"), history("concert")
    here.book("zoe")
    there.cancel("user 1")
    length = len(documents_of(history("concert"), 1))
    elsewhere.insert_many(documents_of(there, 1))
    removed(5)(elsewhere, "concert")
    before = exact(elsewhere)
    (refusal,) = refusals(elsewhere, as_lines(documents_of(here, 1)), Imported())
    assert refusal == f"event 'concert': the ledger has another commit 'concert:{length + 1:012d}'"
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
    """The place was free when the import looked, and is taken when it writes. What comes behind it is not written."""
    play = history("concert")
    real_insert = Collection.insert_many

    def insert_late(self: Collection[Document], documents: Any) -> Any:
        monkeypatch.setattr(Collection, "insert_many", real_insert)
        elsewhere.insert_one(commit_document("concert", play.transitions[2:3], b"another commit.."))
        return self.insert_many(documents)

    monkeypatch.setattr(Collection, "insert_many", insert_late)
    lines = [*OTHERS[0], *as_lines(documents_of(play, 1)), *OTHERS[1]]
    assert refusals(elsewhere, lines, Imported(len(OTHERS[0] + OTHERS[1]) + 2)) == [
        "event 'concert': somebody else writes to this ledger and took 'concert:000000000003'"
    ]
    nonces = [document["nonce"] for document in elsewhere.find({"event_id": "concert"}).sort("_id")]
    assert nonces == [NONCE, NONCE, b"another commit.."]
    assert elsewhere.distinct("event_id") == ["alpha", "concert", "zeta"]


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


# Where users were erased since the backup.


ADA, ERASED = "user 0", "erased:1"


def erase(ledger: Collection[Document], play: Rehearsal, user_id: str = ADA, pseudonym: str = ERASED) -> None:
    """As the service does it: a transition gives the orders to the pseudonym, then the name is replaced."""
    play.play(Pseudonymize(event_id=play.event_id, by="admin", user_id=user_id, pseudonym=pseudonym))
    parts = play.transitions[-1:]
    ledger.insert_one(with_checksum(commit_document(play.event_id, parts, NONCE)))
    replace_name(ledger, play.event_id, parts[0].version, user_id, pseudonym)


def replace_name(ledger: Collection[Document], event_id: str, version: int, user_id: str, pseudonym: str) -> None:
    """Put the pseudonym in the place of a name."""
    clock = SystemClock()
    Names(ledger, clock).replace(event_id, version, user_id, pseudonym, clock.monotonic() + 10)


def names_in(commit: Document) -> set[str]:
    """Whom a commit names."""
    parts = commit["transitions"]
    changes = [change for part in parts for change in part.get("orders", ())]
    return {part.get("by") for part in parts} | {change.get("user_id") for change in changes}


def told(ledger: Collection[Document]) -> list[str]:
    """The names that were erased and are there again."""
    found: list[str] = []
    documents = list(ledger.find().sort("_id"))
    assert list(names_again(documents, found.append)) == documents
    return found


@pytest.mark.parametrize("has_checksums", [True, False])
@pytest.mark.parametrize("lost", range(1, 14))
def test_what_is_missing_is_filled_though_a_name_was_erased_since(
    elsewhere: Collection[Document], lost: int, has_checksums: bool
) -> None:
    """Whichever commit it is. Nothing that is there is overwritten, and a name that comes back with it is told."""
    play = history("concert")
    play.book(ADA)  # once more
    backup = documents_of(play, 1)
    if not has_checksums:
        backup = [{name: value for name, value in each.items() if name != "checksum"} for each in backup]
    elsewhere.insert_many(backup)
    erase(elsewhere, play)
    before = exact(elsewhere)
    assert told(elsewhere) == []
    removed(lost)(elsewhere, "concert")
    has_name = ADA in names_in(backup[lost - 1])
    differ = sum(ADA in names_in(each) for each in backup) - has_name
    assert differ + has_name == 2
    lines = as_lines(backup)
    assert refusals(elsewhere, lines, Imported(1, len(backup) - 1, differ)) == []
    assert exact(elsewhere)[: lost - 1] == before[: lost - 1] and exact(elsewhere)[lost:] == before[lost:]
    assert told(elsewhere) == [f"event 'concert' names {ADA!r}, who was erased"] * has_name
    (report,) = audit(elsewhere.database)
    assert report.findings == []
    replace_name(elsewhere, "concert", len(play.transitions), ADA, "erased:2")
    assert told(elsewhere) == [] and not [each for each in elsewhere.find() if ADA in names_in(each)]
    (report,) = audit(elsewhere.database)
    assert report.findings == []
    assert refusals(elsewhere, lines, Imported(0, len(backup), differ + has_name)) == []


@pytest.mark.parametrize("field", ["event_id", "type"])
def test_what_cannot_be_decoded_is_another_commit(elsewhere: Collection[Document], field: str) -> None:
    """Whoever repairs a ledger has to remove it first."""
    elsewhere.insert_many(documents_of(history("concert"), 1))
    garbled(5, field)(elsewhere, "concert")
    before = exact(elsewhere)
    finding = "event 'concert': the ledger has another commit 'concert:000000000005'"
    assert refusals(elsewhere, as_lines(documents_of(history("concert"), 1)), Imported()) == [finding]
    assert exact(elsewhere) == before


@pytest.mark.parametrize("renewed", [True, False], ids=["new checksum", "old checksum"])
@pytest.mark.parametrize("damage", ["another name", "a name in lower case", "a pseudonym and another price"])
def test_another_name_than_a_pseudonym_is_another_commit(
    elsewhere: Collection[Document], damage: str, renewed: bool
) -> None:
    """So is a pseudonym that no erasure has written, for its checksum does not say so."""
    play = history("concert")
    elsewhere.insert_many(documents_of(play, 1))
    fields: Document = {
        "another name": {"orders__0__user_id": "user 7"},
        "a name in lower case": {"by": "eraser"},
        "a pseudonym and another price": {"orders__0__user_id": ERASED, "orders__0__unit_price": "1.00"},
    }[damage]
    changed(5, **fields)(elsewhere, "concert")
    if renewed:
        with_new_checksums(elsewhere, "concert")
    before = exact(elsewhere)
    finding = "event 'concert': the ledger has another commit 'concert:000000000005'"
    assert refusals(elsewhere, as_lines(documents_of(play, 1)), Imported()) == [finding]
    assert exact(elsewhere) == before


def test_a_pseudonym_with_a_wrong_checksum_is_another_commit(elsewhere: Collection[Document]) -> None:
    """An erasure writes a new one."""
    elsewhere.insert_many(documents_of(history("concert"), 1))
    changed(2, orders__0__user_id=ERASED)(elsewhere, "concert")
    assert len(refusals(elsewhere, as_lines(documents_of(history("concert"), 1)), Imported())) == 1
    elsewhere.update_one({"first": 2}, {"$unset": {"checksum": 1}})
    assert len(refusals(elsewhere, as_lines(documents_of(history("concert"), 1)), Imported())) == 1


def test_a_name_in_its_organizers_place_is_told_too(elsewhere: Collection[Document]) -> None:
    """Who opened an event and was erased stands in its first transition."""
    play = history("concert")
    elsewhere.insert_many(documents_of(play, 1))
    backup = exported(elsewhere)
    erase(elsewhere, play, "admin", "erased:admin")
    assert told(elsewhere) == []
    removed(1)(elsewhere, "concert")
    assert refusals(elsewhere, backup, Imported(1, len(backup) - 1, 3)) == []
    assert told(elsewhere) == ["event 'concert' names 'admin', who was erased"]


def test_who_has_the_name_after_an_erasure_is_not_told(elsewhere: Collection[Document]) -> None:
    """It is somebody else's then. What cannot be read is passed by."""
    play = history("concert")
    elsewhere.insert_many(documents_of(play, 1))
    erase(elsewhere, play)
    play.book(ADA)
    elsewhere.insert_one(documents_of(play, 1)[-1])
    elsewhere.insert_many(documents_of(history("opera")))
    changed(3, orders="none")(elsewhere, "concert")
    assert told(elsewhere) == []
