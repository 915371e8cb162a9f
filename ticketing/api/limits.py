"""How often somebody may call: flask-limiter over counters that never stand in the way.

A client is its user, or without credentials its address. All endpoints share one limit a client,
RATELIMIT_DEFAULT; those that change an event have one of their own each, RATELIMIT_BOOK, and so have those that
register and log in, RATELIMIT_AUTH. Counting is by fixed windows: a window begins with the first request in it.

flask-limiter knows which limits hold for which endpoint. It is asked once for each endpoint; what happens with each
request is done here, in a tenth of its time:

- Counting, by counters that answer with one round trip (the count and the end of the window together, where
  limits asks three times), that bound what a counter's absence costs, and that do not walk through all clients a
  hundred times a second, as the memory storage of limits does.
- The headers. flask-limiter's would put a Retry-After on every answer, and replace that of a 503.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from typing import Any, NamedTuple, Protocol

from flask import Flask, Response, current_app, request
from flask_limiter import Limit, Limiter, RateLimitExceeded
from limits.storage import storage_from_string
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from werkzeug.middleware.proxy_fix import ProxyFix

from ..clock import Clock
from ..config import Config
from ..current import asked, facts
from .auth import client_address, current_caller

log = logging.getLogger(__name__)

MEMORY_SCHEME = "memory://"

MEMORY_CLIENTS_MAX = 100_000
"""Clients counted at once for each length of window. Beyond it the oldest windows are forgotten."""

REDIS_TIMEOUT_S = 0.25
"""For a connection, and for each answer: a Redis that hangs delays a request by twice that."""

AWAY_RETRY_S = 5.0
"""After a failure the storage is left alone for so long, then one request tries it."""

AWAY_LOG_S = 60.0
"""While the storage is away the log says so no more often than this."""

# The count, and the milliseconds until the window ends. A key that has lost its end gets a new one: without
# it a client would stay locked out for ever.
COUNT_SCRIPT = """
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms < 0 then
    left_ms = tonumber(ARGV[2])
    redis.call('PEXPIRE', KEYS[1], left_ms)
end
return {count, left_ms}
"""


class Window(NamedTuple):
    """How often something happened in the window that is open, and in how many seconds that ends."""

    hits: int
    resets_in_s: float


class Counter(Protocol):
    """Counts in fixed windows. Called by many threads at once."""

    def hit(self, key: str, window_s: int, amount: int = 1) -> Window:
        """Add `amount` to the window of `key`; a new window of `window_s` seconds begins where none is
        open."""


class MemoryCounter:
    """Counts in this process. A hit costs the same however many clients there are."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Guards the windows, by their length: key -> (count, end). The first in each is the first to end.
        self._lock = threading.Lock()
        self._windows: dict[int, OrderedDict[str, tuple[int, float]]] = {}

    def hit(self, key: str, window_s: int, amount: int = 1) -> Window:
        """Count; see Counter."""
        with self._lock:
            now_s = self._clock.monotonic()
            windows = self._windows.setdefault(window_s, OrderedDict())
            while windows and next(iter(windows.values()))[1] <= now_s:
                windows.popitem(last=False)
            count, ends_s = windows.get(key, (0, now_s + window_s))
            windows[key] = (count + amount, ends_s)
            if len(windows) > MEMORY_CLIENTS_MAX:
                windows.popitem(last=False)
        return Window(count + amount, ends_s - now_s)


