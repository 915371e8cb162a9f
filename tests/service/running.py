"""Runs the service as its users do, `python -m ticketing` in a folder of its own, and watches it."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent

Value = TypeVar("Value")

DEADLINE_S = 60.0
"""Far above what anything here takes on a busy machine: a test that waits so long has failed."""

SAID_LAST = 5_000
"""Characters that are printed, for whoever looks into a failure."""

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP. By itself httpx reads all certificate authorities for each client: 25 ms of work."""


class Service:
    """One `python -m ticketing` in `folder`, on a free port. Its output is kept in `output`.

    In a session of its own, so that a test can do what Ctrl-C in a terminal does: signal the whole group.
    """

    def __init__(self, folder: Path, *, command: list[str] | None = None, **environ: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._command = command or [sys.executable, "-m", "ticketing"]
        self.url = f"http://127.0.0.1:{self.port}"
        self._output_path = folder / "output.txt"
        self._environ = {**outer_environ(), "PORT": str(self.port), **environ}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, stdin: int = subprocess.DEVNULL) -> Service:
        """Start it, without waiting for anything. It may be started again after its end."""
        with self._output_path.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._environ,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        """The process id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far, over all its starts in this folder."""
        return self._output_path.read_text()

    def wait_until_serving(self, times: int = 1) -> Service:
        """Wait until it has said so, for the `times`-th time in this folder."""
        eventually(lambda: self.output.count("ticketing: serving at") >= times or self._has_ended())
        assert not self._has_ended(), self.output
        return self

    def wait_until_output_has(self, text: str) -> None:
        """Wait until it has printed `text`."""
        eventually(lambda: text in self.output)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM to the supervisor alone."""
        self.signal(signal.SIGTERM)

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the whole process group, as a terminal does."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self) -> int:
        """Wait for its end and return the exit status."""
        assert self._process is not None
        return self._process.wait(DEADLINE_S)

    def stop(self) -> int:
        """Tell it to stop, and wait for that."""
        self.terminate()
        return self.wait()

    def is_healthy(self) -> bool:
        """Whether it answers."""
        try:
            return self.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def processes(self) -> list[int]:
        """The process ids of all that runs here: the supervisor, mongod, gunicorn and its workers."""
        return processes_of(self.folder)

    def get(self, path: str) -> httpx.Response:
        """GET a path of the service."""
        return httpx.get(self.url + path, timeout=DEADLINE_S, verify=NO_TLS)

    def clean_up(self) -> None:
        """End whatever is left of it, so that a failed test does not disturb the next ones; print what it said."""
        for pid in self.processes():
            kill(pid)
        if self._process is not None:
            self._process.wait(DEADLINE_S)
        eventually(lambda: not self.processes())
        if self._output_path.exists():
            print(self.output[-SAID_LAST:])

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


def outer_environ() -> dict[str, str]:
    """The environment for a process of the service that runs in another folder, with this source tree."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python (`-m …`) in `folder` to its end and return it with its output."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**outer_environ(), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def processes_of(folder: Path) -> list[int]:
    """The process ids of all processes that run in `folder` or were started with it in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _belongs_to(entry, folder):
            found.append(int(entry.name))
    return sorted(found)


def children_of(pid: int) -> list[int]:
    """The process ids of the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill(pid: int) -> None:
    """SIGKILL: what the kernel does when memory runs out."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def eventually(ask: Callable[[], Value], deadline_s: float = DEADLINE_S) -> Value:
    """Ask until the answer is true, and return it. Fails the test when it is not in time."""
    end_s = time.monotonic() + deadline_s
    while not (answer := ask()):
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)
    return answer


def _belongs_to(entry: Path, folder: Path) -> bool:
    try:
        if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        command = (entry / "cmdline").read_bytes().split(b"\0")
        return (entry / "cwd").readlink() == folder or any(str(folder).encode() in word for word in command)
    except OSError:
        # It ended while we looked.
        return False
