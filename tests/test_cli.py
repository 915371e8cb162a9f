"""The operator's commands, run as `flask` runs them, on a real mongod."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from pymongo import MongoClient
from pymongo.database import Database

from tests.damage import changed, exact, garbled, removed
from tests.domain.rehearsal import Rehearsal
from ticketing.app import build_services
from ticketing.cli import register_cli
from ticketing.clock import SystemClock
from ticketing.config import Config
from ticketing.domain.commands import Pseudonymize
from ticketing.services import EXTENSION
from ticketing.storage.checksums import with_checksum
from ticketing.storage.documents import commit_document
from ticketing.storage.names import Names

Document = dict[str, Any]
ROOT = Path(__file__).parents[1]


def app_on(database: Database[Document], config: Config | None = None) -> Flask:
    """An app that has nothing but the commands."""
    config = config or Config(mongodb_database=database.name)
    app = Flask(__name__)
    app.extensions[EXTENSION] = build_services(config, database.client, SystemClock())
    register_cli(app)
    return app


@pytest.fixture
def app(database: Database[Document]) -> Flask:
    return app_on(database)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """An app whose MongoDB is not there."""
    monkeypatch.setattr("ticketing.cli.terminal.PING_DEADLINE_S", 0.05)
    with MongoClient[Document]("mongodb://ada:secret@127.0.0.1:1/") as client:
        yield app_on(client["ticketing"])


@pytest.fixture
def elsewhere(database: Database[Document]) -> Iterator[Flask]:
    """The same on another database."""
    other = database.client[f"{database.name}_elsewhere"]
    yield app_on(other)
    database.client.drop_database(other)


def run(app: Flask, *arguments: str, given: str | None = None) -> Result:
    """What `flask --app wsgi …` does, with a text on its standard input."""
    return app.test_cli_runner().invoke(args=arguments, input=given)


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


def test_the_settings_may_be_in_a_file_elsewhere(
    mongod: str, database: Database[Document], tmp_path: Path
) -> None:
    """`flask --env-file`, as docs/operations/deploy.md has it: of the database that the service uses."""
    store(database, Rehearsal(1, "opera"))
    settings = tmp_path / "ticketing.env"
    settings.write_text(f"MONGODB_URI={mongod}\nMONGODB_DATABASE={database.name}\n")
    command = [sys.executable, "-m", "flask", "--env-file", str(settings), "--app", "wsgi", "ledger", "verify"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.splitlines()[-1] == "1 event, 1 transition: ok"


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


def test_verify_tells_programs_too(app: Flask, database: Database[Document]) -> None:
    """An object an event, with its findings, and nothing else; the exit status is the same."""
    store(database, concert("concert-2027"), Rehearsal(1, "opera"))
    database["ledger"].update_one({"_id": "opera:000000000001"}, {"$set": {"nonce": None}})
    result = run(app, "ledger", "verify", "--json")
    assert result.exit_code == 1
    sound, damaged = map(json.loads, result.stdout.splitlines())
    counts = {"transitions": 7, "orders": 5, "booked": 3, "waiting": 1}
    assert sound == {"event_id": "concert-2027", **counts, "findings": [], "findings_left_out": 0}
    assert damaged["findings"] == ["document 'opera:000000000001': has no nonce of 16 bytes"]


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


# Export and import. What is in the lines is tried in tests/storage/test_archive.py.


def test_an_export_can_be_imported_elsewhere(
    app: Flask, elsewhere: Flask, database: Database[Document], tmp_path: Path
) -> None:
    """Through a file that only its owner may read; the import makes indexes and views, and verifies."""
    store(database, concert("concert-2027"), Rehearsal(1, "opera"))
    file = tmp_path / "ledger.jsonl"
    result = run(app, "ledger", "export", str(file))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Exported 8 commits: ok\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.jsonl"]
    assert file.stat().st_mode & 0o777 == 0o600
    result = run(elsewhere, "ledger", "import", str(file))
    assert result.stdout.splitlines() == [
        "Imported 8 commits, 0 were there already.",
        "concert-2027: ok, 7 transitions, 5 orders, 3 booked, 1 waiting",
        "opera: ok, 1 transition, 0 orders, 0 booked, 0 waiting",
        "2 events, 8 transitions: ok",
    ]
    assert result.exit_code == 0
    copy = elsewhere.extensions[EXTENSION].database
    assert exact(copy["ledger"]) == exact(database["ledger"])
    assert {"ledger", "orders", "events"} <= set(copy.list_collection_names())
    assert "request_key" in copy["ledger"].index_information()
    result = run(elsewhere, "ledger", "import", str(file))
    assert result.stdout.startswith("Imported 0 commits, 8 were there already.\n")


def test_an_import_writes_the_segments_of_long_ledgers(
    app: Flask, elsewhere: Flask, database: Database[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that are sound and long, so that the first worker that meets them has less to read."""
    monkeypatch.setattr("ticketing.cli.ledger.BEHIND_MAX", 7)
    monkeypatch.setattr("ticketing.storage.segments.SEGMENT_SIZE", 4)
    short = Rehearsal(1, "opera")
    for play in (concert("concert-2027"), concert("damaged"), short):
        database["ledger"].insert_many(
            with_checksum(commit_document(play.event_id, [part], b"n" * 16)) for part in play.transitions
        )
    file = tmp_path / "ledger.jsonl"
    run(app, "ledger", "export", str(file))
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if "damaged:000000000007" not in line))
    run(elsewhere, "ledger", "import", str(file))
    segments = elsewhere.extensions[EXTENSION].database["segments"]
    written = [(each["event_id"], each["first"], each["last"]) for each in segments.find(sort=[("_id", 1)])]
    assert written[0][:2] == ("concert-2027", 1)
    assert {event_id for event_id, _, _ in written} == {"concert-2027"}


