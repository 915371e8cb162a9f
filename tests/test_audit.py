"""The audit: silent about every ledger that the rules can make, and naming each damage that one can have."""

from __future__ import annotations

import copy
import inspect
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import SON, Int64, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from tests.domain.rehearsal import Rehearsal, request
from tests.test_audit_of_orders import fair_played
from ticketing.audit import FINDINGS_OF_A_KIND_MAX, REFUSALS, EventReport, audit, audit_event
from ticketing.domain.fold import LedgerContradiction, fold
from ticketing.domain.model import EventState
from ticketing.domain.summary import summary_of
from ticketing.errors import Refusal
from ticketing.storage.documents import commit_document, transitions_of

Document = dict[str, Any]
Damage = Callable[[list[Document]], object]
NONCE = b"n" * 16
EVENT_ID = "concert"
USERS = ["ada", "bob", "cyd", "dan", "eve", "fay", "gus"]


def documents_of(play: Rehearsal, sizes: int = 1) -> list[Document]:
    """The ledger of a rehearsal, in commits of so many transitions."""
    parts = play.transitions
    return [
        commit_document(play.event_id, parts[first : first + sizes], NONCE)
        for first in range(0, len(parts), sizes)
    ]


def concert() -> Rehearsal:
    """Three tickets. Version 1 opens, 2 to 4 book, 5 to 8 wait, 9 cancels and promotes, the rest remember."""
    play = Rehearsal(3, EVENT_ID, max_tickets_per_order=3)
    for user_id in USERS:
        play.book(user_id, 2 if user_id == "eve" else 1, request=request(f"book {user_id}"))
    play.cancel("ada", request=request("cancel ada"))
    play.book("bob", request=request("book bob again"))
    play.cancel(order_id=order_id("ada"), request=request("cancel ada again"))
    return play


def order_id(user_id: str) -> str:
    """The id of a user's order in `concert`."""
    return f"{EVENT_ID}.{2 + USERS.index(user_id):022d}"


# The sound ledger.


