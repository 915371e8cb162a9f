"""`flask --app wsgi init-db`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..services import services
from ..storage.schema import create_indexes_and_views
from .terminal import storage


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the indexes and views. May run at any time, any number of times."""
    database = services().database
    with storage():
        create_indexes_and_views(database)
    click.echo(f"The database {database.name!r} has its indexes and views.")
