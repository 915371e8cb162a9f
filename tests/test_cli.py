"""The operator's commands, run as `flask` runs them, on a real mongod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from click.testing import Result
from flask import Flask
from pymongo import MongoClient
from pymongo.database import Database

from tests.domain.rehearsal import Rehearsal
from ticketing.cli import register_cli
from ticketing.config import Config
from ticketing.manager import TicketManager
from ticketing.services import EXTENSION, Services
from ticketing.storage.documents import commit_document

Document = dict[str, Any]


def app_on(database: Database[Document]) -> Flask:
    """An app that has nothing but the commands."""
    app = Flask(__name__)
    app.extensions[EXTENSION] = Services(Config(), database, cast(TicketManager, None))
    register_cli(app)
    return app


@pytest.fixture
def app(database: Database[Document]) -> Flask:
    return app_on(database)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """An app whose MongoDB is not there."""
    monkeypatch.setattr("ticketing.cli.PING_DEADLINE_S", 0.05)
    with MongoClient[Document]("mongodb://ada:secret@127.0.0.1:1/") as client:
        yield app_on(client["ticketing"])


def run(app: Flask, *arguments: str) -> Result:
    """What `flask --app wsgi …` does."""
    return app.test_cli_runner().invoke(args=arguments)


def store(database: Database[Document], *plays: Rehearsal) -> None:
    """Write ledgers, a commit a transition."""
    for play in plays:
        database["ledger"].insert_many(
            [commit_document(play.event_id, [part], b"n" * 16) for part in play.transitions]
        )


def concert(event_id: str) -> Rehearsal:
    """Three tickets, five people, the first of whom cancels."""
    play = Rehearsal(3, event_id)
    for user_id in ("ada", "bob", "cyd", "dan", "eve"):
        play.book(user_id)
    play.cancel("ada")
    return play


def test_init_db_makes_indexes_and_views(app: Flask, database: Database[Document]) -> None:
    """Any number of times."""
    for _ in range(2):
        result = run(app, "init-db")
        assert result.exit_code == 0
        assert result.stdout == f"The database '{database.name}' has its indexes and views.\n"
    assert {"ledger", "orders", "events"} <= set(database.list_collection_names())


def test_verify_of_sound_ledgers_says_ok(app: Flask, database: Database[Document]) -> None:
    """A line an event and one with the totals, exit status 0."""
    store(database, concert("concert-2027"), Rehearsal(1, "opera"))
    result = run(app, "ledger", "verify")
    assert result.stdout.splitlines() == [
        "concert-2027: ok, 7 transitions, 5 orders, 3 booked, 1 waiting",
        "opera: ok, 1 transition, 0 orders, 0 booked, 0 waiting",
        "2 events, 8 transitions: ok",
    ]
    assert result.exit_code == 0


def test_verify_of_one_event_leaves_the_others_alone(app: Flask, database: Database[Document]) -> None:
    """Damage elsewhere is not its business."""
    store(database, concert("concert-2027"), concert("opera"))
    database["ledger"].delete_one({"_id": "opera:000000000003"})
    result = run(app, "ledger", "verify", "concert-2027")
    assert result.stdout.splitlines()[-1] == "1 event, 7 transitions: ok"
    assert result.exit_code == 0


def test_verify_prints_each_finding(app: Flask, database: Database[Document]) -> None:
    """The sound events are printed all the same, and the exit status is 1."""
    store(database, concert("concert-2027"), concert("opera"))
    database["ledger"].delete_one({"_id": "opera:000000000003"})
    database["ledger"].update_one({"_id": "opera:000000000006"}, {"$set": {"nonce": None}})
    result = run(app, "ledger", "verify")
    assert result.stdout.splitlines() == [
        "concert-2027: ok, 7 transitions, 5 orders, 3 booked, 1 waiting",
        "opera: version 4 in document 'opera:000000000004': follows 2: version 3 is missing;"
        " what follows cannot be judged",
        "opera: document 'opera:000000000006': has no nonce of 16 bytes",
        "2 events, 13 transitions: 2 findings",
    ]
    assert result.exit_code == 1


def test_verify_counts_what_it_does_not_print(
    app: Flask, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that is wrong all over ends in a number."""
    monkeypatch.setattr("ticketing.audit.FINDINGS_OF_A_KIND_MAX", 2)
    store(database, concert("opera"))
    database["ledger"].update_many({}, {"$unset": {"nonce": 1}})
    result = run(app, "ledger", "verify")
    assert result.stdout.splitlines()[2:] == ["opera: and 5 more", "1 event, 7 transitions: 7 findings"]
    assert result.exit_code == 1


def test_verify_of_an_empty_database_is_ok(app: Flask) -> None:
    """Nothing was promised yet."""
    result = run(app, "ledger", "verify")
    assert result.stdout == "0 events, 0 transitions: ok\n"
    assert result.exit_code == 0


def test_verify_of_an_event_that_is_not_there_fails(app: Flask, database: Database[Document]) -> None:
    """Exit status 2, and the sentence goes to standard error."""
    store(database, concert("concert-2027"))
    result = run(app, "ledger", "verify", "concert")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "There is no event 'concert'.\n"


@pytest.mark.parametrize("command", [["init-db"], ["ledger", "verify"], ["ledger", "verify", "concert"]])
def test_without_a_storage_the_commands_fail_in_one_sentence(unreachable: Flask, command: list[str]) -> None:
    """Exit status 2, no traceback, and nothing of the URI."""
    result = run(unreachable, *command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("MongoDB did not answer as it should (")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.output
