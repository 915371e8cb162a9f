"""Admission control: a worker takes on no more requests than it can answer in time, and refuses the rest at once.

A request counts from the moment it is there completely, whatever its client took to send it, until its answer is
made. Without this bound five thousand bookers who come in the same second would all wait their turn, and the last
of them for longer than any answer may take.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from flask import Flask, g, request

from ..errors import Overloaded
from .bodies import read_body


def init_admission(app: Flask, requests_max: int, *, free: Collection[str]) -> None:
    """Refuse what comes beyond `requests_max` requests at once with `Overloaded`; `free` are endpoints that pass.

    Register it before what costs much: credentials, limits, views.
    """
    slots = threading.BoundedSemaphore(requests_max)

    def enter() -> None:
        if request.endpoint in free:
            return
        read_body(request)
        if not slots.acquire(blocking=False):
            raise Overloaded
        g.has_slot = True

    def leave(_: BaseException | None) -> None:
        if g.pop("has_slot", False):
            slots.release()

    app.before_request(enter)
    app.teardown_request(leave)
