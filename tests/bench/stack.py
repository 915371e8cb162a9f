"""The processes of a benchmark: the service as it is shipped, bare Flask beside it, and wrk that asks them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from pymongo import MongoClient
from pymongo.database import Database

from tests.ports import free_port
from tests.service.running import Service, children_of, eventually, outer_environ
from ticketing.storage.ledger import COLLECTION

SERVICE, BASELINE, SAME_WORKER = "service", "bare Flask", "bare Flask on the service's worker"
SCRIPT = Path(__file__).parent / "load.lua"
CREDENTIALS = ("admin", "a password for the bench")
AUTHORIZATION = "Basic " + base64.b64encode(":".join(CREDENTIALS).encode()).decode()
NO_LIMIT = "1000000000/minute"
SETTINGS: dict[str, Any] = {
    "BASIC_AUTH_USERNAME": CREDENTIALS[0],
    "BASIC_AUTH_PASSWORD": CREDENTIALS[1],
    "RATELIMIT_DEFAULT": NO_LIMIT,
    "RATELIMIT_BOOK": NO_LIMIT,
    "STATE_ORDERS_MAX": "10000000",
    "LOG_FORMAT": "json",
}
BASELINE_GTHREAD = ["-w", "2", "-k", "gthread", "--threads", "16", "--log-level", "warning"]
BASELINE_SAME_WORKER = ["-c", "python:ticketing.gunicorn_conf", "--log-level", "warning"]
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The benchmark cannot run here, or what it measured is worth nothing. The message is for who started it."""


@dataclass(frozen=True)
class Load:
    """What wrk sends: see load.lua."""

    kind: str
    events: str
    run: str
    first: int = 0


