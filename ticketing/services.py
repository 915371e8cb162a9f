"""The parts of one running app, where its views and commands find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from flask import current_app
from pymongo.database import Database

from .accounts import Accounts
from .clock import Clock
from .config import Config
from .erasure import Erasure
from .feed import ChangeFeed
from .manager import TicketManager
from .storage.sessions import Sessions

EXTENSION = "ticketing"


@dataclass(frozen=True)
class Services:
    """Made once by `create_app`, kept in `app.extensions["ticketing"]`."""

    config: Config
    database: Database[dict[str, Any]]
    manager: TicketManager
    clock: Clock
    feed: ChangeFeed
    accounts: Accounts
    sessions: Sessions
    erasure: Erasure


def services() -> Services:
    """The parts of the current app."""
    return cast(Services, current_app.extensions[EXTENSION])
