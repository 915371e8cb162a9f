"""A replica set of three real mongods on loopback, and what can happen to its members."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, PyMongoError

from tests.ports import free_port
from tests.service.running import eventually
from ticketing.embedded import find_mongod

NAME = "faults"
ELECTION_TIMEOUT_MS = int(os.environ.get("ELECTION_TIMEOUT_MS", 2_000))  # as in compose.yaml; MongoDB's own is 10 s


class Member:
    """One mongod."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder / f"member-{number}"
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again on the same data."""
        command: list[str | Path] = [
            find_mongod(), "--replSet", NAME, "--bind_ip", "127.0.0.1", "--port", str(self.port),
            "--dbpath", str(self.folder), "--logpath", str(self.folder / "log"), "--logappend",
            "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "990", "--nounixsocket",
            # The journal takes what is written: by itself each member sets 300 MB aside.
            "--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP, until all of its threads have stopped: its connections stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        pid = self._process.pid
        eventually(lambda: os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def client(self) -> MongoClient[dict[str, Any]]:
        """A client of this member alone."""
        return MongoClient(
            self.address, directConnection=True, serverSelectionTimeoutMS=1_000, socketTimeoutMS=2_000
        )

    def is_primary(self) -> bool:
        """Whether it says so."""
        try:
            with self.client() as client:
                return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


class ReplicaSet:
    """Three members, started and ended together."""

    def __init__(self, folder: Path) -> None:
        self.members = [Member(folder, number) for number in range(3)]

    def __enter__(self) -> ReplicaSet:
        for member in self.members:
            member.start()
        members = [{"_id": number, "host": member.address} for number, member in enumerate(self.members)]
        config = {"_id": NAME, "members": members, "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT_MS}}
        with self.members[0].client() as client:
            eventually(lambda: _succeeds(client, {"replSetInitiate": config}))
        self.primary()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for member in self.members:
            member.thaw() if member._process and member._process.poll() is None else None
            member.kill()

    @property
    def uri(self) -> str:
        """For a client that finds the primary by itself."""
        addresses = ",".join(member.address for member in self.members)
        return f"mongodb://{addresses}/?replicaSet={NAME}"

    def primary(self, other_than: Member | None = None) -> Member:
        """The member that takes writes, as soon as there is one; or as soon as another one does."""
        others = [member for member in self.members if member is not other_than]
        (primary,) = eventually(lambda: [member for member in others if member.is_primary()][:1])
        return primary

    def secondaries(self) -> list[Member]:
        """The other two."""
        primary = self.primary()
        return [member for member in self.members if member is not primary]

    def step_down(self) -> None:
        """Ask the primary to let another be it."""
        with self.primary().client() as client:
            try:
                client.admin.command({"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5})
            except AutoReconnect:
                pass  # it closes the connections of its clients


@contextmanager
def frozen(*members: Member) -> Iterator[None]:
    """Members are frozen while the block runs, and thaw however it ends."""
    try:
        for member in members:
            member.freeze()
        yield
    finally:
        for member in members:
            member.thaw()


def _succeeds(client: MongoClient[dict[str, Any]], command: dict[str, Any]) -> bool:
    try:
        client.admin.command(command)
    except PyMongoError:
        return False
    return True
