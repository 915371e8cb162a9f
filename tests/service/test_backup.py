"""Backup and restore as docs/operations/backup.md tells it: what the service had promised holds where it goes on."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import httpx
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.damage import exact, removed
from tests.domain.rehearsal import Rehearsal
from tests.dump import ONE_AFTER_THE_OTHER, restore, scan
from tests.service.running import DEADLINE_S, NO_TLS, ROOT, Service, eventually, outer_environ, run
from ticketing.audit import audit
from ticketing.config import Config
from ticketing.storage.documents import commit_document

# What is tried runs in processes of its own: to count what this one runs tells little, and doubles its work.
pytestmark = pytest.mark.no_cover

PACK = "tar -czf ticketing-backup.tar.gz .env var/mongo"
UNPACK = "tar -xzf ticketing-backup.tar.gz"
FLASK = ("-m", "flask", "--app", "wsgi")
EVENT_ID = "concert-2027"
KEY = "the-key-of-ben"
ACCOUNT = ("carol", "a horse and some staples")
GROWS = 50  # documents of a dump, after each of which somebody books


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[Service]]:
    """All services of a test. What is left of them is ended."""
    made: list[Service] = []
    yield made
    for service in made:
        service.clean_up()


@pytest.fixture
def elsewhere(database: Database[dict[str, Any]]) -> Iterator[str]:
    """The name of another database."""
    name = f"{database.name}_elsewhere"
    yield name
    database.client.drop_database(name)


def serve(services: list[Service], folder: Path, **settings: Any) -> Service:
    """The service in a folder, serving."""
    services.append(Service(folder, WEB_CONCURRENCY="1", **settings))
    return services[-1].start().wait_until_serving()


def folder_with(parent: Path, name: str, file: Path) -> Path:
    """A new folder with a copy of one file."""
    folder = parent / name
    folder.mkdir()
    shutil.copy(file, folder)
    return folder


def admin_of(service: Service) -> tuple[str, str]:
    """Name and password, as the service's `.env` has them."""
    config = Config.from_env({}, dotenv_path=str(service.folder / ".env"))
    return config.basic_auth_username or "", config.basic_auth_password or ""


def post(service: Service, path: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    """POST as the admin of the service's `.env`."""
    headers = {} if key is None else {"Idempotency-Key": key}
    options: dict[str, Any] = {"timeout": DEADLINE_S, "verify": NO_TLS}
    return httpx.post(service.url + path, json=body, headers=headers, auth=admin_of(service), **options)


def erase(service: Service, user_id: str) -> int:
    """DELETE a user as the admin: the status."""
    options: dict[str, Any] = {"timeout": DEADLINE_S, "verify": NO_TLS}
    return httpx.delete(f"{service.url}/users/{user_id}", auth=admin_of(service), **options).status_code


def book(service: Service, user_id: str, key: str | None = None) -> httpx.Response:
    """Book a ticket of the event."""
    return post(service, "/book", {"event_id": EVENT_ID, "user_id": user_id}, key)


def sell(service: Service) -> httpx.Response:
    """Two tickets, for which four people ask. Returns the answer for the one who had a key."""
    opening = {"event_id": EVENT_ID, "name": "Concert", "total_tickets": 2}
    assert post(service, "/initialize", opening).status_code == 201
    book(service, "ada")
    answer = book(service, "ben", KEY)
    for user_id in ("dan", "eve"):
        assert book(service, user_id).status_code == 202
    return answer


@contextmanager
def booking_on(service: Service, event_id: str) -> Iterator[Callable[[int], int]]:
    """Somebody books again and again. What it gives waits for so many more answers, and returns the newest version."""
    versions: list[int] = []
    stop = threading.Event()

    def go_on() -> None:
        with httpx.Client(base_url=service.url, timeout=DEADLINE_S) as client:
            for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
                answer = client.post("/book", json={"event_id": event_id, "user_id": f"user-{number}"})
                versions.append(answer.json()["version"])

    def wait_for(more: int) -> int:
        enough = len(versions) + more
        eventually(lambda: len(versions) >= enough)
        return versions[-1]

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield wait_for
    finally:
        stop.set()
        thread.join()


def assert_it_goes_on(service: Service, status: httpx.Response, answer: httpx.Response) -> None:
    """From `status`, with `answer` for the key that was used before the backup, and the same person next in line."""
    assert service.get(f"/status/{EVENT_ID}").json() == status.json()
    again = book(service, "ben", KEY)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.json()) == (answer.status_code, answer.json())
    cancelled = post(service, "/cancel", {"event_id": EVENT_ID, "user_id": "ada"})
    assert [order["user_id"] for order in cancelled.json()["promoted"]] == ["dan"]
    assert book(service, "zoe").json()["waiting_position"] == 2
    assert service.get(f"/status/{EVENT_ID}").json()["version"] == status.json()["version"] + 2


def findings(uri: str, database: str) -> list[list[str]]:
    """What the audit says of each event."""
    with MongoClient[dict[str, Any]](uri) as client:
        return [report.findings for report in audit(client[database])]


