"""The operator's commands: `flask --app wsgi init-db` and `flask --app wsgi ledger verify [EVENT_ID]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import pymongo
from flask import Flask
from flask.cli import AppGroup, with_appcontext
from pymongo.errors import PyMongoError

from .audit import EventReport, audit
from .services import services
from .storage.schema import create_indexes_and_views

PING_DEADLINE_S = 10.0
EXIT_FINDINGS = 1
EXIT_TROUBLE = 2

ledger_commands = AppGroup("ledger", help="Look after the ledgers.")


def register_cli(app: Flask) -> None:
    """Add the commands to `flask --app wsgi`."""
    app.cli.add_command(init_db)
    app.cli.add_command(ledger_commands)


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the indexes and views. May run at any time, any number of times."""
    database = services().database
    with _storage():
        create_indexes_and_views(database)
    click.echo(f"The database {database.name!r} has its indexes and views.")


@ledger_commands.command("verify")
@click.argument("event_id", required=False)
def verify(event_id: str | None) -> None:
    """Check the ledger of EVENT_ID, or of all events.

    Prints a line an event, or its findings, and a line with the totals. Exits with 0 when all is well, 1 when
    there are findings, 2 when there is no such event or the storage does not answer.
    """
    events = transitions = findings = 0
    with _storage():
        for report in audit(services().database, event_id):
            _print_report(report)
            events += 1
            transitions += report.transitions
            findings += len(report.findings) + report.findings_left_out
    if event_id is not None and not events:
        _fail(f"There is no event {event_id!r}.")
    click.echo(f"{_counted(events, 'event')}, {_counted(transitions, 'transition')}: {_summary(findings)}")
    sys.exit(EXIT_FINDINGS if findings else 0)


def _print_report(report: EventReport) -> None:
    if not report.findings:
        counts = (
            _counted(report.transitions, "transition"),
            _counted(report.orders, "order"),
            f"{report.booked} booked",
            f"{report.waiting} waiting",
        )
        click.echo(f"{report.event_id}: ok, {', '.join(counts)}")
    for finding in report.findings:
        click.echo(f"{report.event_id}: {finding}")
    if report.findings_left_out:
        click.echo(f"{report.event_id}: and {report.findings_left_out} more")


@contextmanager
def _storage() -> Iterator[None]:
    """Ends the command with one sentence where MongoDB does not answer. Reading ledgers may take its time."""
    try:
        with pymongo.timeout(PING_DEADLINE_S):
            services().database.command("ping")
        yield
    except PyMongoError as error:
        # The type only: messages of the driver quote addresses, and may quote more.
        _fail(f"MongoDB did not answer as it should ({type(error).__name__}). See MONGODB_URI.")


def _fail(message: str) -> None:
    click.echo(message, err=True)
    sys.exit(EXIT_TROUBLE)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _summary(findings: int) -> str:
    return _counted(findings, "finding") if findings else "ok"
