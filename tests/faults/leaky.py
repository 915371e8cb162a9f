"""The service with a leak for each kind of thing that a watch counts: a GET of /leak/<kind> keeps one more of it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original

from ticketing.services import services
from ticketing.storage.client import connect

from .counted import app

_kept: list[Any] = []


def _thread() -> None:
    """One of the system's, which a green one would not be."""
    start = get_original("_thread", "start_new_thread")
    start(get_original("time", "sleep"), (3_600,))


def _green_thread() -> None:
    """One that only waits, and holds nothing that the system knows of."""
    gevent.spawn(gevent.sleep, 3_600)


def _connection() -> None:
    """A client of MongoDB that nobody closes."""
    client = connect(services().config.mongodb_uri or "")
    client.admin.command("ping")
    _kept.append(client)


def _socket() -> None:
    _kept.append(socket.socket())


LEAKS: dict[str, Callable[[], None]] = {
    "thread": _thread,
    "green-thread": _green_thread,
    "connection": _connection,
    "socket": _socket,
}


@app.get("/leak/<kind>")
def leak(kind: str) -> str:
    LEAKS[kind]()
    return kind
