"""`flask --app wsgi events …` on a real mongod."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from pymongo.database import Database

from ticketing.cli import events as commands

from .damage import garbled
from .test_cli import app_on, concert, run, store

FESTIVAL = ("--type", "meadow:3:45.00:EUR", "--type", "tree:1")


@pytest.fixture
def app(database: Database[dict[str, Any]]) -> Flask:
    return app_on(database)


def init(app: Flask, event_id: str, *options: str, name: str = "Concert") -> Any:
    """`events init`."""
    return run(app, "events", "init", event_id, "--name", name, *options)


def shown(app: Flask, event_id: str) -> Any:
    """What `events show --json` tells."""
    result = run(app, "events", "show", event_id, "--json")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_an_event_is_opened(app: Flask) -> None:
    """With tickets of one type, free or at a price; its ledger is sound, and nobody is its organizer."""
    result = init(app, "opera", "--tickets", "1", "--price", "12.5", "--currency", "EUR")
    assert (result.exit_code, result.stdout) == (0, "opera is open: 1 ticket.\n")
    (only,) = shown(app, "opera")["ticket_types"]
    assert (only["total_tickets"], only["price"], only["currency"]) == (1, "12.50", "EUR")
    assert json.loads(init(app, "free", "--tickets", "2", "--json").stdout) == shown(app, "free")
    assert run(app, "ledger", "verify").exit_code == 0
    ledger = app.extensions["ticketing"].database["ledger"]
    assert all("by" not in each for commit in ledger.find() for each in commit["transitions"])


def test_an_event_with_ticket_types_is_opened(app: Flask) -> None:
    """As many as there are, each with or without a price."""
    assert init(app, "festival", *FESTIVAL).stdout == "festival is open: 4 tickets.\n"
    types = shown(app, "festival")["ticket_types"]
    found = [(each["code"], each["total_tickets"], each["price"], each["currency"]) for each in types]
    assert found == [("meadow", 3, "45.00", "EUR"), ("tree", 1, "0.00", None)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tickets", "1"], "The event 'opera' exists already.\n"),
        ([], "total_tickets: Missing data for required field.\n"),
        (["--tickets", "0"], "total_tickets: Must be greater than or equal to 1 and less than or equal to"),
        (["--tickets", "1", *FESTIVAL], "total_tickets: Not beside ticket_types"),
        (["--tickets", "1", "--price", "5"], "price: Needs a currency.\n"),
        (["--type", "a b:1"], "ticket_types.0.code: "),
        (["--type", "a:many"], "Error: Invalid value for --type: 'a:many' is not CODE:TICKETS[:PRICE:CURRENCY].\n"),
        (["--type", "a:1:5"], "Error: Invalid value for --type: 'a:1:5' is not"),
    ],
)
def test_what_is_not_opened(app: Flask, options: list[str], sentence: str) -> None:
    """It is said what is wrong, exit status 2; the event that is there stays as it is."""
    init(app, "opera", "--tickets", "3")
    result = init(app, "opera", *options, name="Another")
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert shown(app, "opera")["name"] == "Concert"


def test_an_event_is_shown(app: Flask, database: Database[dict[str, Any]]) -> None:
    """A field a line, without those that are empty; then the ticket types."""
    store(database, concert("opera"))
    lines = run(app, "events", "show", "opera").stdout.splitlines()
    assert lines[:3] == ["event_id: opera", "name: Concert", "status: sold_out"]
    assert {"total_tickets: 3", "waiting_list_count: 1", "version: 7"} <= set(lines)
    assert not [line for line in lines if line.startswith("venue")]
    assert lines[-1] == (
        "ticket type general: General admission, free, 3 total, 0 available, 3 booked, 0 held, 1 waiting"
    )
    assert shown(app, "opera")["waiting_list_count"] == 1


@pytest.mark.parametrize("event_id", ["nowhere", "no id"])
def test_an_event_that_is_not_there(app: Flask, event_id: str) -> None:
    """One sentence, exit status 2."""
    result = run(app, "events", "show", event_id)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"There is no event {event_id!r}.\n"


def test_the_list(app: Flask, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, with and without a summary in the ledger; by status, by text, and no more than are wanted."""
    monkeypatch.setattr(commands, "PAGE_SIZE", 2)
    store(database, concert("concert-2027"), concert("opera"))
    for number in range(3):
        init(app, f"play-{number}", "--tickets", "1", name="A play")
    lines = run(app, "events", "list").stdout.splitlines()
    assert lines[0] == "concert-2027: Concert, sold_out, 0 of 3 tickets available, 1 waiting"
    assert lines[2:] == [f"play-{number}: A play, on_sale, 1 of 1 ticket available, 0 waiting" for number in range(3)]

    def ids(*options: str) -> list[str]:
        result = run(app, "events", "list", "--json", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        return [json.loads(line)["event_id"] for line in result.stdout.splitlines()]

    assert ids("--status", "sold_out") == ["concert-2027", "opera"]
    assert ids("--q", "PLAY", "--limit", "2") == ["play-0", "play-1"]
    assert ids("--status", "ended") == []
    assert run(app, "events", "list", "--q", "").stderr.startswith("q: ")


def test_a_damaged_event_is_named(app: Flask, database: Database[dict[str, Any]]) -> None:
    """The others are listed, exit status 1; to show it is to fail."""
    store(database, concert("concert-2027"), concert("opera"))
    garbled(4)(database["ledger"], "opera")
    result = run(app, "events", "list")
    assert result.exit_code == 1
    assert result.stdout == "concert-2027: Concert, sold_out, 0 of 3 tickets available, 1 waiting\n"
    assert result.stderr == "left out, for its ledger is damaged: opera\n"
    result = run(app, "events", "show", "opera")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("The ledger of event 'opera' is damaged")


@pytest.mark.parametrize("field", ["after.available", "event_id"])
def test_a_commit_that_says_what_none_says(app: Flask, database: Database[dict[str, Any]], field: str) -> None:
    """The others are listed; the event is named where it is known that there is one."""
    for event_id in ("opera", "play"):
        init(app, event_id, "--tickets", "1")
    database["ledger"].update_one({"event_id": "opera"}, {"$set": {field: 5.5}})
    result = run(app_on(database), "events", "list")
    assert result.stdout == "play: Concert, on_sale, 1 of 1 ticket available, 0 waiting\n"
    left_out = "" if field == "event_id" else "left out, for its ledger is damaged: opera\n"
    assert (result.stderr, result.exit_code) == (left_out, 1 if left_out else 0)
