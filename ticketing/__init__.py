"""Ticketing: book tickets for events. Never oversold, never lost, first come, first served.

    app.py          create_app: how the parts are put together
    config.py       the settings
    addresses.py    which addresses webhooks may lead to
    errors.py       everything that can go wrong
    domain/         the rules, pure
    manager.py      TicketManager: queue, decide, commit, answer
    feed.py         ChangeFeed: what happened, for those who follow an event
    storage/        the ledger in MongoDB
    api/            HTTP
    delivery/       webhooks, by processes of their own
    audit.py        is a ledger what it should be?
    cli/            flask --app wsgi …
    serve.py        python -m ticketing: the service and, if need be, a mongod of its own
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import create_app

__all__ = ["__version__", "create_app"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On demand (PEP 562): the domain, the tests of it and the small tools need no Flask.
    if name == "create_app":
        from .app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
