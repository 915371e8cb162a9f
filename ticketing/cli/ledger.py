"""`flask --app wsgi ledger …`: verify the ledgers, and carry them from one place to another."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import IO

import click
from flask.cli import AppGroup

from ..audit import EventReport, audit
from ..services import services
from ..storage.archive import ImportRefused, export_lines, export_query, import_lines
from ..storage.ledger import ledger_collection
from ..storage.schema import create_indexes_and_views
from .terminal import EXIT_FINDINGS, counted, fail, json_option, print_json, progress, say, storage, whole_file

ledger_commands = AppGroup("ledger", help="Check the ledgers, and carry them to another place.")


@ledger_commands.command("verify")
@click.argument("event_id", required=False)
@json_option
def verify(event_id: str | None, as_json: bool) -> None:
    """Check the ledger of EVENT_ID, or of all events.

    Prints a line an event, or its findings, and a line with the totals; as JSON an object an event, with its findings.

    Exits with 0 when all is well, 1 when there are findings, 2 when there is no such event or the storage does not
    answer.
    """
    with storage():
        findings = _verify(event_id, as_json)
    sys.exit(EXIT_FINDINGS if findings else 0)


@ledger_commands.command("export")
@click.argument("file", default="-", type=click.Path(dir_okay=False))
@click.option("--event", "event_id", metavar="EVENT_ID", help="The ledger of this event only.")
def export(file: str, event_id: str | None) -> None:
    """Write the ledgers as lines of JSON, a commit a line.

    FILE is standard output unless named, and `-` is that too. The service may go on: all that it had answered is in
    the export. The lines are MongoDB Extended JSON; `ledger import` reads them.

    Exits with 0 when all is written, 1 when commits that JSON cannot hold exactly were left out (each is named), 2 when
    there is no such event, FILE cannot be written, or the storage does not answer; then there is no new FILE.
    """
    ledger = ledger_collection(services().database)
    written = left_out = 0
    with storage(), whole_file(file) as out:
        count = ledger.count_documents(export_query(event_id))
        if event_id is not None and not count:
            fail(f"There is no event {event_id!r}.")
        for commit_id, text in progress(export_lines(ledger, event_id), "exported", count):
            if text is None:
                click.echo(f"left out, for it is damaged: document {commit_id!r}", err=True)
                left_out += 1
            else:
                out.write(text + "\n")
                written += 1
    click.echo(f"Exported {counted(written, 'commit')}, left {left_out} out.", err=True)
    sys.exit(EXIT_FINDINGS if left_out else 0)


@ledger_commands.command("import")
@click.argument("file", default="-", type=click.File("rb"))
def import_(file: IO[bytes]) -> None:
    """Bring ledgers in, and verify all that are there.

    FILE was made by `ledger export`. It is standard input unless named, and `-` is that too. Stop the service first.
    Makes the indexes and views as `init-db` does. Nothing is ever overwritten: a commit that is there already is left
    alone, and where another one is in its place the import ends. It may be run again after an interruption.

    Exits with 0 when all is in and all is well, 1 when all is in and there are findings, 2 when a line was refused
    (it is named, and the lines before it may be in) or the storage does not answer.
    """
    database = services().database
    with storage():
        create_indexes_and_views(database)
        try:
            imported = import_lines(ledger_collection(database), progress(file, "read"))
        except ImportRefused as refusal:
            fail(f"Refused: {refusal}. Nothing was overwritten; the lines before it may have been written.")
        if not any(imported):
            fail("There is nothing to import: not a single line came.")
        click.echo(f"Imported {counted(imported.written, 'commit')}, {imported.present} were there already.")
        findings = _verify(None)
    sys.exit(EXIT_FINDINGS if findings else 0)


def _verify(event_id: str | None, as_json: bool = False) -> int:
    """Print what `verify` prints. The number of findings."""
    database = services().database
    count = ledger_collection(database).count_documents(export_query(event_id))
    events = transitions = findings = 0
    for report in audit(database, event_id, lambda commits: progress(commits, "verified", count)):
        if as_json:
            print_json(asdict(report))
        else:
            _print_report(report)
        events += 1
        transitions += report.transitions
        findings += len(report.findings) + report.findings_left_out
    if event_id is not None and not events:
        fail(f"There is no event {event_id!r}.")
    if not as_json:
        summary = counted(findings, "finding") if findings else "ok"
        say(f"{counted(events, 'event')}, {counted(transitions, 'transition')}: {summary}")
    return findings


def _print_report(report: EventReport) -> None:
    if not report.findings:
        counts = (
            counted(report.transitions, "transition"),
            counted(report.orders, "order"),
            f"{report.booked} booked",
            f"{report.waiting} waiting",
        )
        say(f"{report.event_id}: ok, {', '.join(counts)}")
    for finding in report.findings:
        say(f"{report.event_id}: {finding}")
    if report.findings_left_out:
        say(f"{report.event_id}: and {report.findings_left_out} more")
