"""A small app with request ids, users, limits and nothing behind them, and a real redis-server to count in.

`gunicorn "tests.api.scratch:serve()"` serves it, with the settings of the environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from flask import Flask
from redis import Redis
from redis.exceptions import RedisError

from tests.ports import free_port
from ticketing import services
from ticketing.accounts import Accounts, Users
from ticketing.api import auth, limits, problems
from ticketing.clock import Clock, SystemClock
from ticketing.config import Config
from ticketing.domain.accounts import Account
from ticketing.logs import configure_logging, init_request_logging

START_DEADLINE_S = 20.0


class FakeUsers:
    """Accounts in a dictionary, under their ids. Counts how often it is asked for some, and for all names."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.lookups = 0
        self.countings = 0

    def find(self, user_ids: Iterable[str], deadline: float) -> dict[str, Account]:
        """Those who are there."""
        self.lookups += 1
        return {user_id: self.accounts[user_id] for user_id in user_ids if user_id in self.accounts}

    def find_by_key(self, key: bytes, deadline: float) -> Account | None:
        """The one that has this key."""
        return next((account for account in self.accounts.values() if account.key == key), None)

    def page(self, after: str, limit: int, deadline: float) -> list[Account]:
        """The first after an id."""
        found = [self.accounts[user_id] for user_id in sorted(self.accounts) if user_id > after]
        return [account for account in found if account.password_hash][:limit]

    def ids(self, limit: int, deadline: float) -> list[str]:
        """The first."""
        self.countings += 1
        return list(self.accounts)[:limit]

    def add(self, account: Account, deadline: float) -> bool:
        """A new one."""
        return self.accounts.setdefault(account.user_id, account) is account

    def replace(self, account: Account, stamp: str, deadline: float) -> bool:
        """In the place of one with this stamp."""
        before = self.accounts.get(account.user_id)
        if before is None or before.stamp != stamp:
            return False
        self.accounts[account.user_id] = account
        return True

    def remove(self, account: Account, deadline: float) -> None:
        """Gone, if it is this one."""
        if self.accounts.get(account.user_id, account).pseudonym == account.pseudonym:
            self.accounts.pop(account.user_id, None)


def make_app(
    config: Config,
    clock: Clock | None = None,
    counter: limits.GuardedCounter | None = None,
    users: Users | None = None,
) -> Flask:
    """An app with public and protected views, with tight limits and without any, and one that fails."""
    clock = clock or SystemClock()
    counter = counter or limits.make_counter(config, clock)
    app = Flask("scratch", static_folder=None)
    init_request_logging(app, clock)
    app.extensions[services.EXTENSION] = SimpleNamespace(config=config, clock=clock)  # all that a deadline needs
    app.before_request(services.begin_request)
    accounts = Accounts(users or FakeUsers(), clock, auth.first_admin(config))
    auth.init_auth(app, config, accounts, counter, clock)
    problems.register_error_handlers(app)
    app.add_url_rule("/open", "open", who)
    app.add_url_rule("/open/<path:rest>", "open_below", lambda rest: who())
    app.add_url_rule("/known", "known", auth.required()(who))
    app.add_url_rule("/staff", "staff", auth.required(auth.Role.ORGANIZER, auth.Role.ADMIN)(who))
    app.add_url_rule("/book", "book", who, methods=["POST"])
    app.add_url_rule("/cancel", "cancel", who, methods=["POST"])
    app.add_url_rule("/healthz", "service.healthz", who)
    app.add_url_rule("/fails", "fails", fail)
    limits.init_limits(
        app,
        config,
        counter,
        clock,
        tight=dict.fromkeys(["book", "cancel"], config.ratelimit_book),
        unlimited={"service.healthz"},
    )
    return app


def who() -> dict[str, Any]:
    """Who is calling, asked twice: it must not cost twice."""
    caller = auth.current_caller()
    assert caller is auth.current_caller()
    if caller is None:
        return {"user_id": None}
    return {"user_id": caller.user_id, "role": caller.role, "is_staff": caller.is_staff}


def fail() -> NoReturn:
    """A bug."""
    raise RuntimeError("mongodb://ada:opensesame@db.example/ said no")


def serve() -> Flask:
    """The app for gunicorn."""
    config = Config.from_env(dotenv_path=None)
    configure_logging(config)
    return make_app(config)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as `condition` holds. Fails the test after START_DEADLINE_S."""
    end_s = time.monotonic() + START_DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, f"{what}: not within {START_DEADLINE_S} s"
        time.sleep(0.02)


class RedisServer:
    """A redis-server of the test's own, to be killed, stopped and continued."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, "redis-server")

    def kill(self) -> None:
        """SIGKILL, also when it hangs. Its counts are gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """SIGSTOP: connections are still accepted, by the kernel, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def commands(self) -> dict[str, int]:
        """How often each command was called until now."""
        with Redis.from_url(self.uri) as client:
            stats = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.uri) as client:
                return bool(client.ping())
        except RedisError:
            return False
