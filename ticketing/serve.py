"""The whole service in one command: settings, MongoDB, gunicorn, and the process that looks after them.

    make run ── python -m ticketing            this process: starts, watches, stops
                 ├── mongod                    unless MONGODB_URI is set
                 └── gunicorn (master)
                      └── WEB_CONCURRENCY workers

SIGINT and SIGTERM stop gunicorn first, which answers the requests in flight, then mongod. SIGHUP makes
gunicorn replace its workers, which read `.env` again. When gunicorn ends by itself, the service ends with its
status; when mongod dies, it is started again. Both children live in sessions of their own, so that Ctrl-C
reaches only this process, and the kernel ends them should it be killed (`tether`).
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import queue
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pymongo
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ticketing import tether
from ticketing.config import SECRET_PLACEHOLDER, Config
from ticketing.embedded import EmbeddedMongod
from ticketing.errors import ConfigError
from ticketing.listeners import WORD_FD, it_listens
from ticketing.locks import FolderLock, is_locked, lock_for_children
from ticketing.logs import configure_logging
from ticketing.storage.schema import create_indexes_and_views

log = logging.getLogger(__name__)

DOTENV = Path(".env")
DOTENV_EXAMPLE = Path(".env.example")

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "python:ticketing.gunicorn_conf", "wsgi:app"]

STOP_DEADLINE_S = 25.0
"""gunicorn gives its workers 15 s (`gunicorn_conf.graceful_timeout`). After this long they get SIGKILL."""

PREPARE_DEADLINE_S = 20.0
"""For indexes and views: long enough for a replica set that is electing a primary just now."""

MONGOD_DEATHS_MAX = 5
MONGOD_DEATHS_WINDOW_S = 60.0
"""A mongod that dies more often than that is broken: then the service ends, where its operator sees it."""

EXIT_WRONG_CONFIG = 2

LOOK_EVERY_S = 5.0
"""Every change of a child comes with SIGCHLD. This is for what no signal told of."""

_POLL_S = 0.05


class ServiceError(Exception):
    """The service cannot start here, or not go on. The message is for the operator."""


def main() -> int:
    """Run the service until it is told to stop. Return the exit status: 0 after a signal to stop."""
    try:
        if write_dotenv(DOTENV, DOTENV_EXAMPLE):
            _say(f"wrote {DOTENV.absolute()} with a random admin password and JWT key.")
        config = Config.from_env(dotenv_path=str(DOTENV))
        configure_logging(config)
        return Supervisor(config).run()
    except ConfigError as error:
        _complain(str(error))
        return EXIT_WRONG_CONFIG
    except ServiceError as error:
        _complain(str(error))
        return 1


def write_dotenv(path: Path, example: Path) -> bool:
    """Copy `example` to `path` with random secrets, unless `path` exists; return whether it was written.

    Its mode is 600 from the first byte on. Without an example, as in an image that is configured by its
    environment, there is nothing to do.
    """
    if not example.exists():
        return False
    placeholder = rf"(?m)(?<==){SECRET_PLACEHOLDER}$"
    settings = re.sub(placeholder, lambda match: secrets.token_urlsafe(32), example.read_text())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with open(descriptor, "w") as file:
        file.write(settings)
    return True


def check_address(host: str, port: int) -> None:
    """Raise ServiceError when nobody could listen on host:port now."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            # As gunicorn does: connections of the last run that linger in TIME_WAIT do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise ServiceError(f"HOST {host!r} is not an address: {error.strerror}.") from error
    except OSError as error:
        raise ServiceError(
            f"Cannot listen on HOST {host!r}, PORT {port}: {os.strerror(error.errno or 0)}. "
            "Stop what uses it, or set PORT to a free one."
        ) from error


