"""`flask --app wsgi init-db`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..services import services
from ..storage.schema import create_indexes_and_views
from .terminal import storage, under_way


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Make the indexes and views of the database.

    May run at any time, any number of times; after each update it has to. A new index of a long ledger takes a while.

    Exits with 0 when they are there, 2 when the storage does not answer.
    """
    database = services().database
    with storage(), under_way("making indexes"):
        create_indexes_and_views(database)
    click.echo(f"The database {database.name!r} has its indexes and views.")