@dataclass(frozen=True)
class Outcome:
    """What wrk says of a run, and the seconds of processor that it took for itself."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    wrk_cpu_s: float


@dataclass(frozen=True)
class Usage:
    """What was used up to a moment: seconds of processor, and what MongoDB did."""

    server_cpu_s: float
    workers_cpu_s: tuple[float, ...]
    mongod_cpu_s: float
    commits: int  # in the ledgers
    transitions: int  # in them
    lost: int  # commits whose place in the ledger another worker had taken
    reads: int


KNOWN_LOOKS = 20
KNOWN_DEADLINE_S = 120.0


class Stack:
    """The service in a folder of its own, with its MongoDB, and bare Flask twice. A context manager.

    `workers` is the service's WEB_CONCURRENCY.
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self._folder = folder
        self._service = Service(folder, **SETTINGS, WEB_CONCURRENCY=str(workers))
        self._baselines: dict[str, subprocess.Popen[bytes]] = {}
        self.urls = {SERVICE: self._service.url}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._baselines.values():
            process.terminate()
            process.wait()
        self._service.clean_up()

    def _start(self) -> None:
        self._service.start().wait_until_serving()
        self._mongod_pid: int = self._note("embedded")["mongod_pid"]
        self._gunicorn_pid: int = self._note("service")["gunicorn_pid"]
        uri = self._note("embedded")["uri"]
        self.database: Database[dict[str, Any]] = MongoClient(uri)["ticketing"]
        self._start_baseline(BASELINE, BASELINE_GTHREAD, uri)
        self._start_baseline(SAME_WORKER, BASELINE_SAME_WORKER, uri)

    def _note(self, name: str) -> dict[str, Any]:
        note: dict[str, Any] = json.loads((self._folder / "var" / f"{name}.json").read_text())
        return note

    def _start_baseline(self, name: str, arguments: list[str], uri: str) -> None:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments, "-b", f"127.0.0.1:{port}", "tests.bench.baseline:app"],
            cwd=self._folder,
            env={**outer_environ(), "MONGODB_URI": uri, "DATA_DIR": "baseline", "PORT": str(port)},
        )
        self._baselines[name] = process
        self.urls[name] = f"http://127.0.0.1:{port}"
        eventually(lambda: len(children_of(process.pid)) >= 2 and _listens(port))

    def drive(self, target: str, load: Load, connections: int, seconds: float) -> Outcome:
        """Send `load` to one of `urls` and return what came of it."""
        command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds:g}s", "--timeout", "15s"]
        arguments = [load.kind, load.events, load.run, str(load.first), AUTHORIZATION]
        before = os.times()
        run = subprocess.run(
            [*command, "-s", str(SCRIPT), self.urls[target], "--", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        after = os.times()
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        return Outcome(**json.loads(run.stdout.splitlines()[-1]), wrk_cpu_s=cpu_s)

    def wait_until_known(self, event_id: str) -> None:
        """Until looks at the event, on connections of their own, are answered at once by whichever worker takes them.

        A long ledger takes a worker longer to read than a run, or a request, lasts.
        """
        end_s, in_a_row = time.monotonic() + KNOWN_DEADLINE_S, 0
        while in_a_row < KNOWN_LOOKS and time.monotonic() < end_s:
            began_s = time.monotonic()
            answer = httpx.get(f"{self.urls[SERVICE]}/status/{event_id}", timeout=15)
            is_known = answer.status_code == 200 and time.monotonic() - began_s < 1
            in_a_row = in_a_row + 1 if is_known else 0
        if in_a_row < KNOWN_LOOKS:
            raise TimeoutError(f"{event_id} is not known to all workers in time")

    def usage(self, target: str, event_id: str) -> Usage:
        """What the server of one of `urls`, and MongoDB, have used, and what is in the ledgers of a run's events."""
        counters = self.database.client.admin.command("serverStatus")["opcounters"]
        length = {"$add": [{"$subtract": ["$last", "$first"]}, 1]}
        ledgers = self.database[COLLECTION].aggregate(
            [
                {"$match": {"_id": {"$gte": event_id, "$lt": f"{event_id}~"}}},  # "~" follows all characters of an id
                {"$group": {"_id": None, "commits": {"$sum": 1}, "transitions": {"$sum": length}}},
            ]
        )
        held = next(ledgers, {"commits": 0, "transitions": 0})
        master_cpu_s, *workers_cpu_s = map(cpu_s, self._pids(target))
        return Usage(
            server_cpu_s=master_cpu_s + sum(workers_cpu_s),
            workers_cpu_s=tuple(workers_cpu_s),
            mongod_cpu_s=cpu_s(self._mongod_pid),
            commits=held["commits"],
            transitions=held["transitions"],
            lost=self._lost_races(),
            reads=counters["query"],
        )

    def _lost_races(self) -> int:
        """As the service counts them: MongoDB's own count has what else is inserted, segments too."""
        lines = httpx.get(f"{self.urls[SERVICE]}/metrics", timeout=15).text.splitlines()
        (line,) = (line for line in lines if line.startswith("ticketing_lost_races_total "))
        return int(float(line.partition(" ")[2]))

    def reset_peaks(self, target: str) -> None:
        """Let the peaks of memory begin anew."""
        for pid in self._pids(target):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_mb(self, target: str) -> float:
        """The most memory that one of the workers has had in use."""
        return max(peak_mb(pid) for pid in self._pids(target)[1:])

    def _pids(self, target: str) -> list[int]:
        master = self._gunicorn_pid if target == SERVICE else self._baselines[target].pid
        return [master, *children_of(master)]


def require_wrk() -> None:
    """Raise `BenchError` where the load generator is missing."""
    if shutil.which("wrk") is None:
        raise BenchError("The benchmark needs wrk, a load generator. On Debian and Ubuntu: apt-get install wrk")


def cpu_s(pid: int) -> float:
    """The seconds of processor that a process has taken, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def peak_mb(pid: int) -> float:
    """The most memory that a process has had in use, in MB."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def describe_machine(database: Database[dict[str, Any]]) -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "processor": cpu.partition(": ")[2],
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory) * 1024 / 1e9, 1),
        "kernel": os.uname().release.partition("-")[0],
        "python": sys.version.split()[0],
        "mongod": database.client.server_info()["version"],
    }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
