"""What a service holds while nobody asks it for anything: the threads, green threads and sockets of its workers, and
what MongoDB keeps for them.

Read from /proc, whatever the workers are made of, but for the green threads, which each worker counts by itself. See
proc(5): `task` has an entry for each thread, `fd` for each open file, and /proc/net/tcp for each connection, with its
socket's inode in the tenth column.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.service.running import eventually
from ticketing.storage.client import DEFAULT_OPTIONS

from .green import green_threads_of

# Of a worker, to each member of MongoDB: the driver's heartbeat, its measuring of round trips, and a pool. The pool
# holds one connection, because one leader at a time asks for the one event of the tests.
MONITORS = 2
POOLED = 1

# Far above what it takes until each side has noticed that the other has gone.
REST_DEADLINE_S = 20.0
POLL_S = 0.05
LOOKS = 10


@dataclass
class Footprint:
    """What one process holds."""

    threads: int = 0  # of the system
    green_threads: int = 0
    clients: int = 0  # connections of clients to the service
    members: Counter[int] = field(default_factory=Counter)  # connections to MongoDB, by its members' ports
    others: int = 0  # listening, or not connected to anything


class Watch:
    """Knows what the workers of a service held when they were idle, and says what they hold more than that.

    `workers` finds their process ids; they serve on `port`, and MongoDB's members are at `uris`. Made when a worker
    has served its first requests and nobody asks for more. `threads_more_max` is how many threads a worker may
    start for its requests, and keep.
    """

    def __init__(
        self, workers: Callable[[], list[int]], port: int, uris: Sequence[str], *, threads_more_max: int = 0
    ) -> None:
        self._workers = workers
        self._port = port
        self._uris = uris
        self._threads_more_max = threads_more_max
        self._idle = self._least_of_some_looks()

    def leaks(self, deadline_s: float = REST_DEADLINE_S) -> list[str]:
        """What is still held and should have gone, a sentence each. It has so many seconds to go."""
        end_s = time.monotonic() + deadline_s
        while (found := self._surplus()) and time.monotonic() < end_s:
            time.sleep(POLL_S)
        return found

    def _surplus(self) -> list[str]:
        found: list[str] = []
        members: Counter[int] = Counter()
        try:
            for pid in self._workers():
                footprint = footprint_of(pid, self._port)
                members += footprint.members
                found.extend(f"worker {pid} has {more}" for more in self._more_than_idle(footprint))
            kept = sum(_connections_kept_by(uri) for uri in self._uris)
        except (OSError, PyMongoError) as error:
            return [f"not at rest: {error!r}"]
        if kept != members.total():
            found.append(f"MongoDB keeps {kept} connections, the workers {members.total()}")
        return found

    def _more_than_idle(self, footprint: Footprint) -> list[str]:
        idle = self._idle
        found = []
        if footprint.threads > idle.threads + self._threads_more_max:
            found.append(f"{footprint.threads} threads of the system, idle it had {idle.threads}")
        if footprint.green_threads > idle.green_threads:
            found.append(f"{footprint.green_threads} green threads, idle it had {idle.green_threads}")
        if footprint.clients:
            found.append(f"{footprint.clients} connections of clients, who have all gone")
        if footprint.others > idle.others:
            found.append(f"{footprint.others} other sockets, idle it had {idle.others}")
        for port, count in footprint.members.items():
            if count > MONITORS + POOLED:
                found.append(f"{count} connections to MongoDB at {port}")
        return found

    def _least_of_some_looks(self) -> Footprint:
        """What a warm worker holds for good: whatever ends meanwhile would hide a leak of its kind."""
        idle = eventually(self._warm_workers)[0]
        for _ in range(LOOKS):
            time.sleep(POLL_S)
            now = eventually(self._warm_workers)[0]
            idle.threads, idle.others = min(idle.threads, now.threads), min(idle.others, now.others)
            idle.green_threads = min(idle.green_threads, now.green_threads)
        return idle

    def _warm_workers(self) -> list[Footprint]:
        """Workers that have asked MongoDB for something, with all that this starts in the background."""
        footprints = []
        for pid in self._workers():
            with suppress(OSError):  # it has not loaded the app yet
                footprints.append(footprint_of(pid, self._port))
        warm = MONITORS * len(self._uris) + POOLED
        return [each for each in footprints if each.members.total() >= warm and not each.clients]


def footprint_of(pid: int, port: int) -> Footprint:
    """What a process holds that serves on `port`. Raises OSError when it has ended, or does not serve yet."""
    # The green threads first: to be asked for them is a connection too, and gone with the answer.
    footprint = Footprint(green_threads=green_threads_of(pid), threads=len(os.listdir(f"/proc/{pid}/task")))
    # The open files first: a connection that is made meanwhile is not among them.
    sockets = _sockets_of(pid)
    ports = _ports_by_inode()
    for inode in sockets:
        local, remote = ports.get(inode, (0, 0))
        if not remote:
            footprint.others += 1
        elif local == port:
            footprint.clients += 1
        else:
            footprint.members[remote] += 1
    return footprint


def _sockets_of(pid: int) -> list[str]:
    """The inodes of the sockets that a process has open."""
    links = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            pass  # closed since it was listed
    return [link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:[")]


def _ports_by_inode() -> dict[str, tuple[int, int]]:
    """The local and the remote port (0: it listens) of each TCP socket of this machine."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return {row[9]: (int(row[1].rpartition(":")[2], 16), int(row[2].rpartition(":")[2], 16)) for row in rows}


def _connections_kept_by(uri: str) -> int:
    """How many connections of the service a mongod has. `serverStatus` would count those of its own kind too."""
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True, "idleConnections": True}},
        {"$match": {"appName": DEFAULT_OPTIONS["appname"]}},
    ]
    with MongoClient[dict[str, Any]](uri, directConnection=True) as client:
        return len(list(client.admin.aggregate(pipeline)))
