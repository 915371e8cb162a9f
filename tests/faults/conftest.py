"""The whole service under load: gunicorn with two workers, a real MongoDB, real connections."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.service.running import Service, children_of, eventually, kill
from ticketing.audit import audit
from ticketing.config import Config

from .checker import violations
from .leaks import Watch
from .load import Load

DATABASE = "ticketing"

CREDENTIALS = ("admin", "a password for the tests")
SETTINGS = {
    "BASIC_AUTH_USERNAME": CREDENTIALS[0],
    "BASIC_AUTH_PASSWORD": CREDENTIALS[1],
    "RATELIMIT_ENABLED": "false",
    "WEB_CONCURRENCY": "2",
    "LOG_LEVEL": "warning",
}

KILLS = 6
KILL_EVERY_S = 1.0

Start = Callable[..., Service]


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Start]:
    """Start `python -m ticketing` in a folder of its own; the settings may be changed.

    Its app is the product's, in a module that adds what these tests want of it.
    """
    started: list[Service] = []

    def start(app: str = "tests.faults.counted", **settings: Any) -> Service:
        folder = tmp_path / f"service-{len(started)}"
        folder.mkdir()
        # gunicorn looks for `wsgi` in its own folder first.
        (folder / "wsgi.py").write_text(f"from {app} import app as app\n")
        service = Service(folder, **{**SETTINGS, **settings})
        started.append(service)
        return service.start().wait_until_serving()

    yield start
    for service in started:
        service.clean_up()


def embedded_uri(service: Service) -> str:
    """Where the embedded mongod of a service answers."""
    note = json.loads((service.folder / "var" / "embedded.json").read_text())
    return str(note["uri"])


def mongod_of(service: Service) -> int:
    """The process id of the embedded mongod."""
    return eventually(lambda: next((pid for pid in children_of(service.pid) if _is_mongod(pid)), 0))


def gunicorn_of(service: Service) -> int:
    """The process id of gunicorn itself, as the service notes it."""
    return int(json.loads((service.folder / "var" / "service.json").read_text())["gunicorn_pid"])


def gunicorn_workers(service: Service) -> list[int]:
    """The process ids of gunicorn's workers."""
    gunicorn = next(pid for pid in children_of(service.pid) if not _is_mongod(pid))
    return eventually(lambda: children_of(gunicorn))


def _is_mongod(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == "mongod"


def new_watch(service: Service, *uris: str) -> Watch:
    """For leaks of the service, which has served its first requests, and of the MongoDB members at `uris`."""
    # Those that check passwords are started when they are needed, and kept.
    return Watch(lambda: gunicorn_workers(service), service.port, uris, threads_more_max=Config().web_threads)


def broken_promises(load: Load, uri: str, database: str = DATABASE) -> list[str]:
    """All that is not as promised, by what the clients saw and by what `ledger verify` says. Prints what they saw."""
    print(figures(load))
    with MongoClient[dict[str, Any]](uri) as client:
        (report,) = audit(client[database], load.event_id)
    return violations(load.history(uri, database)) + report.findings


def unanswered(load: Load) -> set[str]:
    """What became of the requests without an answer. Where no worker is killed and none ends, there are none."""
    return {attempt.outcome for attempt in load.attempts if attempt.returned is None}


def figures(load: Load) -> str:
    """What the clients of a run saw, in one line. A stall is a time in which nobody was answered but by 503."""
    attempts = load.attempts
    answered_s = sorted(each.returned_s for each in attempts if each.returned_s and each.outcome != "unavailable")
    longest_s = max((each.returned_s - each.invoked_s for each in attempts if each.returned_s), default=0.0)
    stall_s = max((later - earlier for earlier, later in pairwise(answered_s)), default=0.0)
    ends = Counter(each.outcome for each in attempts if each.returned is None) + Counter({"503": load.unavailable})
    told = [f"{len(answered_s):,} answered", *(f"{count:,} {end}" for end, count in sorted(ends.items()))]
    return f"{len(attempts):,} requests: {', '.join(told)}; longest answer {longest_s:.1f} s, stall {stall_s:.1f} s"


def kill_workers(service: Service, load: Load) -> None:
    """SIGKILL of a random worker each second, under load."""
    for number in range(KILLS):
        kill(random.Random(number).choice(gunicorn_workers(service)))
        next_at_s = time.monotonic() + KILL_EVERY_S
        # More than were under way: whoever is left has answered them, or whoever came.
        load.wait_for_answers(40)
        time.sleep(max(0.0, next_at_s - time.monotonic()))


def reload_workers(service: Service, told: int | None = None) -> None:
    """SIGHUP to the process `told`, or the supervisor, until none of the workers is left that were there."""
    before = set(gunicorn_workers(service))
    os.kill(told or service.pid, signal.SIGHUP)
    eventually(lambda: not before & set(gunicorn_workers(service)))


def new_load(service: Service, event_id: str = "hot", **options: Any) -> Load:
    """Clients for an event of the service."""
    return Load(service.url, CREDENTIALS, event_id, **options)