class RedisCounter:
    """Counts in Redis, in one round trip. Raises whatever the client library raises, after a bounded time.

    `uri` is a URI of the limits library: redis, rediss, redis+unix, redis+sentinel or redis+cluster. Nothing
    is connected before the first hit: a service starts without its Redis.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._count: Callable[[str, int, int], Any] | None = None

    def hit(self, key: str, window_s: int, amount: int = 1) -> Window:
        """Count; see Counter."""
        # Two threads may prepare it at once: one of the two is used, and the other is no harm.
        if self._count is None:
            self._count = self._prepare()
        count, left_ms = self._count(key, amount, window_s * 1000)
        return Window(int(count), int(left_ms) / 1000)

    def _prepare(self) -> Callable[[str, int, int], Any]:
        options: dict[str, Any] = {
            "socket_timeout": REDIS_TIMEOUT_S,
            "socket_connect_timeout": REDIS_TIMEOUT_S,
            # Once more and at once where a kept connection proves dead: Redis was restarted. Never after a
            # timeout, and never as often and as slowly as the client would by itself.
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        }
        if self._uri.startswith("redis+sentinel:"):
            # Else the sentinels are asked without these bounds.
            options["sentinel_kwargs"] = dict(options)
        storage: Any = storage_from_string(self._uri, **options)
        script = storage.get_connection().register_script(COUNT_SCRIPT)
        return lambda key, amount, window_ms: script([storage.prefixed_key(key)], [amount, window_ms])


class GuardedCounter:
    """A counter whose failure is nobody's trouble: the service goes on without, and the log says so.

    After a failure the counter is left alone for `AWAY_RETRY_S`, then a single request tries it while the
    others go on: its absence delays one request every few seconds by a bounded time, not all of them.
    """

    def __init__(self, counter: Counter, clock: Clock) -> None:
        self._counter = counter
        self._clock = clock
        self._fallback = MemoryCounter(clock)
        # Guards what follows. `_away` is read without it: most requests meet a counter that works.
        self._lock = threading.Lock()
        self._away = False
        self._retry_at_s = 0.0
        self._logged_at_s = -math.inf

    def hit(self, key: str, window_s: int, amount: int = 1) -> Window | None:
        """Count; None when the counter is away."""
        if self._away and not self._is_my_turn_to_try():
            return None
        try:
            window = self._counter.hit(key, window_s, amount)
        except Exception as error:  # Whatever it is: bookings do not stop because nobody counts them.
            self._went_away(error)
            return None
        if self._away:
            self._came_back()
        return window

    def hit_strictly(self, key: str, window_s: int, amount: int = 1) -> Window:
        """Count in this process when the counter is away: for what protects passwords, not capacity."""
        return self.hit(key, window_s, amount) or self._fallback.hit(key, window_s, amount)

    def _is_my_turn_to_try(self) -> bool:
        with self._lock:
            now_s = self._clock.monotonic()
            if now_s < self._retry_at_s:
                return False
            self._retry_at_s = now_s + AWAY_RETRY_S
            return True

    def _went_away(self, error: Exception) -> None:
        with self._lock:
            now_s = self._clock.monotonic()
            self._away = True
            self._retry_at_s = now_s + AWAY_RETRY_S
            is_told = now_s - self._logged_at_s < AWAY_LOG_S
            if not is_told:
                self._logged_at_s = now_s
        if not is_told:
            facts = {"error": f"{type(error).__name__}: {error}"}
            log.warning("rate limit storage away: requests are not limited", extra=facts)

    def _came_back(self) -> None:
        with self._lock:
            was_away, self._away = self._away, False
        if was_away:
            log.info("rate limit storage is back: requests are limited again")


def make_counter(config: Config, clock: Clock) -> GuardedCounter:
    """Return the counter of one app, in the place that RATELIMIT_STORAGE_URI names, not yet connected."""
    uri = config.ratelimit_storage_uri
    return GuardedCounter(MemoryCounter(clock) if uri.startswith(MEMORY_SCHEME) else RedisCounter(uri), clock)


def init_limits(
    app: Flask,
    config: Config,
    counter: GuardedCounter,
    clock: Clock,
    *,
    tight: Mapping[str, str],
    unlimited: Collection[str],
) -> None:
    """Limit the requests to `app`, and trust as many proxies in front of it as TRUSTED_PROXIES says.

    `tight` names the endpoints that have a limit of their own instead of RATELIMIT_DEFAULT, each by itself, and
    `unlimited` those that have none. Call it after the blueprints are registered and after init_auth. Raises
    ValueError where a name is no endpoint: a misspelt one would be left without its limit.
    """
    unknown = {*tight, *unlimited} - app.view_functions.keys()
    if unknown:
        raise ValueError(f"no such endpoints: {', '.join(sorted(unknown))}")
    _trust_proxies(app, config.trusted_proxies)

    if not config.ratelimit_enabled:
        return

    def limits_of_request() -> str:
        if request.endpoint in unlimited:
            return ""
        return tight.get(request.endpoint or "", config.ratelimit_default)

    def scope(endpoint: str) -> str:
        return endpoint if endpoint in tight else "all"

    limiter = Limiter(_client, default_limits=[Limit(limits_of_request, scope=scope, shared=True)])
    known: dict[str, list[_Bound]] = {}  # by endpoint; two threads may find the same at once

    def check() -> None:
        endpoint = asked().endpoint
        if endpoint is None:
            return
        if endpoint not in known:
            known[endpoint] = _resolved(limiter, endpoint)
        if known[endpoint]:
            _count(known[endpoint], counter)

    app.before_request(check)
    app.after_request(lambda response: _add_headers(response, clock))


class _Bound(NamedTuple):
    """A limit of an endpoint, and what each request asks of it."""

    limit: Any  # as flask-limiter has resolved it
    name: str  # of its windows, to which a client is added
    amount: int
    window_s: int


def _resolved(limiter: Limiter, endpoint: str) -> list[_Bound]:
    """The limits of the endpoint of the current request, the shortest first."""
    found = limiter.limit_manager.resolve_limits(current_app, endpoint, request.blueprint, in_middleware=True)
    return [
        _Bound(each, each.limit.key_for(each.scope_for(endpoint, None)), each.limit.amount, each.limit.get_expiry())
        for each in sorted(chain(*found), key=lambda each: each.limit)
    ]


def _count(bounds: list[_Bound], counter: GuardedCounter) -> None:
    """Count the current request. Raises `RateLimitExceeded` for the first limit that is used up."""
    known, client = facts(), _client()
    for limit, name, amount, window_s in bounds:
        window = counter.hit(f"{name}/{client}", window_s)
        if window is None:  # the counter is away
            continue
        is_exceeded = window.hits > amount
        if is_exceeded or "rate_window" not in known:
            known.rate_window = amount, window
        if is_exceeded:
            raise RateLimitExceeded(limit)


def _client() -> str:
    caller = current_caller()
    return f"user:{caller.user_id}" if caller else f"ip:{client_address()}"


def _trust_proxies(app: Flask, count: int) -> None:
    # Each proxy appends the address that it was called from: of `count` trusted ones, the last `count` values
    # of X-Forwarded-For are true, and what stands before them is the client's own invention.
    if count > 0:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=0)  # type: ignore[method-assign]


def _add_headers(response: Response, clock: Clock) -> Response:
    """Say how much is left, and with a 429 when to come back (RFC 6585, 4). Reset: seconds since 1970."""
    found: tuple[int, Window] | None = facts().get("rate_window")
    if found is None:
        return response
    amount, window = found
    add = response.headers.add  # not [], which looks through all those that are there
    add("X-RateLimit-Limit", str(amount))
    add("X-RateLimit-Remaining", str(max(0, amount - window.hits)))
    add("X-RateLimit-Reset", str(math.ceil(clock.now().timestamp() + window.resets_in_s)))
    if window.hits > amount:
        response.headers["Retry-After"] = str(max(1, math.ceil(window.resets_in_s)))
    return response
