"""Trying again until a deadline, and the driver's errors translated: nothing of pymongo passes this module."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import pymongo
from pymongo.errors import DuplicateKeyError, PyMongoError

from ..clock import Clock, tries
from ..errors import StorageUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

# One try. A frozen primary must not eat the whole deadline; and a majority may learn of a commit by heartbeat
# only, every 2 s, while a secondary looks for a new source.
ATTEMPT_S = 2.5


def attempt(clock: Clock, deadline: float) -> Any:
    """Bounds one try. The driver takes it for all that it does inside: selection, pool, socket, server."""
    return pymongo.timeout(attempt_s(clock, deadline))


def attempt_s(clock: Clock, deadline: float) -> float:
    """How long one try may take, in seconds."""
    return max(0.001, min(ATTEMPT_S, deadline - clock.monotonic()))


def retried(clock: Clock, deadline: float, call: Callable[[], T], what: str = "read") -> T:
    """The result of `call`, which may be carried out several times: let it be a read, or a write that may repeat.

    `deadline` is a time on the clock's `monotonic()`. Raises `StorageUnavailable` when it passes, and lets
    `DuplicateKeyError` through, which is an answer.
    """
    for _ in tries(clock, deadline):
        try:
            with attempt(clock, deadline):
                return call()
        except DuplicateKeyError:
            raise
        except PyMongoError as error:
            log_retry(what, error)
    raise StorageUnavailable


def log_retry(what: str, error: PyMongoError) -> None:
    """Say that something is tried again, and why; not what the driver says, which quotes addresses."""
    log.warning("%s did not succeed, trying again", what, extra={"error": type(error).__name__})