@pytest.mark.parametrize("dash", [["-"], []])
def test_an_export_can_be_piped(
    app: Flask, elsewhere: Flask, database: Database[Document], dash: list[str]
) -> None:
    """Nothing but the lines goes to standard output; one event can be chosen."""
    store(database, concert("concert-2027"), concert("opera"))
    result = run(app, "ledger", "export", "--event", "opera", *dash)
    assert [json.loads(line)["event_id"] for line in result.stdout.splitlines()] == ["opera"] * 7
    result = run(elsewhere, "ledger", "import", *dash, given=result.stdout)
    assert result.stdout.splitlines()[0] == "Imported 7 commits, 0 were there already."
    assert result.exit_code == 0


def test_an_export_tells_how_far_it_is(
    app: Flask, elsewhere: Flask, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no terminal by a line now and then, on standard error."""
    monkeypatch.setattr("ticketing.cli.terminal.PROGRESS_EVERY", 3)
    store(database, concert("opera"))
    result = run(app, "ledger", "export")
    assert result.stderr.splitlines() == ["exported: 3", "exported: 6", "Exported 7 commits: ok"]
    result = run(elsewhere, "ledger", "import", given=result.stdout)
    assert result.stderr.splitlines() == ["read: 3", "read: 6", "verified: 3", "verified: 6"]


def test_an_export_of_a_damaged_ledger_names_what_json_cannot_hold(
    app: Flask, elsewhere: Flask, database: Database[Document]
) -> None:
    """Exit status 1. What it has is of use for the other events: the import leaves that one out, and names it."""
    store(database, concert("opera"), concert("zoo"), concert("zorro"))
    garbled(7)(database["ledger"], "zoo")
    result = run(app, "ledger", "export")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "damaged: 'zoo:000000000007' is not what JSON can hold: its line has its _id alone",
        "Exported 21 commits: 1 finding",
    ]
    for counts in ("14 commits, 0", "0 commits, 14"):
        again = run(elsewhere, "ledger", "import", given=result.stdout)
        assert again.exit_code == 1
        assert again.stderr == "left out: event 'zoo': line 14: 'zoo:000000000007' is no commit of a ledger\n"
        assert again.stdout.splitlines() == [
            f"Imported {counts} were there already.",
            "opera: ok, 7 transitions, 5 orders, 3 booked, 1 waiting",
            "zorro: ok, 7 transitions, 5 orders, 3 booked, 1 waiting",
            "2 events, 14 transitions: ok",
        ]


def test_what_is_damaged_is_written_as_it_is_and_not_taken_for_sound(
    app: Flask, elsewhere: Flask, database: Database[Document]
) -> None:
    """The line is there for who wants to look into it; both commands name it and say 1. Alone it is nothing: 2."""
    database["ledger"].insert_many(
        [with_checksum(commit_document("opera", [part], b"n" * 16)) for part in concert("opera").transitions]
    )
    store(database, concert("zoo"))
    changed(3, orders__0__user_id="zoe")(database["ledger"], "opera")
    finding = "'opera:000000000003' is not what was written: its checksum is another"
    result = run(app, "ledger", "export")
    assert (result.exit_code, '"zoe"' in result.stdout) == (1, True)
    assert result.stderr.splitlines() == [f"damaged: {finding}", "Exported 14 commits: 1 finding"]
    result = run(elsewhere, "ledger", "import", given=result.stdout)
    assert (result.exit_code, result.stderr) == (1, f"left out: event 'opera': line 3: {finding}\n")
    result = run(elsewhere, "ledger", "import", given=run(app, "ledger", "export", "--event", "opera").stdout)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"left out: event 'opera': line 3: {finding}\nNothing was imported.\n"


def test_an_erased_name_that_comes_back_is_told(app: Flask, database: Database[Document]) -> None:
    """With the commit that was missing; so the import ends with 1, until the name has been erased again."""
    play = concert("opera")
    store(database, play)
    lines = run(app, "ledger", "export").stdout
    play.play(Pseudonymize(event_id="opera", by="admin", user_id="bob", pseudonym="erased:1"))
    clock, ledger = SystemClock(), database["ledger"]
    ledger.insert_one(commit_document("opera", play.transitions[-1:], b"n" * 16))

    def erase() -> None:
        Names(ledger, clock).replace("opera", 8, "bob", "erased:1", clock.monotonic() + 10)

    erase()
    result = run(app, "ledger", "import", given=lines)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[:2] == [
        "Imported 0 commits, 7 were there already.",
        "In 1 of these names were erased since.",
    ]
    removed(3)(ledger, "opera")
    for counts in ("1 commit, 6", "0 commits, 7"):
        result = run(app, "ledger", "import", given=lines)
        assert (result.exit_code, result.stderr) == (1, "erase again: event 'opera' names 'bob', who was erased\n")
        assert result.stdout.splitlines() == [
            f"Imported {counts} were there already.",
            "opera: ok, 8 transitions, 5 orders, 3 booked, 1 waiting",
            "1 event, 8 transitions: ok",
        ]
    erase()
    assert run(app, "ledger", "import", given=lines).exit_code == 0


def test_a_full_disk_ends_an_import(elsewhere: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what waits has no room: exit status 2 and one sentence."""

    def fail(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ticketing.cli.ledger.import_lines", fail)
    result = run(elsewhere, "ledger", "import", given="{}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "The import broke off: No space left on device. It may be run again.\n"


def test_an_import_with_findings_says_so(app: Flask, elsewhere: Flask, database: Database[Document]) -> None:
    """What is in the lines is carried over as it is, and then judged: exit status 1."""
    store(database, concert("opera"))
    changed(3, orders__0__quantity=4)(database["ledger"], "opera")
    lines = run(app, "ledger", "export").stdout
    result = run(elsewhere, "ledger", "import", given=lines)
    assert result.stdout.startswith("Imported 7 commits, 0 were there already.\nopera: version 3 in document")
    assert result.exit_code == 1


def test_an_import_of_nothing_fails(elsewhere: Flask) -> None:
    """In a pipe the command before it has failed."""
    result = run(elsewhere, "ledger", "import")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "There is nothing to import: not a single line came.\n"


def test_an_export_that_fails_leaves_no_file(app: Flask, database: Database[Document], tmp_path: Path) -> None:
    """And a former one stays as it was: nobody takes half a backup for a whole one."""
    file = tmp_path / "ledger.jsonl"
    file.write_text("the backup of yesterday")
    result = run(app, "ledger", "export", str(file), "--event", "opera")
    assert (result.exit_code, result.stderr) == (2, "There is no event 'opera'.\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.jsonl"]
    assert file.read_text() == "the backup of yesterday"


def test_a_file_that_cannot_be_written_is_named(app: Flask, database: Database[Document], tmp_path: Path) -> None:
    """A folder that is not there, a device: exit status 2 and one sentence."""
    store(database, concert("opera"))
    missing = tmp_path / "nowhere" / "ledger.jsonl"
    result = run(app, "ledger", "export", str(missing))
    assert result.exit_code == 2
    assert result.stderr == f"The file {missing} cannot be written: No such file or directory.\n"
    result = run(app, "ledger", "export", "/dev/null")
    assert (result.exit_code, result.stderr) == (2, "/dev/null is no file.\n")


@pytest.mark.parametrize(
    "command",
    [
        ["init-db"],
        ["ledger", "verify"],
        ["ledger", "verify", "concert"],
        ["ledger", "export"],
        ["ledger", "import"],
        ["events", "list"],
        ["events", "show", "concert"],
        ["events", "init", "concert", "--name", "Concert", "--tickets", "1"],
        ["users", "list"],
        ["users", "set-role", "ada", "admin"],
    ],
)
def test_without_a_storage_the_commands_fail_in_one_sentence(unreachable: Flask, command: list[str]) -> None:
    """Exit status 2, no traceback, and nothing of the URI."""
    result = run(unreachable, *command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("MongoDB did not answer as it should (")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.output
