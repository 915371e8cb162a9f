"""The embedded MongoDB: a real `mongod` on loopback, a replica set of one, its data in our data folder.

`connect_or_start` is for who only wants a URI. `EmbeddedMongod` is for who looks after the process itself:
the supervisor (`ticketing.serve`) and the tests.

A replica set of one, so that read and write concerns mean the same here as in production. The data folder
holds `mongo/` (the database, mode 700), `mongod.log`, and `embedded.lock` with `embedded.json` beside it,
which tells other processes the URI. No threads in here: the owner asks `is_running` when it likes.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ticketing import tether
from ticketing.config import Config
from ticketing.errors import ConfigError
from ticketing.locks import FolderLock, is_locked

Document = dict[str, Any]

REPLICA_SET = "ticketing"

START_DEADLINE_S = 60.0
"""One or two seconds are usual. Replaying the journal after a crash on a slow disk takes longest."""

STOP_GRACE_S = 30.0
"""A clean stop writes a checkpoint: about a second. After this long, SIGKILL: the journal has everything."""

LEAVE_DEADLINE_S = 30.0
"""How long a mongod whose owner was killed may take to leave the data folder."""

CACHE_GB = 0.5
"""Left alone, mongod takes half of the machine's memory. Here the state of the events lives in the workers:
mongod appends, and reads the ends of ledgers. What it does not take serves it as the file system's cache."""

OPLOG_MB = 990
"""Left alone, 5 % of the free disk, up to 50 GB, with no second member to read it. This is mongod's least."""

LOG_BYTES_MAX = 10_000_000

_EXIT_PORT_TAKEN = 48
_EXIT_DATABASE_TAKEN = 100
_POLL_S = 0.02
_PORT_ATTEMPTS = 5


class EmbeddedError(ConfigError):
    """The embedded mongod cannot run here. The message is for the operator."""


class DataFolderInUse(EmbeddedError):
    """Another process of this service owns the mongod of this data folder."""


class _PortTaken(Exception):
    """Somebody took the port between our choosing it and mongod's binding it."""


def connect_or_start(config: Config) -> str:
    """Return the URI of the MongoDB to use: the configured one, a running service's, or our own.

    Our own is stopped when this process exits. Call it in the main thread (see `tether`) of a process that is
    not about to fork and end. Raises EmbeddedError.
    """
    if config.mongodb_uri is not None:
        return config.mongodb_uri
    mongod = EmbeddedMongod(config.data_dir)
    deadline_s = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            uri = mongod.start()
        except DataFolderInUse:
            # The owner may still be starting, or ending: ask again until it answers or we can be the owner.
            if running := mongod.find_running():
                return running
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)
        else:
            atexit.register(mongod.stop)
            return uri


