"""How the service connects: its defaults, and the URI before them."""

from __future__ import annotations

from pymongo.database import Database

from ticketing.storage.client import connect

URI = "mongodb://127.0.0.1:1/"


def test_defaults_are_set_where_the_uri_says_nothing() -> None:
    """The ledger repeats its commits itself, and a new primary is to be found quickly."""
    with connect(URI) as client:
        options = client.options
        assert options.retry_writes is False
        assert options.pool_options.connect_timeout == 2.0
        assert options.pool_options.appname == "ticketing"
        assert options.codec_options.tz_aware is True


def test_the_uri_wins() -> None:
    """In whatever case it is written."""
    with connect(f"{URI}?retrywrites=true&connectTimeoutMS=500&appName=mine") as client:
        options = client.options
        assert options.retry_writes is True
        assert options.pool_options.connect_timeout == 0.5
        assert options.pool_options.appname == "mine"


def test_nothing_is_opened_before_the_first_use(mongod: str, database: Database[dict[str, object]]) -> None:
    """A client may be made before a fork; at its first command it connects."""
    with connect(mongod) as client:
        assert not client._topology._opened
        assert client[database.name].command("ping")["ok"] == 1
