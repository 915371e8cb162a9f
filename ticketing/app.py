"""`create_app`: the composition root, the only place that knows every part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flask import Flask, Request
from flask.json.provider import DefaultJSONProvider
from pymongo import MongoClient
from werkzeug.routing import MapAdapter

from . import embedded
from .accounts import Accounts
from .api import (
    admission,
    auth,
    bookings,
    changes,
    events,
    headers,
    limits,
    openapi,
    orders,
    problems,
    service,
    tokens,
    users,
    webhooks,
)
from .api.bodies import BODY_BYTES_MAX
from .cli import register_cli
from .clock import Clock, SystemClock
from .compactor import Compactor
from .config import Config
from .erasure import Erasure
from .feed import ChangeFeed
from .logs import configure_logging, init_request_logging
from .manager import TicketManager
from .metrics import init_metrics
from .services import EXTENSION, Services, begin_request
from .storage.catalog import Catalog
from .storage.client import connect
from .storage.ledger import Ledger, ledger_collection
from .storage.names import Names
from .storage.orders import Orders
from .storage.recent import shared_commits
from .storage.segments import Segments, segment_collection
from .storage.sessions import COLLECTION as SESSIONS
from .storage.sessions import Sessions
from .storage.users import COLLECTION as USERS
from .storage.users import Users, durable
from .storage.webhooks import Webhooks
from .turns import shared_turns

TIGHTLY_LIMITED = {
    "bookings.initialize",
    "bookings.book",
    "bookings.book_many",
    "bookings.cancel",
    "orders.transfer",
    "events.events",  # it looks at all events: docs/decisions/0016
}
AUTH_LIMITED = {"users.register", "tokens.token", "tokens.refresh", "tokens.revoke"}
UNLIMITED = {"service.healthz", "service.readyz", "service.metrics"}


class SynchronousFlask(Flask):
    """Flask without coroutines and WebSockets. It would ask with each request whether it meets one."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Binds the routes to what the request knows of itself. Raises `BadHost`, which is answered with 400."""
        if request is None:
            return super().create_url_adapter(request)
        return self.url_map.bind(request.host, request.root_path, "", request.scheme, request.method, request.path)


def create_app(
    config: Config | None = None,
    *,
    client: MongoClient[dict[str, Any]] | None = None,
    clock: Clock | None = None,
) -> Flask:
    """The WSGI app. Without a config it reads the environment, and sets up the logging of the process.

    Raises `ConfigError`. With a MONGODB_URI it opens no connection, so it may be made before its server forks;
    without one it finds or starts the embedded mongod.
    """
    if config is None:
        config = Config.from_env()
        configure_logging(config)
    clock = clock or SystemClock()
    client = client or connect(config.mongodb_uri or embedded.connect_or_start(config))

    app = SynchronousFlask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # no redirects in HTML: a path is right, or a 404
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    cast(DefaultJSONProvider, app.json).sort_keys = False
    app.extensions[EXTENSION] = parts = build_services(config, client, clock)

    # The order of these is the order in which a request passes them.
    counter = limits.make_counter(config, clock)
    init_request_logging(app, clock)
    parts.manager.observer = init_metrics(app, clock)
    headers.init_headers(app, config)
    admission.init_admission(app, config.requests_max, free=UNLIMITED)
    app.before_request(begin_request)
    auth.init_auth(app, config, parts.accounts, counter, clock)
    problems.register_error_handlers(app)

    api = openapi.init_openapi(app)
    for resource in (bookings, events, changes, orders, webhooks, users, tokens, service):
        api.register_blueprint(resource.blueprint)
    tight = dict.fromkeys(TIGHTLY_LIMITED, config.ratelimit_book) | dict.fromkeys(AUTH_LIMITED, config.ratelimit_auth)
    limits.init_limits(app, config, counter, clock, tight=tight, unlimited=UNLIMITED)
    register_cli(app)
    return app


def build_services(config: Config, client: MongoClient[dict[str, Any]], clock: Clock) -> Services:
    """The parts below the HTTP layer."""
    database = client[config.mongodb_database]
    commits = ledger_collection(database)
    copies = shared_commits(f"{config.mongodb_uri}/{config.mongodb_database}")
    segments = Segments(segment_collection(database), commits, clock)
    ledger = Ledger(commits, clock, recent_commits=copies, segments=segments)
    manager = TicketManager(
        ledger,
        clock,
        deadline_s=config.request_deadline_s,
        state_orders_max=config.state_orders_max,
        queue_length_max=config.queue_length_max,
        turns=shared_turns(clock),
    )
    feed = ChangeFeed(
        ledger,
        manager,
        clock,
        deadline_s=config.request_deadline_s,
        state_orders_max=config.state_orders_max,
        waiters_max=config.change_waiters_max,
    )
    compactor = Compactor(segments, clock)

    def on_change(event_id: str, version: int) -> None:
        feed.notice(event_id, version)
        compactor.notice(event_id, version)

    manager.on_change = on_change
    accounts = Accounts(Users(durable(database, USERS), clock), clock, auth.first_admin(config))
    sessions = Sessions(durable(database, SESSIONS), clock)
    names = Names(commits, clock, segments, copies)
    subscriptions = Webhooks(database, timeout_s=config.request_deadline_s)
    erasure = Erasure(accounts, sessions, subscriptions, names, manager, clock)
    catalog, orders = Catalog(commits, clock), Orders(commits, clock)
    return Services(
        config, database, clock, manager, feed, compactor, accounts, sessions, erasure, subscriptions, catalog, orders
    )