def find_mongod() -> Path:
    """Return the mongod binary, from PATH or else from the wheel. Raises EmbeddedError when there is none."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    # find_spec finds the wheel's folder without running any code of it.
    wheel = importlib.util.find_spec("fiftyone")
    folders = wheel.submodule_search_locations if wheel else None
    for folder in folders or ():
        binary = Path(folder, "db", "bin", "mongod")
        if os.access(binary, os.X_OK):
            return binary
    raise EmbeddedError(
        "There is no mongod on this machine: install MongoDB 6.0 or later so that `mongod` is on PATH, "
        "or set MONGODB_URI to a MongoDB that runs elsewhere."
    )


class EmbeddedMongod:
    """One mongod, owned by this process from `start` to `stop`.

    Should this process be killed, the kernel ends it. Not thread-safe. `start` belongs in the main thread:
    mongod ends with the thread that started it. A forked child owns nothing: there, `stop` does nothing.
    """

    def __init__(self, data_dir: str | Path) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.log_path = self.data_dir / "mongod.log"
        self.database_dir = self.data_dir / "mongo"
        self._lock = FolderLock(self.data_dir, "embedded")
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._owner_pid: int | None = None

    @property
    def uri(self) -> str:
        """Where clients reach it. directConnection: in a replica set of one there is nothing to discover."""
        return _uri(self._port)

    @property
    def pid(self) -> int | None:
        """The process id of mongod, None when it was not started here or was stopped."""
        return self._process.pid if self._process else None

    def is_running(self) -> bool:
        """Whether mongod was started here and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start mongod, wait until it takes writes, and return its URI.

        Raises DataFolderInUse, or EmbeddedError: no binary, a foreign mongod on the data folder, or mongod
        fails.
        """
        binary = find_mongod()
        self._take_folder()
        try:
            self._wait_for_old_mongod()
            self._launch_on_free_port(binary)
        except BaseException:
            self.stop()
            raise
        return self.uri

    def restart(self) -> None:
        """Start mongod again after it died, on the port where clients look for it. Raises EmbeddedError."""
        try:
            self._launch(find_mongod(), self._port)
        except _PortTaken:
            raise EmbeddedError(f"The port {self._port} of the mongod that died has been taken.") from None

    def stop(self) -> None:
        """Stop mongod cleanly and leave the data folder. Does nothing when this process did not start it."""
        if self._owner_pid != os.getpid():
            return
        if self._process is not None:
            _end(self._process)
            self._process = None
        self._lock.release()
        self._owner_pid = None

    def find_running(self) -> str | None:
        """Return the URI of the mongod that another process runs here, None if none answers."""
        uri = self._lock.read_note().get("uri")
        if uri is None:
            return None
        with MongoClient[Document](uri, serverSelectionTimeoutMS=1000) as client:
            return str(uri) if _takes_writes(client) else None

    def __enter__(self) -> EmbeddedMongod:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _take_folder(self) -> None:
        try:
            if not self._lock.acquire():
                owner = self._lock.read_note().get("owner_pid", "unknown")
                raise DataFolderInUse(
                    f"Another service (process {owner}) runs its mongod on the data folder {self.data_dir}: "
                    "stop it, or set DATA_DIR to another folder."
                )
            self._owner_pid = os.getpid()
            # The note of the last owner: its URI leads nowhere now, its port and process id we still need.
            self._lock.write_note({**self._lock.read_note(), "uri": None, "owner_pid": os.getpid()})
            self.database_dir.mkdir(mode=0o700, exist_ok=True)
            self.database_dir.chmod(0o700)
            if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))
        except OSError as error:
            self.stop()
            reason = error.strerror
            raise EmbeddedError(f"The data folder {self.data_dir} cannot be used: {reason}.") from error

    def _wait_for_old_mongod(self) -> None:
        """Wait for a mongod whose owner was killed to leave. Raises EmbeddedError for a foreign one.

        Every mongod holds a flock on its `mongod.lock` and writes its process id there; our note has that of
        our last one.
        """
        mongod_lock = self.database_dir / "mongod.lock"
        # One that ends empties its file before it lets go of it, and is nobody's for a moment.
        _wait_until(lambda: not is_locked(mongod_lock) or bool(mongod_lock.read_text().strip()), LEAVE_DEADLINE_S)
        if not is_locked(mongod_lock):
            return
        holder = mongod_lock.read_text().strip()
        if holder != str(self._lock.read_note().get("mongod_pid")):
            raise self._foreign_mongod(holder)
        # The kernel told it already, but not where there is no prctl.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(holder), signal.SIGTERM)
        if not _wait_until(lambda: not is_locked(mongod_lock), LEAVE_DEADLINE_S):
            raise EmbeddedError(
                f"The mongod of an earlier run (process {holder}) does not leave {self.database_dir}: end it."
            )

    def _foreign_mongod(self, holder: str) -> EmbeddedError:
        return EmbeddedError(
            f"A mongod that this service did not start (process {holder or 'unknown'}) uses "
            f"{self.database_dir}: stop it, set DATA_DIR to another folder, or set MONGODB_URI to use it."
        )

    def _launch_on_free_port(self, binary: Path) -> None:
        # The last port first: the replica set's configuration names it.
        port = self._lock.read_note().get("port", 0)
        for _ in range(_PORT_ATTEMPTS):
            try:
                return self._launch(binary, _free_port(port))
            except _PortTaken:
                port = 0
        raise EmbeddedError(f"Found no free port for mongod on 127.0.0.1 in {_PORT_ATTEMPTS} attempts.")

    def _launch(self, binary: Path, port: int) -> None:
        with self.log_path.open("ab") as log:
            self._process = tether.start(self._command(binary, port), output=log)
        self._port = port
        note = {"port": port, "mongod_pid": self._process.pid, "owner_pid": os.getpid()}
        self._lock.write_note(note)
        ready = self._wait_until_it_takes_writes()
        if not self.is_running():
            self._raise_for_exit(self._process.returncode)
        if not ready:
            raise EmbeddedError(f"mongod takes no writes after {START_DEADLINE_S:g} s: see {self.log_path}.")
        self._lock.write_note({**note, "uri": self.uri})

    def _wait_until_it_takes_writes(self) -> bool:
        """Wait for that, or for the end of mongod, or START_DEADLINE_S; return whether it does."""
        end_s = time.monotonic() + START_DEADLINE_S
        _wait_until(lambda: not self.is_running() or _accepts(self._port), START_DEADLINE_S)
        member = f"127.0.0.1:{self._port}"
        with MongoClient[Document](self.uri, serverSelectionTimeoutMS=1000) as client:
            return _wait_until(
                lambda: not self.is_running() or _takes_writes(client, member), end_s - time.monotonic()
            )

    def _command(self, binary: Path, port: int) -> list[str | Path]:
        options: dict[str, str | Path | int | float] = {
            "--replSet": REPLICA_SET,
            "--bind_ip": "127.0.0.1",
            "--port": port,
            "--dbpath": self.database_dir,
            "--logpath": self.log_path,
            "--wiredTigerCacheSizeGB": CACHE_GB,
            "--oplogSize": OPLOG_MB,
        }
        pairs = [word for name, value in options.items() for word in (name, str(value))]
        # No socket file in /tmp: two services with different users would fight over it.
        return [binary, *pairs, "--logappend", "--nounixsocket"]

    def _raise_for_exit(self, status: int) -> None:
        if status == _EXIT_PORT_TAKEN:
            raise _PortTaken
        if status == _EXIT_DATABASE_TAKEN and is_locked(self.database_dir / "mongod.lock"):
            raise self._foreign_mongod((self.database_dir / "mongod.lock").read_text().strip())
        # mongod's own lines are JSON. Any other is of the system's loader, or about an option.
        last = self.log_path.read_text(errors="replace").rstrip().rpartition("\n")[2]
        reason = f"{self.log_path} says why" if last.startswith("{") else last
        raise EmbeddedError(f"mongod ended at its start with status {status}: {reason}.")


def _takes_writes(client: MongoClient[Document], member: str | None = None) -> bool:
    """Whether mongod takes writes. With `member` (host:port), do what is missing on the way there."""
    try:
        if client.admin.command("hello")["isWritablePrimary"]:
            return True
        if member is not None:
            _configure_replica_set(client, member)
    except PyMongoError:
        # It is starting, replaying or electing: refusals are what there is to wait for.
        pass
    return False


def _configure_replica_set(client: MongoClient[Document], member: str) -> None:
    """Make the replica set, or give its one member the address that it has now. Raises PyMongoError."""
    present = client.local["system.replset"].find_one()
    members = [{"_id": 0, "host": member}]
    if present is None:
        client.admin.command({"replSetInitiate": {"_id": REPLICA_SET, "members": members}})
    elif [{"_id": m["_id"], "host": m["host"]} for m in present["members"]] != members:
        changed = {**present, "members": members, "version": present["version"] + 1}
        # force: with the old address the member is not in its own set, so there is no primary to ask.
        client.admin.command({"replSetReconfig": changed, "force": True})


def _uri(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"


def _free_port(preferred: int) -> int:
    """Return the preferred port if it is free, else another that is."""
    with socket.socket() as probe:
        # As mongod does: connections of the last run that linger in TIME_WAIT do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    """Whether somebody listens. A client would wait half a second between its attempts."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Ask `condition` until it is true or `deadline_s` seconds have passed; return what it said last."""
    end_s = time.monotonic() + deadline_s
    while not (reached := condition()) and time.monotonic() < end_s:
        time.sleep(_POLL_S)
    return reached