def test_what_was_promised_holds_after_a_restore(
    services: list[Service], tmp_path: Path, mongod: str, database: Database[dict[str, Any]]
) -> None:
    """From an export, made while the service goes on, and from a copy of the data folder."""
    service = serve(services, folder_with(tmp_path, "first", ROOT / ".env.example"))
    answer = sell(service)
    status = service.get(f"/status/{EVENT_ID}")
    export = run(service.folder, *FLASK, "ledger", "export", "ledger.jsonl")
    assert (export.returncode, export.stdout) == (0, ""), export.stderr
    assert service.stop() == 0
    subprocess.run(PACK, shell=True, cwd=service.folder, check=True)

    elsewhere = {"MONGODB_URI": mongod, "MONGODB_DATABASE": database.name}
    imported = run(service.folder, *FLASK, "ledger", "import", "ledger.jsonl", **elsewhere)
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.splitlines() == [
        "Imported 5 commits, 0 were there already.",
        f"{EVENT_ID}: ok, 5 transitions, 4 orders, 2 booked, 2 waiting",
        "1 event, 5 transitions: ok",
    ]
    folder = folder_with(tmp_path, "imported", service.folder / ".env")
    assert_it_goes_on(serve(services, folder, **elsewhere), status, answer)
    assert findings(mongod, database.name) == [[]]

    folder = folder_with(tmp_path, "copied", service.folder / "ticketing-backup.tar.gz")
    subprocess.run(UNPACK, shell=True, cwd=folder, check=True)
    assert_it_goes_on(serve(services, folder), status, answer)
    embedded = json.loads((folder / "var" / "embedded.json").read_text())["uri"]
    assert findings(embedded, "ticketing") == [[]]


def test_a_dump_of_all_collections_under_load_goes_on_elsewhere(
    services: list[Service], tmp_path: Path, mongod: str, database: Database[dict[str, Any]], elsewhere: str
) -> None:
    """One collection after the other, in the order of the document, while people book: no hole, all accounts."""
    first = folder_with(tmp_path, "first", ROOT / ".env.example")
    here = {"MONGODB_URI": mongod, "MONGODB_DATABASE": database.name, "RATELIMIT_ENABLED": "false"}
    service = serve(services, first, REGISTRATION="open", **here)
    answer = sell(service)
    status = service.get(f"/status/{EVENT_ID}")
    account = dict(zip(("user_id", "password"), ACCOUNT, strict=True))
    assert httpx.post(f"{service.url}/users", json=account, timeout=DEADLINE_S).status_code == 201
    festival = {"event_id": "festival", "name": "Festival", "total_tickets": 10_000}
    assert post(service, "/initialize", festival).status_code == 201

    with booking_on(service, "festival") as wait_for_bookings:
        told = wait_for_bookings(20)
        for name, query in ONE_AFTER_THE_OTHER.items():
            with (tmp_path / f"{name}.bson").open("wb") as file:
                for number, document in enumerate(scan(database, name, query, batch_size=2)):
                    file.write(document)
                    if number < GROWS:
                        wait_for_bookings(1)
        later = wait_for_bookings(1)

    there = here | {"MONGODB_DATABASE": elsewhere}
    with MongoClient[dict[str, Any]](mongod) as client:
        restore(client[elsewhere], tmp_path)
        (festival_there,) = audit(client[elsewhere], "festival")
        assert told <= festival_there.transitions < later
    verified = run(first, *FLASK, "ledger", "verify", **there)
    assert (verified.returncode, verified.stdout.splitlines()[-1].endswith(": ok")) == (0, True), verified.stdout
    restored = serve(services, folder_with(tmp_path, "restored", first / ".env"), **there)
    assert_it_goes_on(restored, status, answer)
    who = httpx.get(f"{restored.url}/users/me", auth=ACCOUNT, timeout=DEADLINE_S)
    assert (who.status_code, who.json()["user_id"]) == (200, "carol")
    booked = post(restored, "/book", {"event_id": "festival", "user_id": "zoe"})
    assert (booked.status_code, booked.json()["version"]) == (201, festival_there.transitions + 1)
    assert findings(mongod, elsewhere) == [[], []]


