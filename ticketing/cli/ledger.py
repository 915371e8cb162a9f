"""`flask --app wsgi ledger …`: verify the ledgers, and carry them from one place to another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import IO

import click
from flask.cli import AppGroup

from ..audit import EventReport, audit
from ..compactor import BEHIND_MAX, extend_fully
from ..services import services
from ..storage.archive import Document, export_lines, export_query, import_lines, names_again
from ..storage.ledger import ledger_collection
from ..storage.schema import create_indexes_and_views
from ..storage.segments import Segments, segment_collection
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
        unsound = [report.event_id for report in _verified(event_id, as_json) if report.findings]
    sys.exit(EXIT_FINDINGS if unsound else 0)


@ledger_commands.command("export")
@click.argument("file", default="-", type=click.Path(dir_okay=False))
@click.option("--event", "event_id", metavar="EVENT_ID", help="The ledger of this event only.")
def export(file: str, event_id: str | None) -> None:
    """Write the ledgers as lines of JSON, a commit a line.

    FILE is standard output unless named, and `-` is that too. The service may go on: all that it had answered is in
    the export. The lines are MongoDB Extended JSON; `ledger import` reads them. What is damaged is named, and written
    as it is; of what JSON cannot hold exactly, the `_id` alone.

    Exits with 0 when all is written and sound, 1 when something is damaged or missing (each finding is named), 2 when
    there is no such event, FILE cannot be written, or the storage does not answer; then there is no new FILE.
    """
    ledger = ledger_collection(services().database)
    written = 0
    findings = _Findings()
    with storage(), whole_file(file) as out:
        count = ledger.count_documents(export_query(event_id))
        if event_id is not None and not count:
            fail(f"There is no event {event_id!r}.")
        for finding, text in progress(export_lines(ledger, event_id), "exported", count):
            if finding is not None:
                findings.of("damaged")(finding)
            out.write(text + "\n")
            written += 1
    summary = counted(findings.count, "finding") if findings.count else "ok"
    click.echo(f"Exported {counted(written, 'commit')}: {summary}", err=True)
    sys.exit(EXIT_FINDINGS if findings.count else 0)


@ledger_commands.command("import")
@click.argument("file", default="-", type=click.File("rb"))
def import_(file: IO[bytes]) -> None:
    """Bring ledgers in, and verify all that are there.

    FILE was made by `ledger export`. It is standard input unless named, and `-` is that too. Stop the service first.
    Makes the indexes and views as `init-db` does. Nothing is ever overwritten: a commit that is there already is left
    alone. An event comes in whole: where one of its lines is damaged or missing, or the ledger has another commit in
    its place, nothing is written of it, and the others come in. It may be run again after an interruption. Of
    long ledgers it writes the segments, from which workers read them faster.

    Exits with 0 when all is in and all is well, 1 when events were left out (each is named) or there are findings,
    2 when nothing came in or the storage does not answer.
    """
    database = services().database
    findings = _Findings()
    with storage():
        create_indexes_and_views(database)
        try:
            lines = progress(file, "read")
            imported = import_lines(ledger_collection(database), lines, findings.of("left out"))
        except OSError as error:
            fail(f"The import broke off: {error.strerror}. It may be run again.")
        if not any(imported):
            fail("There is nothing to import: not a single line came.")
        if not imported.written + imported.present:
            fail("Nothing was imported.")
        click.echo(f"Imported {counted(imported.written, 'commit')}, {imported.present} were there already.")
        if imported.pseudonymous:
            click.echo(f"In {imported.pseudonymous} of these names were erased since.")
        unsound, long = [], []
        for report in _verified(None, watched=lambda commits: names_again(commits, findings.of("erase again"))):
            if report.findings:
                unsound.append(report.event_id)
            elif report.transitions >= BEHIND_MAX:
                long.append(report.event_id)
        _write_segments(long)
    sys.exit(EXIT_FINDINGS if unsound or findings.count else 0)


class _Findings:
    """Are told on standard error, and counted."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, kind: str) -> Callable[[str], None]:
        """What tells findings of one kind."""

        def tell(finding: str) -> None:
            self.count += 1
            click.echo(f"{kind}: {finding}", err=True)

        return tell


def _write_segments(event_ids: list[str]) -> None:
    """The first worker that meets these events has less to read then."""
    database, clock = services().database, services().clock
    segments = Segments(segment_collection(database), ledger_collection(database), clock, share=1)
    for event_id in progress(event_ids, "segments of long ledgers", len(event_ids)):
        extend_fully(segments, event_id, clock)


def _verified(
    event_id: str | None,
    as_json: bool = False,
    watched: Callable[[Iterable[Document]], Iterable[Document]] = iter,
) -> Iterator[EventReport]:
    """Print what `verify` prints, and pass the reports on. `watched` passes the commits on."""
    database = services().database
    count = ledger_collection(database).count_documents(export_query(event_id))
    events = transitions = findings = 0
    for report in audit(database, event_id, lambda commits: progress(watched(commits), "verified", count)):
        if as_json:
            print_json(asdict(report))
        else:
            _print_report(report)
        events += 1
        transitions += report.transitions
        findings += len(report.findings) + report.findings_left_out
        yield report
    if event_id is not None and not events:
        fail(f"There is no event {event_id!r}.")
    if not as_json:
        summary = counted(findings, "finding") if findings else "ok"
        say(f"{counted(events, 'event')}, {counted(transitions, 'transition')}: {summary}")


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