class Supervisor:
    """Starts the service, watches it, stops it. Once, in the main thread; it takes the process's signals."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = FolderLock(Path(config.data_dir), "service")
        self._gunicorn_lock_path = Path(config.data_dir, "gunicorn.lock")
        # Signals come between any two instructions: the handler only puts them here, for `run` to take out.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._stopping = False
        self._mongod: EmbeddedMongod | None = None
        self._mongod_deaths_s: list[float] = []
        self._gunicorn: subprocess.Popen[bytes] | None = None
        self._word = -1  # the pipe through which gunicorn says that it listens
        self._listens = False
        self._announced = False

    def run(self) -> int:
        """Serve until told to stop or until gunicorn ends; return the exit status.

        Raises ServiceError and ConfigError, after everything that was started has been stopped.
        """
        self._take_lock()
        self._take_signals()
        try:
            for step in (
                self._wait_for_killed_run,
                self._check_address,
                self._start_mongod,
                self._prepare_database,
                self._start_gunicorn,
            ):
                step()
                if self._handle_signals():
                    return 0
            return self._watch()
        finally:
            self._stop()

    # Starting

    def _take_lock(self) -> None:
        folder = Path(self._config.data_dir).absolute()
        try:
            taken = self._lock.acquire()
        except OSError as error:
            raise ServiceError(f"The data folder {folder} cannot be used: {error.strerror}.") from error
        if not taken:
            other = self._lock.read_note()
            raise ServiceError(
                f"The service already runs on the data folder {folder} (process {other.get('pid', '?')}, "
                f"{other.get('address', '?')}): stop it, or set DATA_DIR and PORT to run another."
            )

    def _take_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
            # nohup has SIGHUP ignored, and means it.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signals.put(number)

    def _wait_for_killed_run(self) -> None:
        """Let the workers of a run that was killed finish: they were told to, and still hold the port."""
        if is_locked(self._gunicorn_lock_path):
            log.warning("the last run was killed: waiting for its workers to finish")
            lock = self._gunicorn_lock_path
            _wait_until(lambda: not is_locked(lock) or self._handle_signals(), STOP_DEADLINE_S)
        self._write_note()

    def _write_note(self) -> None:
        group = self._gunicorn.pid if self._gunicorn else None
        self._lock.write_note({"pid": os.getpid(), "address": _url(self._config), "gunicorn_pid": group})

    def _check_address(self) -> None:
        check_address(self._config.host, self._config.port)

    def _start_mongod(self) -> None:
        if self._config.mongodb_uri is None:
            self._mongod = EmbeddedMongod(self._config.data_dir)
            # gunicorn inherits it as its setting.
            os.environ["MONGODB_URI"] = self._mongod.start()

    def _prepare_database(self) -> None:
        uri = self._mongod.uri if self._mongod else self._config.mongodb_uri
        try:
            with MongoClient[dict[str, Any]](uri) as client, pymongo.timeout(PREPARE_DEADLINE_S):
                create_indexes_and_views(client[self._config.mongodb_database])
        except PyMongoError as error:
            # Only the kind of error: the driver's message is long and may repeat parts of the URI.
            kind = type(error).__name__
            raise ServiceError(f"The MongoDB at MONGODB_URI could not be prepared ({kind}).") from error

    def _start_gunicorn(self) -> None:
        lock = lock_for_children(self._gunicorn_lock_path)
        self._word, said = os.pipe()
        os.set_blocking(self._word, False)
        os.environ[WORD_FD] = str(said)
        try:
            self._gunicorn = tether.start(GUNICORN, inherited=[lock, said])
        finally:
            os.close(lock)
            os.close(said)
        self._write_note()

    # Watching

    def _watch(self) -> int:
        """Look after everything until the end; return the exit status."""
        while not self._handle_signals(LOOK_EVERY_S if self._announced else _POLL_S):
            status = self._gunicorn.poll() if self._gunicorn else None
            if status is not None:
                log.error("gunicorn ended by itself with status %s: the service stops", status)
                # As a shell says it: 128 and the number of the signal.
                return status if status >= 0 else 128 - status
            if self._mongod is not None and not self._mongod.is_running():
                self._restart_mongod(self._mongod)
            # gunicorn tries for seconds to listen where somebody came before it, who may answer in its place.
            self._listens = self._listens or it_listens(self._word)
            if not self._announced and self._listens and _answers(self._config):
                self._announced = True
                _say(f"serving at {_url(self._config)} (documentation: {_url(self._config)}/docs). Try:")
                _say(f"  {curl_line(self._config, DOTENV)}")
        return 0

    def _handle_signals(self, patience_s: float = 0.0) -> bool:
        """Wait for a signal, act on all that came; return whether one, now or before, means to stop."""
        with contextlib.suppress(queue.Empty):
            while not self._stopping:
                number = self._signals.get(timeout=patience_s)
                patience_s = 0.0
                # In a terminal, SIGHUP says that its window was closed.
                hung_up = number == signal.SIGHUP and os.isatty(0)
                if hung_up or number in (signal.SIGINT, signal.SIGTERM):
                    self._stopping = True
                elif number == signal.SIGHUP:
                    self._reload()
        return self._stopping

    def _reload(self) -> None:
        """Have gunicorn replace its workers, unless a wrong setting would keep the new ones from starting."""
        try:
            Config.from_env(dotenv_path=str(DOTENV))
        except ConfigError as error:
            log.error("not reloaded, because of the settings: %s", error)
            return
        if self._gunicorn is not None:
            self._gunicorn.send_signal(signal.SIGHUP)

    def _restart_mongod(self, mongod: EmbeddedMongod) -> None:
        now_s = time.monotonic()
        self._mongod_deaths_s = [s for s in self._mongod_deaths_s if now_s - s < MONGOD_DEATHS_WINDOW_S]
        self._mongod_deaths_s.append(now_s)
        if len(self._mongod_deaths_s) > MONGOD_DEATHS_MAX:
            raise ServiceError(f"mongod dies again and again: {mongod.log_path} says why.")
        log.error("mongod (process %s) died: it is started again", mongod.pid)
        mongod.restart()
        log.warning("mongod is back (process %s)", mongod.pid)

    # Stopping

    def _stop(self) -> None:
        """Stop gunicorn, then mongod. Further signals to stop change nothing: each step has its deadline."""
        if self._gunicorn is not None:
            _end_group(self._gunicorn)
        if self._mongod is not None:
            self._mongod.stop()
        self._lock.write_note({})
        self._lock.release()


def curl_line(config: Config, dotenv: Path) -> str:
    """Return a command that works when pasted into a shell in this folder, and shows no password."""
    url = _url(config)
    settings = dotenv.read_text().splitlines() if dotenv.exists() else []
    username = config.basic_auth_username or ""
    if f"BASIC_AUTH_PASSWORD={config.basic_auth_password}" not in settings or not username.isalnum():
        return f"curl {url}/healthz"
    password = f"$(sed -n s/^BASIC_AUTH_PASSWORD=//p {dotenv})"
    body = '{"name": "Concert", "total_tickets": 100}'
    return (
        f'curl -u "{username}:{password}" '
        f"-H 'Content-Type: application/json' -d '{body}' {url}/initialize"
    )


def _url(config: Config) -> str:
    """Return where a client on this machine reaches the service."""
    host = _reachable_host(config)
    return f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"


def _reachable_host(config: Config) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)


def _answers(config: Config) -> bool:
    """Whether the service answers `/healthz` with 200."""
    connection = http.client.HTTPConnection(_reachable_host(config), config.port, timeout=1.0)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_group(leader: subprocess.Popen[bytes]) -> None:
    """Stop a process that leads its group, then wait for the whole group: its workers may outlive it."""
    leader.terminate()
    if not _wait_until(lambda: leader.poll() is not None and not _group_exists(leader.pid), STOP_DEADLINE_S):
        log.error("gunicorn does not end: its processes are killed")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    # As process 1 of a container we inherit its orphans, and a dead one counts until it is waited for.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-group, os.WNOHANG)
    return True


def _wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Ask `condition` until it is true or `deadline_s` seconds have passed; return what it said last."""
    end_s = time.monotonic() + deadline_s
    while not (reached := condition()) and time.monotonic() < end_s:
        time.sleep(_POLL_S)
    return reached


def _say(text: str) -> None:
    print(f"ticketing: {text}", flush=True)


def _complain(text: str) -> None:
    print(f"ticketing: {text}", file=sys.stderr, flush=True)
