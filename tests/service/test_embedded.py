"""The embedded mongod: found, started, restarted and stopped, and told apart from everybody else's."""

from __future__ import annotations

import fcntl
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.ports import free_port
from tests.service.running import children_of, eventually, kill, outer_environ, processes_of, run
from ticketing import embedded, locks, tether
from ticketing.config import Config
from ticketing.embedded import DataFolderInUse, EmbeddedError, EmbeddedMongod, connect_or_start, find_mongod

pytestmark = pytest.mark.usefixtures("measured_processes")

Document = dict[str, Any]

OWNER = """
import sys, time
from ticketing.config import Config
from ticketing.embedded import connect_or_start
print(connect_or_start(Config(data_dir=sys.argv[1])), flush=True)
sys.stdin.read()
"""
"""A process that gets its MongoDB as the flask commands do, and lives until its standard input is closed."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder. Nothing that runs on it outlives the test."""
    yield tmp_path / "var"
    left = processes_of(tmp_path / "var")
    for pid in left:
        kill(pid)
    assert not left, "the test left processes behind"


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop mongod by SIGKILL where a clean end, which takes a second, is not what is tried."""
    monkeypatch.setattr(embedded, "STOP_GRACE_S", 0)


@pytest.fixture
def start_owner(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start other processes that use the data folder through `connect_or_start`."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OWNER, str(folder)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=outer_environ(), stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said_uri(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def insert(uri: str) -> None:
    with MongoClient[Document](uri) as client:
        client.test.things.insert_one({})


def count(uri: str) -> int:
    with MongoClient[Document](uri) as client:
        return client.test.things.count_documents({})


def port_of(uri: str) -> int:
    with MongoClient[Document](uri) as client:
        address = client.address
    assert address is not None
    return int(address[1])


class TestStartAndStop:
    def test_it_is_a_primary_on_loopback_with_a_private_data_folder(self, folder: Path) -> None:
        """Writes work at once, and no other user reads the files."""
        with EmbeddedMongod(folder) as mongod, MongoClient[Document](mongod.uri) as client:
            hello = client.admin.command("hello")
            assert hello["setName"] == embedded.REPLICA_SET
            assert hello["isWritablePrimary"]
            options = client.admin.command("getCmdLineOpts")["parsed"]
            assert options["net"]["bindIp"] == "127.0.0.1"
            assert mongod.database_dir.stat().st_mode & 0o777 == 0o700

    def test_its_data_and_its_port_are_kept(self, folder: Path) -> None:
        """What was written in one run is there in the next, at the same address."""
        with EmbeddedMongod(folder) as mongod:
            insert(mongod.uri)
            first = mongod.uri
        with EmbeddedMongod(folder) as mongod:
            assert count(mongod.uri) == 1
            assert mongod.uri == first

    def test_it_moves_to_another_port_when_its_own_is_taken(self, folder: Path) -> None:
        """The replica set's configuration names the old port: it is rewritten, and the data are there."""
        with EmbeddedMongod(folder) as mongod:
            insert(mongod.uri)
            port = port_of(mongod.uri)
        # Bound, not listening: mongod asks the old address whether it is itself, and is refused at once.
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            with EmbeddedMongod(folder) as mongod:
                assert port_of(mongod.uri) != port
                assert count(mongod.uri) == 1
                insert(mongod.uri)

    def test_it_tries_again_when_its_port_is_taken_meanwhile(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between our choosing a port and mongod's binding it, somebody else may take it."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            ports = iter([other.getsockname()[1], free_port()])
            monkeypatch.setattr(embedded, "_free_port", lambda preferred: next(ports))
            with EmbeddedMongod(folder) as mongod:
                insert(mongod.uri)

    def test_it_gives_up_when_every_port_is_taken_meanwhile(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No endless loop."""
        monkeypatch.setattr(embedded, "_PORT_ATTEMPTS", 2)
        with socket.create_server(("127.0.0.1", 0)) as other:
            monkeypatch.setattr(embedded, "_free_port", lambda preferred: other.getsockname()[1])
            with pytest.raises(EmbeddedError, match="no free port"):
                EmbeddedMongod(folder).start()

    def test_stopping_is_clean_and_leaves_nothing(self, folder: Path) -> None:
        """mongod says that it shut down, is gone, and the folder is free for another."""
        mongod = EmbeddedMongod(folder)
        mongod.start()
        mongod.stop()
        assert not mongod.is_running()
        assert mongod.pid is None
        assert '"exitCode":0' in mongod.log_path.read_text()
        assert not processes_of(folder)
        mongod.stop()

    def test_one_that_does_not_stop_is_killed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The journal has everything, so the next start finds all of it."""
        mongod = EmbeddedMongod(folder)
        insert(mongod.start())
        monkeypatch.setattr(embedded, "STOP_GRACE_S", 0.1)
        assert mongod.pid is not None
        os.kill(mongod.pid, signal.SIGSTOP)
        mongod.stop()
        assert not processes_of(folder)
        with EmbeddedMongod(folder) as again:
            assert count(again.uri) == 1

    def test_a_forked_child_does_not_stop_its_parents_mongod(self, folder: Path) -> None:
        """gunicorn's workers run the exit handlers that they inherited."""
        with EmbeddedMongod(folder) as mongod:
            child = os.fork()
            if child == 0:
                mongod.stop()
                os._exit(0)
            os.waitpid(child, 0)
            assert mongod.is_running()

    def test_a_big_log_is_put_aside(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The log grows by some 60 kB a start: it is bounded."""
        monkeypatch.setattr(embedded, "LOG_BYTES_MAX", 10)
        folder.mkdir()
        (folder / "mongod.log").write_text("a line of the past\n")
        with EmbeddedMongod(folder) as mongod:
            assert "a line of the past" not in mongod.log_path.read_text()
        assert (folder / "mongod.log.1").read_text() == "a line of the past\n"


@pytest.mark.usefixtures("hurry")
class TestDeath:
    def test_it_is_restarted_where_it_was(self, folder: Path) -> None:
        """After kill -9: the same port, the same data."""
        with EmbeddedMongod(folder) as mongod:
            insert(mongod.uri)
            uri, pid = mongod.uri, mongod.pid
            assert pid is not None
            kill(pid)
            eventually(lambda: not mongod.is_running())
            mongod.restart()
            assert (mongod.uri, mongod.pid == pid) == (uri, False)
            assert count(uri) == 1

    def test_it_is_not_restarted_elsewhere(self, folder: Path) -> None:
        """Its clients would not find it on another port: the owner has to know."""
        with EmbeddedMongod(folder) as mongod:
            port = port_of(mongod.uri)
            assert mongod.pid is not None
            kill(mongod.pid)
            eventually(lambda: not mongod.is_running())
            with socket.create_server(("127.0.0.1", port)), pytest.raises(EmbeddedError, match=str(port)):
                mongod.restart()

    def test_it_ends_when_its_owner_is_killed_and_the_next_start_finds_the_data(
        self, folder: Path, start_owner: Callable[[], subprocess.Popen[str]]
    ) -> None:
        """The kernel tells mongod. The next start waits for it to leave, even when it takes its time."""
        owner = start_owner()
        insert(said_uri(owner))
        (mongod_pid,) = children_of(owner.pid)
        os.kill(mongod_pid, signal.SIGSTOP)
        owner.kill()
        owner.wait()
        next_owner = start_owner()
        # It has the lock of the folder before it looks for the old mongod.
        note = locks.FolderLock(folder, "embedded").read_note
        eventually(lambda: note().get("owner_pid") == next_owner.pid)
        os.kill(mongod_pid, signal.SIGCONT)
        assert count(said_uri(next_owner)) == 1
        next_owner.communicate()

    def test_one_that_has_just_ended_is_nobody_elses(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """mongod empties its file before it lets go of it. Who looks in between finds a lock of nobody, and waits."""
        lock = folder / "mongo" / "mongod.lock"
        lock.parent.mkdir(parents=True)
        held = os.open(lock, os.O_RDWR | os.O_CREAT)
        fcntl.flock(held, fcntl.LOCK_EX)
        looks: list[bool] = []

        def let_go(seconds: float) -> None:
            looks.append(locks.is_locked(lock))
            fcntl.flock(held, fcntl.LOCK_UN)

        monkeypatch.setattr("ticketing.embedded.time.sleep", let_go)
        EmbeddedMongod(folder)._wait_for_old_mongod()
        assert looks == [True]
        os.close(held)

    def test_an_old_mongod_that_stays_is_told(
        self, folder: Path, start_owner: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One sentence with its process id, instead of waiting for ever."""
        owner = start_owner()
        said_uri(owner)
        (mongod_pid,) = children_of(owner.pid)
        os.kill(mongod_pid, signal.SIGSTOP)
        owner.kill()
        owner.wait()
        monkeypatch.setattr(embedded, "LEAVE_DEADLINE_S", 0.1)
        with pytest.raises(EmbeddedError, match=f"process {mongod_pid}"):
            EmbeddedMongod(folder).start()
        kill(mongod_pid)
        eventually(lambda: not processes_of(folder))


@pytest.mark.usefixtures("hurry")
class TestOthersOnTheFolder:
    def test_a_second_owner_is_refused(self, folder: Path) -> None:
        """The message names the process that is in the way."""
        with EmbeddedMongod(folder), pytest.raises(DataFolderInUse, match=f"process {os.getpid()}"):
            EmbeddedMongod(folder).start()

    def test_a_foreign_mongod_is_told_apart(self, folder: Path) -> None:
        """It is not ours to stop, nor to use unasked: the operator hears of it."""
        database_dir = folder / "mongo"
        database_dir.mkdir(parents=True)
        command = f"{find_mongod()} --dbpath {database_dir} --port {free_port()} --bind_ip 127.0.0.1"
        foreign = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL)
        try:
            eventually((database_dir / "mongod.lock").exists)
            eventually(lambda: (database_dir / "mongod.lock").read_text().strip() == str(foreign.pid))
            with pytest.raises(EmbeddedError, match=f"did not start.*process {foreign.pid}"):
                EmbeddedMongod(folder).start()
        finally:
            foreign.kill()
            foreign.wait()

    def test_a_foreign_mongod_that_came_in_between_is_told_apart(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """mongod itself finds the folder taken, and says so by its exit status."""
        with EmbeddedMongod(folder) as first:
            second = EmbeddedMongod(folder)
            monkeypatch.setattr(second, "_lock", locks.FolderLock(folder, "another"))
            monkeypatch.setattr(second, "_wait_for_old_mongod", lambda: None)
            with pytest.raises(EmbeddedError, match=f"did not start.*process {first.pid}"):
                second.start()

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path: Path) -> None:
        """A sentence with the reason, not a traceback."""
        (tmp_path / "var").write_text("a file")
        with pytest.raises(EmbeddedError, match="cannot be used: "):
            EmbeddedMongod(tmp_path / "var").start()


@pytest.mark.usefixtures("hurry")
class TestConnectOrStart:
    def test_a_configured_uri_is_taken_as_it_is(self) -> None:
        """Nothing is started, nothing is asked."""
        assert connect_or_start(Config(mongodb_uri="mongodb://db.example")) == "mongodb://db.example"

    def test_it_attaches_to_the_mongod_that_runs(self, folder: Path) -> None:
        """A flask command finds the database of the service that runs in the same folder."""
        with EmbeddedMongod(folder) as mongod:
            assert connect_or_start(Config(data_dir=str(folder))) == mongod.uri

    def test_processes_that_start_together_share_one(
        self, folder: Path, start_owner: Callable[[], subprocess.Popen[str]]
    ) -> None:
        """One becomes the owner, the other waits until it answers. The owner stops it at its own exit."""
        first, second = start_owner(), start_owner()
        assert said_uri(first) == said_uri(second)
        for process in (first, second):
            process.communicate()
            assert process.returncode == 0
        assert not processes_of(folder)

    def test_an_owner_that_never_answers_is_told(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Waiting has an end."""
        monkeypatch.setattr(embedded, "START_DEADLINE_S", 0.1)
        lock = locks.FolderLock(folder, "embedded")
        assert lock.acquire()
        with pytest.raises(DataFolderInUse):
            connect_or_start(Config(data_dir=str(folder)))
        lock.release()

    def test_it_does_not_attach_to_a_mongod_that_does_not_answer(self, folder: Path) -> None:
        """The note may name a mongod that is just being stopped."""
        folder.mkdir()
        locks.FolderLock(folder, "embedded").write_note({"uri": f"mongodb://127.0.0.1:{free_port()}"})
        assert EmbeddedMongod(folder).find_running() is None


class TestTheBinary:
    def test_the_one_on_the_path_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A system's own MongoDB is newer than the wheel's."""
        own = tmp_path / "mongod"
        own.write_text("#!/bin/sh\n")
        own.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_mongod() == own

    def test_the_wheel_is_found_without_being_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is a requirement on Linux x86-64; its package is not ours to run."""
        monkeypatch.setenv("PATH", "")
        assert find_mongod().parts[-4:] == ("fiftyone", "db", "bin", "mongod")
        assert "fiftyone" not in sys.modules

    @pytest.mark.parametrize("found", [None, "a package without it"])
    def test_a_missing_one_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
    ) -> None:
        """The message says what to install or set."""
        monkeypatch.setenv("PATH", "")
        spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]}) if found else None
        monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
        with pytest.raises(EmbeddedError, match="install MongoDB.*MONGODB_URI"):
            EmbeddedMongod(tmp_path).start()

    @pytest.mark.parametrize(
        ("prints", "says"), [("no such library", "no such library"), ('{"s": "F"}', r"mongod\.log says why")]
    )
    def test_one_that_fails_is_told_with_the_reason(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, prints: str, says: str
    ) -> None:
        """The loader's line when a library is missing, else where mongod's own lines are."""
        broken = tmp_path / "mongod"
        broken.write_text(f"#!/bin/sh\necho '{prints}'\nexit 127\n")
        broken.chmod(0o755)
        monkeypatch.setattr(embedded, "find_mongod", lambda: broken)
        with pytest.raises(EmbeddedError, match=f"status 127: .*{says}"):
            EmbeddedMongod(folder).start()

    def test_one_that_never_takes_writes_is_told(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Waiting has an end, and the process is not left behind."""
        idle = tmp_path / "mongod"
        idle.write_text("#!/bin/sh\nexec sleep 600\n")
        idle.chmod(0o755)
        monkeypatch.setattr(embedded, "find_mongod", lambda: idle)
        monkeypatch.setattr(embedded, "START_DEADLINE_S", 0.5)
        with pytest.raises(EmbeddedError, match="takes no writes"):
            EmbeddedMongod(folder).start()


class TestLocks:
    def test_a_forked_child_does_not_hold_its_parents_lock(self, tmp_path: Path) -> None:
        """A worker that outlives a killed gunicorn must not keep the folder."""
        lock = locks.FolderLock(tmp_path, "x")
        assert lock.acquire()
        child = os.fork()
        if child == 0:
            signal.pause()
        try:
            lock.release()
            assert eventually(locks.FolderLock(tmp_path, "x").acquire)
        finally:
            kill(child)
            os.waitpid(child, 0)

    @pytest.mark.parametrize("content", [None, "", "{", "[]"])
    def test_a_note_that_is_missing_or_broken_is_empty(self, tmp_path: Path, content: str | None) -> None:
        """Files under var/ may be lost or cut short."""
        if content is not None:
            (tmp_path / "x.json").write_text(content)
        assert locks.FolderLock(tmp_path, "x").read_note() == {}


class TestTether:
    def test_a_process_whose_parent_is_gone_already_does_not_become_the_program(self) -> None:
        """The parent may die before the kernel was asked: then nobody would ever end the program."""
        nobody = str(os.getpid() + 1_000_000)
        finished = run(Path("/"), "-I", tether.__file__, nobody, "/bin/echo", "I run")
        assert (finished.returncode, finished.stdout) == (0, "")

    def test_where_there_is_no_prctl_the_program_runs_all_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """macOS: it only does not end with its parent."""
        became: list[list[str]] = []
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(os, "execv", lambda path, command: became.append(command))
        monkeypatch.setattr(sys, "argv", ["tether.py", str(os.getppid()), "/bin/echo", "x"])
        runpy.run_path(tether.__file__, run_name="__main__")
        assert became == [["/bin/echo", "x"]]
