"""The parts of one running app, where its views and commands find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from pymongo.database import Database

from .accounts import Accounts
from .clock import Clock
from .compactor import Compactor
from .config import Config
from .current import facts, serving
from .erasure import Erasure
from .feed import ChangeFeed
from .manager import TicketManager
from .storage.catalog import Catalog
from .storage.orders import Orders
from .storage.sessions import Sessions
from .storage.webhooks import Webhooks

EXTENSION = "ticketing"


@dataclass(frozen=True)
class Services:
    """Made once by `create_app`, kept in `app.extensions["ticketing"]`."""

    config: Config
    database: Database[dict[str, Any]]
    clock: Clock
    manager: TicketManager
    feed: ChangeFeed
    compactor: Compactor
    accounts: Accounts
    sessions: Sessions
    erasure: Erasure
    webhooks: Webhooks
    catalog: Catalog
    orders: Orders

    def begin(self) -> None:
        """This process serves from now on: what is to be done beside requests may be done."""
        self.compactor.start()

    def end(self) -> None:
        """It accepts no more: who waits for changes is answered now, and nothing new is begun beside."""
        self.feed.stop()
        self.compactor.stop()


LEFT_S_MIN = 0.5
"""What the last step of a request has at least, however long those before it took."""


def begin_request() -> None:
    """Let the time of the current request begin."""
    facts().began_s = services().clock.monotonic()


def left_s() -> float:
    """What is left of the time that the current request may take, in seconds."""
    parts = services()
    spent_s: float = parts.clock.monotonic() - facts().began_s
    return max(LEFT_S_MIN, parts.config.request_deadline_s - spent_s)


def request_deadline() -> float:
    """When the time of the current request is over, on the clock's `monotonic()`."""
    return services().clock.monotonic() + left_s()


def is_late() -> bool:
    """Whether the time of the current request is over: what it has not begun by now it should leave."""
    return left_s() <= LEFT_S_MIN


def services() -> Services:
    """The parts of the current app."""
    return cast(Services, serving().extensions[EXTENSION])
