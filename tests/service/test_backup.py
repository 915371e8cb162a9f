"""Backup and restore as docs/operations/backup.md tells it: what the service had promised holds where it goes on."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.service.running import DEADLINE_S, ROOT, Service, outer_environ, run
from ticketing.audit import audit
from ticketing.config import Config

PACK = "tar -czf ticketing-backup.tar.gz .env var/mongo"
UNPACK = "tar -xzf ticketing-backup.tar.gz"
FLASK = ("-m", "flask", "--app", "wsgi")
EVENT_ID = "concert-2027"
KEY = "the-key-of-ben"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[Service]]:
    """All services of a test. What is left of them is ended."""
    made: list[Service] = []
    yield made
    for service in made:
        service.clean_up()


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


def post(service: Service, path: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    """POST as the admin of the service's `.env`."""
    config = Config.from_env({}, dotenv_path=str(service.folder / ".env"))
    auth = (config.basic_auth_username or "", config.basic_auth_password or "")
    headers = {} if key is None else {"Idempotency-Key": key}
    return httpx.post(service.url + path, json=body, headers=headers, auth=auth, timeout=DEADLINE_S)


def book(service: Service, user_id: str, key: str | None = None) -> httpx.Response:
    """Book a ticket of the event."""
    return post(service, "/book", {"event_id": EVENT_ID, "user_id": user_id}, key)


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
    opening = {"event_id": EVENT_ID, "name": "Concert", "total_tickets": 2}
    assert post(service, "/initialize", opening).status_code == 201
    book(service, "ada")
    answer = book(service, "ben", KEY)
    for user_id in ("dan", "eve"):
        assert book(service, user_id).status_code == 202
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


def test_the_document_tells_the_commands_that_are_tried_here() -> None:
    """To pack and to unpack."""
    text = (ROOT / "docs" / "operations" / "backup.md").read_text()
    assert all(f"\n{command}\n" in text for command in (PACK, UNPACK))


def test_on_a_terminal_there_is_a_bar(
    tmp_path: Path, mongod: str, database: Database[dict[str, Any]]
) -> None:
    """On standard error, so that standard output can be redirected meanwhile."""
    database["ledger"].insert_one({"_id": "concert:000000000001"})
    terminal, its_end = pty.openpty()
    command = [sys.executable, *FLASK, "ledger", "export"]
    environ = {**outer_environ(), "MONGODB_URI": mongod, "MONGODB_DATABASE": database.name, "TERM": "xterm"}
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        with os.fdopen(its_end, "wb") as stderr:
            done = subprocess.run(
                command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=stderr, timeout=DEADLINE_S
            )
        shown = screen.read(10_000).decode()
    assert (done.returncode, done.stdout) == (0, b'{"_id": "concert:000000000001"}\n')
    assert "exported" in shown and "#]  1/1" in shown


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
