"""Admission control: a worker takes on no more requests than it can answer in time, and refuses the rest at once.

A request counts from the moment it is there completely, whatever its client took to send it, until its answer is
made. Without this bound five thousand bookers who come in the same second would all wait their turn, and the last
of them for longer than any answer may take.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from flask import Flask, current_app

from ..current import asked, facts
from ..errors import Overloaded
from .bodies import read_body

EXTENSION = "ticketing.admission"


def init_admission(app: Flask, requests_max: int, *, free: Collection[str]) -> None:
    """Refuse what comes beyond `requests_max` requests at once with `Overloaded`; `free` are endpoints that pass.

    Register it before what costs much: credentials, limits, views.
    """
    slots = Slots(requests_max)

    def enter() -> None:
        request = asked()
        if request.endpoint in free:
            return
        read_body(request)
        if not slots.take():
            raise Overloaded
        facts().has_slot = True

    app.extensions[EXTENSION] = slots
    app.before_request(enter)
    app.teardown_request(lambda _: leave())


class Slots:
    """So many places. A semaphore for which nobody waits, at a tenth of what `threading`'s costs."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self.free = count

    def take(self) -> bool:
        """Take a place, if there is one."""
        with self._lock:
            if self.free:
                self.free -= 1
                return True
            return False

    def give_back(self) -> None:
        """Let somebody else have it."""
        with self._lock:
            self.free += 1


def leave() -> None:
    """Make room for another request: at the end of this one, or before it waits for what may take long to come."""
    if facts().pop("has_slot", False):
        current_app.extensions[EXTENSION].give_back()