@pytest.mark.parametrize("sizes", [1, 4, 11])
def test_a_sound_ledger_has_no_findings(sizes: int) -> None:
    """And its figures are those of the state, however it was cut into commits."""
    play = concert()
    assert audit_event(EVENT_ID, documents_of(play, sizes)) == EventReport(
        EVENT_ID,
        transitions=play.state.version,
        orders=len(play.state.orders),
        booked=play.state.booked_tickets,
        waiting=play.state.waiting_list_count,
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_random_history_has_no_findings(seed: int) -> None:
    """Two thousand commands of a few users, with and without keys, on small and larger events."""
    chance = random.Random(seed)
    play = Rehearsal(chance.choice([1, 4, 30]), EVENT_ID, max_tickets_per_order=chance.choice([1, 3, 10]))
    for number in range(2_000):
        user_id = f"user {chance.randint(1, 40)}"
        key = request(f"{number}") if chance.random() < 0.3 else None
        if chance.random() < 0.6:
            play.book(user_id, chance.randint(1, 5), request=key)
        else:
            play.cancel(user_id, request=key)
    report = audit_event(EVENT_ID, documents_of(play, 7))
    assert report.findings == []
    assert (report.booked, report.waiting) == (play.state.booked_tickets, play.state.waiting_list_count)
    assert (report.orders, report.transitions) == (len(play.state.orders), play.state.version)


# The damaged ledger. A damage is a function of the documents; with it, a part of the finding it must lead to.


def drop(version: int) -> Damage:
    """Take the document of a version away."""
    return lambda ledger: ledger.pop(version - 1)


def both(*damages: Damage) -> Damage:
    """One damage after the other."""
    return lambda ledger: [damage(ledger) for damage in damages]


def put(version: int, /, **fields: Any) -> Damage:
    """Set fields of a transition; None takes one away."""

    def damage(ledger: list[Document]) -> None:
        for name, value in fields.items():
            if value is None:
                del ledger[version - 1]["transitions"][0][name]
            else:
                ledger[version - 1]["transitions"][0][name] = value

    return damage


def put_order(version: int, index: int = 0, /, **fields: Any) -> Damage:
    """Set fields of an order of a transition; None takes one away."""

    def damage(ledger: list[Document]) -> None:
        order = ledger[version - 1]["transitions"][0]["orders"][index]
        order.update(fields)
        for name in [name for name, value in fields.items() if value is None]:
            del order[name]

    return damage


def put_frame(version: int, /, **fields: Any) -> Damage:
    """Set fields of a document."""
    return lambda ledger: ledger[version - 1].update(fields)


def put_orders(version: int, *orders: Any) -> Damage:
    """Set all orders of a transition."""
    return put(version, orders=list(orders))


def event(**fields: Any) -> Document:
    """The fields of the event, some of them changed."""
    return {"name": "Concert", "total_tickets": 3, "max_tickets_per_order": 3, **fields}


def insert_copy(version: int, at: int) -> Damage:
    """The document of a version once more, behind that of version `at`, under an id of its own."""

    def damage(ledger: list[Document]) -> None:
        ledger.insert(at, {**copy.deepcopy(ledger[version - 1]), "_id": f"{EVENT_ID}:{at:012d}-again"})

    return damage


def swap(version: int) -> Damage:
    """What the transitions of two versions did, exchanged; their numbers stay."""

    def damage(ledger: list[Document]) -> None:
        one, other = ledger[version - 1]["transitions"][0], ledger[version]["transitions"][0]
        for name in ("type", "orders"):
            one[name], other[name] = other[name], one[name]

    return damage


CANCEL_ADA = {"order_id": order_id("ada"), "status": "cancelled"}
PROMOTE = {name: {"order_id": order_id(name), "status": "confirmed"} for name in ("dan", "eve", "fay")}

DAMAGES: list[tuple[str, Damage, str]] = [
    # Commits.
    (
        "a document removed",
        drop(6),
        "version 7 in document 'concert:0{11}7': follows 5: version 6 is missing",
    ),
    ("the beginning removed", drop(1), "version 2 in document .*: follows 0: version 1 is missing"),
    ("several removed", both(drop(5), drop(5), drop(5), drop(5)), "follows 4: versions 5 to 8 are missing"),
    ("a document doubled", insert_copy(6, at=6), "version 6 .*-again': follows 6: it is doubled"),
    (
        "a document moved",
        put_frame(6, _id="concert:000000000060"),
        "begins with 6, which its _id does not say",
    ),
    ("an id without padding", put_frame(6, _id="concert:6"), "document 'concert:6': begins with 6"),
    ("another event's document", put_frame(6, event_id="opera"), "names the event 'opera'"),
    ("a wrong first", put_frame(6, first=7), "begins with 7, which its _id does not say"),
    ("a first that is no number", put_frame(6, first="6"), "begins with '6'"),
    ("a wrong last", put_frame(6, last=7), "ends with 7, which its 1 transitions do not"),
    ("a last that is a fraction", put_frame(6, last=6.0), "ends with 6.0, which its 1 transitions do not"),
    ("a last that is a truth", put_frame(1, last=True), "ends with True, which its 1 transitions do not"),
    ("a field of another name", put_frame(6, checksun=b"sums"), "has what no reader looks at: .'checksun'"),
    ("a part of another name", put(6, requesu={}), "has what no reader looks at: .'requesu'"),
    ("sales of another kind", put(6, sales="none"), "says that sales are 'none'"),
    ("no nonce", put_frame(6, nonce=None), "has no nonce of 16 bytes"),
    ("a short nonce", put_frame(6, nonce=b"n"), "has no nonce of 16 bytes"),
    ("no transitions", put_frame(6, transitions=[]), "document 'concert:000000000006': holds no transitions"),
    ("transitions that are none", put_frame(6, transitions={"a": 1}), "holds no transitions"),
    (
        "a transition that is none",
        put_frame(6, transitions=["text"]),
        "holds 'text' in the place of a transition",
    ),
    # Transitions.
    ("a wrong version", put(6, version=60), "follows 5: versions 6 to 59 are missing"),
    (
        "a version that is no number",
        put(6, version="6"),
        "version '6' in document .*: is not numbered, expected 6",
    ),
    ("a version that is a bool", put(1, version=True), "is not numbered, expected 1"),
    ("no version", put(6, version=None), "version None in document .*: is not numbered"),
    ("an unknown type", put(6, type="exploded"), "is of the unknown type 'exploded'"),
    ("a type that is no text", put(6, type=["booked"]), "is of the unknown type"),
    ("no type", put(6, type=None), "is of the unknown type None"),
    ("no time", put(6, at=None), "has no time"),
    ("a time in words", put(6, at="noon"), "has no time"),
    ("a caller that is no name", put(9, by=5), "was carried out by nobody that has a name"),
    ("orders that are none", put(6, orders=5), "has orders that are none"),
    ("an order that is none", put_orders(6, "text"), "has orders that are none"),
    ("an order without an id", put_order(6, order_id=None), "has orders that are none"),
    # Keys.
    (
        "a key used twice",
        put(6, request={"key": request("book ada").key, "fingerprint": b"f" * 16}),
        "version 6 in .*: has the Idempotency-Key of version 2 again",
    ),
    ("a request that is none", put(6, request="text"), "has a request without key and fingerprint"),
    (
        "a key that is no bytes",
        put(6, request={"key": "k", "fingerprint": b"f"}),
        "without key and fingerprint",
    ),
    ("a request without a fingerprint", put(6, request={"key": b"k"}), "without key and fingerprint"),
    # The event.
    ("an event opened twice", put(5, type="initialized", event=event()), "initializes the event again"),
    (
        "a booking before the event",
        put(1, type="booked", event=None),
        "version 1 in .*: comes before the event is initialized",
    ),
    ("an event without total", put(1, event={"name": "E"}), "opens an event without name, total_tickets"),
    ("an event that is none", put(1, event=5), "opens an event without name"),
    ("an event of no tickets", put(1, event=event(total_tickets=0)), "opens an event without name"),
    ("an event with orders", put(1, orders=[PROMOTE["dan"]]), "opens an event with orders in it"),
    ("a booking that changes the event", put(3, event=event()), "version 3 in .*: changes the event"),
    (
        "fewer tickets than were sold",
        put(1, event=event(total_tickets=2)),
        "oversold: 3 of 2 tickets are booked",
    ),
    # Orders and tickets.
    (
        "a quantity changed",
        put_order(2, quantity=2),
        "version 4 in .*: confirms the order .* of 1 tickets with 0 free",
    ),
    ("oversold", put_order(4, quantity=2), "version 4 in .*: oversold: 4 of 3 tickets are booked"),
    ("a quantity over the maximum", put_order(5, quantity=4), "of 4 tickets, more than allowed"),
    ("a quantity of nothing", put_order(5, quantity=0), "does not hold one new order that is waiting"),
    (
        "a quantity that is no number",
        put_order(5, quantity="1"),
        "does not hold one new order that is waiting",
    ),
    (
        "a user that is no text",
        put_order(5, user_id={"$ne": ""}),
        "does not hold one new order that is waiting",
    ),
    ("an order without a user", put_order(5, user_id=None), "does not hold one new order that is waiting"),
    ("a booking without an order", put_orders(2), "does not hold one new order that is confirmed"),
    ("a status that is none", put_order(5, status={"a": []}), "does not hold one new order that is waiting"),
    (
        "an order of another event",
        put_order(5, order_id="opera.0"),
        "makes the order 'opera.0', whose id is none",
    ),
    (
        "an order made twice",
        put_order(5, order_id=order_id("ada")),
        "version 5 in .*: makes the order .* again",
    ),
    ("a second active order", put_order(5, user_id="ada"), "gives 'ada' a second active order"),
    (
        "an order nobody made",
        put_order(9, order_id="concert.x"),
        "changes the order 'concert.x', which there is not",
    ),
    (
        "a cancelled order that is cancelled",
        put(10, type="cancelled", orders=[CANCEL_ADA], refusal=None),
        "version 10 in .*: makes the order .*, which is cancelled, 'cancelled'",
    ),
    (
        "a cancelled order that comes back",
        put_orders(9, CANCEL_ADA, {**CANCEL_ADA, "status": "confirmed"}),
        "which is cancelled, 'confirmed'",
    ),
    ("a cancellation that cancels nobody", put_orders(9, PROMOTE["dan"]), "cancels no order"),
    (
        "a cancellation that changes a user",
        put_order(9, user_id="zoe"),
        "changes more of the order .* than its status",
    ),
    ("a refusal that acts", put(5, refusal={"code": "no", "details": {}}), "is a refusal, and acts"),
    # Fairness.
    (
        "an order that overtakes",
        both(put(6, type="booked"), put_order(6, status="confirmed")),
        "version 6 in .*: lets the order .* overtake 1 who wait",
    ),
    (
        "a booking that waits for nothing",
        both(put(3, type="waitlisted"), put_order(3, status="waiting")),
        "version 3 in .*: lets the order .* wait, though nobody waits and it fits",
    ),
    (
        "nobody promoted",
        put_orders(9, CANCEL_ADA),
        "version 9 in .*: leaves 'concert.*5' waiting for 1 tickets, first",
    ),
    (
        "somebody skipped",
        put_orders(9, CANCEL_ADA, PROMOTE["fay"]),
        "promotes the order .*7' before 'concert.*5'",
    ),
    ("too many promoted", put_orders(9, CANCEL_ADA, PROMOTE["dan"], PROMOTE["eve"]), "which does not fit"),
    ("a promotion to nowhere", put_order(9, 1, status="lost"), "promotes the order .* to 'lost'"),
    (
        "a promotion to a list",
        put_order(9, 1, status=["confirmed"]),
        "promotes the order .* to \\['confirmed'\\]",
    ),
    ("two versions exchanged", swap(4), "version 4 in .*: lets the order .* wait, though nobody waits"),
    # What is remembered.
    ("remembered without a key", put(10, request=None), "remembers an answer without a key"),
    ("remembered nothing", put(10, refusal=None), "remembers neither one refusal nor one order"),
    ("a refusal that is none", put(10, refusal=5), "remembers a refusal that is none"),
    ("a refusal without a code", put(10, refusal={"details": {}}), "remembers a refusal that is none"),
    (
        "a refusal of an unknown kind",
        put(10, refusal={"code": "no", "details": {}}),
        "remembers a refusal that is none",
    ),
    (
        "a refusal without its details",
        put(10, refusal={"code": "already_booked", "details": {}}),
        "remembers a refusal that is none",
    ),
    (
        "a refusal with wrong details",
        put(10, refusal={"code": "exceeds_total_tickets", "details": {"maximum": "3"}}),
        "remembers a refusal that is none",
    ),
    ("an active order remembered", put_order(11, order_id=order_id("bob")), "which was not cancelled"),
    ("an unknown order remembered", put_order(11, order_id="concert.x"), "which was not cancelled"),
    ("remembered and changed", put_order(11, status="confirmed"), "remembers, and changes the order"),
]


@pytest.mark.parametrize(
    ("damage", "finding"), [part[1:] for part in DAMAGES], ids=[part[0] for part in DAMAGES]
)
def test_a_damage_is_named(damage: Damage, finding: str) -> None:
    """With the version and the document that it stands in."""
    ledger = documents_of(concert())
    damage(ledger)
    report = audit_event(EVENT_ID, ledger)
    assert any_match(finding, report.findings), report.findings


def any_match(pattern: str, findings: list[str]) -> bool:
    """Whether one of the findings is it."""
    return any(re.search(pattern, finding) for finding in findings)


def test_after_a_hole_only_numbers_and_keys_are_judged() -> None:
    """One finding for one missing document: what it did to the others is anybody's guess."""
    ledger = documents_of(concert())
    drop(9)(ledger)
    report = audit_event(EVENT_ID, ledger)
    assert len(report.findings) == 1
    assert report.findings[0].endswith("follows 8: version 9 is missing; what follows cannot be judged")
    put(10, request={"key": request("book ada").key, "fingerprint": b"f" * 16})(ledger)
    assert any_match("Idempotency-Key of version 2 again", audit_event(EVENT_ID, ledger).findings)


def test_a_ledger_that_is_wrong_all_over_is_not_quoted_for_ever() -> None:
    """The first findings of each kind in full, the others counted, and none hides behind another kind."""
    play = Rehearsal(500, EVENT_ID)
    for number in range(300):
        play.book(f"user {number}")
    ledger = documents_of(play)
    for document in ledger:
        document["nonce"] = None
    put_order(300, quantity=300)(ledger)
    report = audit_event(EVENT_ID, ledger)
    assert [finding for finding in report.findings if "no nonce" not in finding]
    assert sum("no nonce" in finding for finding in report.findings) == FINDINGS_OF_A_KIND_MAX
    assert report.findings_left_out == 301 - FINDINGS_OF_A_KIND_MAX


def test_the_findings_of_an_event_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many kinds there are."""
    monkeypatch.setattr("ticketing.audit.FINDINGS_MAX", 2)
    ledger = documents_of(concert())
    put_frame(1, nonce=None, first=5, last=7)(ledger)
    report = audit_event(EVENT_ID, ledger)
    assert (len(report.findings), report.findings_left_out) == (2, 1)


NAMES = st.sampled_from(["order_id", "key", "name", "quantity"])
STORIES = [documents_of(play, sizes) for play in (concert(), fair_played()) for sizes in (1, 4)]
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 14),
        st.sampled_from([10**18, float("nan"), Int64(7), ObjectId(b"0" * 12), SON(), datetime.now(UTC)]),
        st.sampled_from(["booked", "waitlisted", "cancelled", "initialized", "remembered"]),
        st.sampled_from(["bulk_booked", "transferred", "updated", "promoted", "seat", "25.00", "EUR"]),
        st.sampled_from(["confirmed", "waiting", "cancelled"]),
        st.sampled_from(
            [order_id("ada"), order_id("eve"), "ada", "eve", EVENT_ID, f"{EVENT_ID}:000000000005"]
        ),
        st.binary(max_size=17),
        st.text(max_size=3),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in a document, however deep."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.integers(1, 3), st.sampled_from(STORIES))
def test_whatever_a_document_holds_it_is_no_exception(
    data: st.DataObject, times: int, story: list[Document]
) -> None:
    """Fields taken away or replaced by anything at all.

    To the service it is a ledger or a contradiction. And what is called sound is sound to it as well, and leads it to
    the same figures.
    """
    ledger, event_id = copy.deepcopy(story), story[0]["event_id"]
    for _ in range(times):
        container, key = data.draw(st.sampled_from([place for doc in ledger for place in places(doc)]))
        if data.draw(st.booleans()):
            container[key] = data.draw(ANYTHING)
        else:
            del container[key]
        if not ledger:
            return
    report = audit_event(event_id, ledger)
    state = folded(event_id, ledger)
    if not report.findings:
        assert state is not None
        assert (report.transitions, report.orders) == (state.version, len(state.orders))
        assert (report.booked, report.waiting) == (state.booked_tickets, state.waiting_list_count)


def folded(event_id: str, ledger: list[Document]) -> EventState | None:
    """What the service makes of a ledger; None where it says that it is damaged."""
    state = EventState(event_id)
    for document in ledger:
        try:
            transitions = transitions_of(document["transitions"])
        except (AttributeError, KeyError, TypeError, ValueError):  # as storage/ledger.py takes it
            return None
        try:
            state = fold(state, transitions)
        except LedgerContradiction:
            return None
    return state


def test_the_audit_knows_every_refusal() -> None:
    """A new refusal must be added to its table: code, and the details that it is made from. Those that are not final
    are never remembered."""
    assert REFUSALS == {
        refusal.code: set(inspect.signature(refusal).parameters)
        for refusal in Refusal.__subclasses__()
        if refusal.is_final
    }


# In the database.


def store(database: Database[Document], *plays: Rehearsal, sizes: int = 2) -> None:
    """Write the ledgers of rehearsals."""
    for play in plays:
        database["ledger"].insert_many(documents_of(play, sizes))


def test_every_event_gets_a_report(database: Database[Document]) -> None:
    """In the order of their ids, and ids that are alike are kept apart."""
    plays = [Rehearsal(total, event_id) for total, event_id in enumerate(["a", "a-b", "A", "a_", "b"], 1)]
    for play in plays:
        play.book("ada")
        play.book("bob")
    store(database, *plays)
    reports = {report.event_id: report for report in audit(database)}
    assert set(reports) == {play.event_id for play in plays}
    for play in plays:
        assert reports[play.event_id].findings == []
        assert reports[play.event_id].booked == play.state.booked_tickets
        assert list(audit(database, play.event_id)) == [reports[play.event_id]]
    assert list(audit(database, "c")) == []


def test_documents_that_belong_to_no_event_are_found(database: Database[Document]) -> None:
    """Whatever their `_id` is, next to sound ledgers."""
    store(database, concert())
    database["ledger"].insert_many([{"_id": 5}, {"_id": "text"}, {"_id": {"a": 1}}, {"transitions": [{}]}])
    reports = list(audit(database))
    assert len(reports) == 5
    assert [report.event_id for report in reports if not report.findings] == [EVENT_ID]


def test_what_python_cannot_hold_is_found(database: Database[Document]) -> None:
    """A time beyond the year 9999 and a text that is no UTF-8 do not end the reading."""
    (document,) = documents_of(Rehearsal(1, EVENT_ID), 1)
    document["transitions"][0]["by"] = "admin"
    raw = bytearray(bson.encode(document))
    at = raw.index(b"\x09at\x00") + 4
    raw[at : at + 8] = (2**62).to_bytes(8, "little")
    by = raw.index(b"\x02by\x00") + 8
    raw[by] = 0xFF
    options: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
    database["ledger"].with_options(codec_options=options).insert_one(RawBSONDocument(bytes(raw)))
    (report,) = audit(database)
    assert any_match("has no time", report.findings)


# The summaries: what each commit says of the event after it.


def summarized(play: Rehearsal, sizes: int = 1) -> list[Document]:
    """The ledger of a rehearsal in commits of so many transitions, with summaries, as the service writes it."""
    state, documents = EventState(play.event_id), []
    for first in range(0, len(play.transitions), sizes):
        commit = play.transitions[first : first + sizes]
        state = fold(state, commit)
        documents.append(commit_document(play.event_id, commit, NONCE, summary_of(state)))
    return documents


@pytest.mark.parametrize("sizes", [1, 4, 11])
def test_right_summaries_are_no_findings(sizes: int) -> None:
    """Nor is it one when some commits have none, as earlier versions wrote them."""
    documents = summarized(concert(), sizes)
    assert audit_event(EVENT_ID, documents).findings == []
    del documents[0]["after"]
    assert audit_event(EVENT_ID, documents).findings == []


@pytest.mark.parametrize(
    "wrong", [{"booked": 2}, {"available": 1}, {"waiting": 4}, {"updated_at": datetime(2027, 1, 1, tzinfo=UTC)}]
)
def test_a_summary_that_does_not_hold_is_a_finding(wrong: Document) -> None:
    """Whichever of its numbers it is; the rest of the ledger is judged as ever."""
    documents = summarized(concert())
    documents[-1]["after"] |= wrong
    (finding,) = audit_event(EVENT_ID, documents).findings
    assert finding.startswith("document 'concert:000000000011': says {") and "of the event after it" in finding


@pytest.mark.parametrize("kind", [float, bool])
def test_a_summary_of_another_type_is_a_finding(kind: type) -> None:
    """Though Python takes it for the same number."""
    documents = summarized(concert())
    document = next(each for each in documents if each["after"]["waiting"] == 1)
    document["after"]["waiting"] = kind(1)
    assert len(audit_event(EVENT_ID, documents).findings) == 1


@pytest.mark.parametrize("nonsense", [None, {}, [], "text", 3, {"booked": "three"}])
def test_a_summary_that_is_none_is_a_finding(nonsense: Any) -> None:
    """Whatever stands in its place."""
    documents = summarized(concert())
    documents[2]["after"] = nonsense
    assert len(audit_event(EVENT_ID, documents).findings) == 1
