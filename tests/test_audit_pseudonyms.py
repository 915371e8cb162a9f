"""The audit of a ledger in which a user was erased: silent while and after it, naming what else would change names."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.domain.rehearsal import Rehearsal
from ticketing.audit import audit_event
from ticketing.domain.commands import Pseudonymize
from ticketing.storage.documents import commit_document

Document = dict[str, Any]
EVENT_ID = "concert"
PSEUDONYM = "erased:0"


def ledger(name: str = "ada") -> list[Document]:
    """Two tickets. Ada books (2) and cancels (4), waits (5), is erased (6), and is promoted (7) by a cancellation."""
    play = Rehearsal(2, EVENT_ID)
    play.book("ada")
    play.book("ben", 2)
    play.cancel("ada")
    play.book("ada")
    play.play(Pseudonymize(event_id=EVENT_ID, by=PSEUDONYM, user_id=name, pseudonym=PSEUDONYM))
    play.cancel(order_id=order_id(3))
    return [commit_document(EVENT_ID, [each], b"n" * 16) for each in play.transitions]


def replace_name(document: Document, name: str) -> None:
    """As storage/names.py does it."""
    for transition in document["transitions"]:
        if transition.get("by") == name:
            transition["by"] = PSEUDONYM
        for change in transition.get("orders", []):
            if change.get("user_id") == name:
                change["user_id"] = PSEUDONYM


@pytest.mark.parametrize("name", ["ada", "ben", "admin"])
def test_no_findings_while_the_name_is_replaced(name: str) -> None:
    """Before the first commit is changed, between any two, and after the last."""
    documents = ledger(name)
    for document in documents:
        report = audit_event(EVENT_ID, copy.deepcopy(documents))
        assert (report.findings, report.orders, report.transitions) == ([], 3, 7)
        replace_name(document, name)
    assert audit_event(EVENT_ID, documents).findings == []
    assert name not in repr(documents)


def test_no_findings_where_commits_have_pseudonyms_of_their_own() -> None:
    """So they do when they come back from a backup, one after the other, and the name is erased again each time."""
    documents = ledger()
    for version in (2, 5):
        documents[version - 1]["transitions"][0]["orders"][0]["user_id"] = f"erased:{version}"
        assert audit_event(EVENT_ID, documents).findings == []


def order_id(number: int) -> str:
    """The id of the order that a command made, by the command's number."""
    return f"{EVENT_ID}.{number:022d}"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"event": {"organizer": PSEUDONYM, "total_tickets": 9}}, "changes more of the event than its organizer"),
        ({"event": "text"}, "changes more of the event than its organizer"),
        ({"orders": []}, "gives nothing to a pseudonym"),
        ({"orders": [{"order_id": "concert.x", "user_id": PSEUDONYM}]}, "gives the order 'concert.x' to"),
        ({"orders": [{"order_id": order_id(2), "user_id": 5}]}, "gives the order"),
        ({"orders": [{"order_id": order_id(2)}]}, "gives the order"),
        (
            {"orders": [{"order_id": order_id(2), "user_id": PSEUDONYM, "status": "confirmed"}]},
            "changes more of the order",
        ),
        (
            {"orders": [{"order_id": order_id(number), "user_id": PSEUDONYM} for number in (2, 3)]},
            "gives orders of 2 users away",
        ),
        (
            {"orders": [{"order_id": order_id(number), "user_id": PSEUDONYM} for number in (3, 5)]},
            "gives 'erased:0' a second active order",
        ),
        ({"orders": [{"order_id": order_id(2), "user_id": "ben"}]}, "to more than one pseudonym, or to none"),
        ({"event": {"organizer": "ben"}}, "to more than one pseudonym, or to none"),
        ({"event": {"organizer": 5}}, "to more than one pseudonym, or to none"),
        ({"event": {"organizer": "erased:1"}}, "to more than one pseudonym, or to none"),
        (
            {"orders": [{"order_id": order_id(n), "user_id": f"erased:{n}"} for n in (2, 5)]},
            "to more than one pseudonym, or to none",
        ),
        ({"type": "booked"}, "does not hold one new order"),
    ],
)
def test_what_is_no_erasure_is_named(change: Document, finding: str) -> None:
    """A pseudonymized transition that does more, less or something else."""
    documents = ledger()
    documents[5]["transitions"][0].update(change)
    assert any(finding in each for each in audit_event(EVENT_ID, documents).findings)


def test_a_name_that_is_changed_otherwise_is_named() -> None:
    """The control: in one commit alone, the ledger is not what it was decided on any more."""
    documents = ledger("ben")
    documents[4]["transitions"][0]["orders"][0]["user_id"] = "ben"
    assert audit_event(EVENT_ID, documents).findings