def test_a_repair_brings_an_erased_name_back_until_it_is_erased_again(
    services: list[Service], tmp_path: Path, mongod: str, database: Database[dict[str, Any]]
) -> None:
    """A commit that names Ben is lost after his erasure, and comes from a backup that is older. The service goes on."""
    here = {"MONGODB_URI": mongod, "MONGODB_DATABASE": database.name, "RATELIMIT_ENABLED": "false"}
    service = serve(services, folder_with(tmp_path, "first", ROOT / ".env.example"), **here)
    sell(service)
    book(service, "ben-hur")
    assert run(service.folder, *FLASK, "ledger", "export", "ledger.jsonl", **here).returncode == 0
    assert erase(service, "ben") == 204
    assert places_of("ben", database) == []
    known, orders = exact(database["ledger"]), orders_of(service)

    removed(3)(database["ledger"], EVENT_ID)  # Ben's booking
    verified = run(service.folder, *FLASK, "ledger", "verify", **here)
    assert verified.returncode == 1 and "version 3 is missing" in verified.stdout
    other = serve(services, folder_with(tmp_path, "other", service.folder / ".env"), **here)
    assert other.get(f"/status/{EVENT_ID}").status_code == 503

    repaired = run(service.folder, *FLASK, "ledger", "import", "ledger.jsonl", **here)
    assert repaired.stdout.splitlines()[0] == "Imported 1 commit, 5 were there already."
    told = f"erase again: event '{EVENT_ID}' names 'ben', who was erased\n"
    assert (repaired.returncode, repaired.stderr) == (1, told)
    eventually(lambda: other.get(f"/status/{EVENT_ID}").status_code == 200)
    assert places_of("ben", database) == ["ledger"]
    filled = exact(database["ledger"])
    assert filled[:2] + filled[3:] == known[:2] + known[3:]

    assert erase(other, "ben") == 204
    assert places_of("ben", database) == []
    assert erase(other, "ben") == 404
    again = run(service.folder, *FLASK, "ledger", "import", "ledger.jsonl", **here)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[:2] == [
        "Imported 0 commits, 6 were there already.",
        "In 1 of these names were erased since.",
    ]
    verified = run(service.folder, *FLASK, "ledger", "verify", **here)
    assert (verified.returncode, verified.stdout.splitlines()[-1].endswith(": ok")) == (0, True), verified.stdout
    assert orders_of(service) == orders_of(other) == orders
    assert [book(each, user_id).status_code for each, user_id in ((service, "zoe"), (other, "yan"))] == [202, 202]
    assert findings(mongod, database.name) == [[]]


def orders_of(service: Service) -> Any:
    """All orders of the event, as they are shown."""
    options: dict[str, Any] = {"timeout": DEADLINE_S, "verify": NO_TLS}
    return httpx.get(f"{service.url}/events/{EVENT_ID}/orders", auth=admin_of(service), **options).json()["items"]


def places_of(name: str, database: Database[dict[str, Any]]) -> list[str]:
    """The collections that hold this text, in their raw bytes."""
    text = bson.encode({"": name})[6:-1]  # with its length in front and a zero behind
    names = database.list_collection_names(filter={"type": "collection"})
    return sorted(each for each in names if any(text in raw for raw in exact(database[each])))


def test_the_document_tells_the_commands_that_are_tried_here() -> None:
    """To pack and to unpack; and to dump, with the same queries in the same order."""
    text = (ROOT / "docs" / "operations" / "backup.md").read_text()
    assert all(f"\n{command}\n" in text for command in (PACK, UNPACK))
    dumped = re.findall(r"^mongodump .*--collection (\w+)(?: --query '(.*)')?$", text, re.MULTILINE)
    assert [(name, json.loads(query or "{}")) for name, query in dumped] == list(ONE_AFTER_THE_OTHER.items())


def test_on_a_terminal_there_is_a_bar(
    tmp_path: Path, mongod: str, database: Database[dict[str, Any]], elsewhere: str
) -> None:
    """For what is exported, read and verified; on standard error, so that standard output can be redirected."""
    play = Rehearsal(3, EVENT_ID)
    play.book("ada")
    database["ledger"].insert_many([commit_document(EVENT_ID, [part], b"n" * 16) for part in play.transitions])
    done, shown = on_a_terminal(tmp_path, "export", MONGODB_URI=mongod, MONGODB_DATABASE=database.name)
    lines = done.stdout
    assert (done.returncode, [json.loads(line)["event_id"] for line in lines.splitlines()]) == (0, [EVENT_ID] * 2)
    assert "exported" in shown and "#]  2/2" in shown

    done, shown = on_a_terminal(tmp_path, "import", given=lines, MONGODB_URI=mongod, MONGODB_DATABASE=elsewhere)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, b"Imported 2 commits, 0 were there already.")
    read, _, verified = shown.partition("verified")
    assert re.search(r"read  \[#+\]  2\b", read), read  # how many lines there are is not known before the end
    assert "#]  2/2" in verified


def on_a_terminal(
    folder: Path, command: str, given: bytes = b"", **environ: str
) -> tuple[subprocess.CompletedProcess[bytes], str]:
    """`flask ledger …` with its standard error on a terminal, and what was to be seen there."""
    terminal, its_end = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        with os.fdopen(its_end, "wb") as stderr:
            done = subprocess.run(
                [sys.executable, *FLASK, "ledger", command],
                cwd=folder,
                env={**outer_environ(), "TERM": "xterm", **environ},
                input=given,
                stdout=subprocess.PIPE,
                stderr=stderr,
                timeout=DEADLINE_S,
            )
        return done, screen.read(10_000).decode()


def test_a_full_disk_behind_a_redirection_is_told(
    tmp_path: Path, mongod: str, database: Database[dict[str, Any]]
) -> None:
    """Exit status 2 and one sentence: half a backup must not look like a whole one."""
    database["ledger"].insert_one({"_id": "concert:000000000001"})
    environ = {**outer_environ(), "MONGODB_URI": mongod, "MONGODB_DATABASE": database.name}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, *FLASK, "ledger", "export"],
            cwd=tmp_path,
            env=environ,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
        )
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1] == (
        "Standard output cannot be written: No space left on device."
    )
