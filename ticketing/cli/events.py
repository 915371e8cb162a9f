"""`flask --app wsgi events …`: see the events, and open one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click
from flask.cli import AppGroup
from marshmallow import ValidationError

from ..api.bodies import flattened
from ..api.schemas import EventSchema, EventsQuerySchema, InitializeSchema, SeenEvent
from ..domain.commands import Initialize
from ..domain.model import EventState, EventStatus
from ..domain.summary import SummarizedEvent
from ..errors import EventNotFound, LedgerDamaged
from ..ids import is_event_id
from ..services import services
from .terminal import EXIT_FINDINGS, counted, fail, json_option, print_json, storage

PAGE_SIZE = 100

event_commands = AppGroup("events", help="See the events, and open one.")
_schema = EventSchema()


@event_commands.command("list")
@click.option("--status", type=click.Choice([status.value for status in EventStatus]), help="Only those of a status.")
@click.option("--q", "text", metavar="TEXT", help="Only those with TEXT in name, venue or description, in any case.")
@click.option("--limit", type=click.IntRange(1), help="So many at most.")
@json_option
def list_(status: str | None, text: str | None, limit: int | None, as_json: bool) -> None:
    """List the events, a line each.

    Those that begin first come first, those without a time last.

    Exits with 0 when all are listed, 1 when events are left out because their ledgers are damaged (each is named),
    2 when the storage does not answer.
    """
    query = _checked(EventsQuerySchema, {} if text is None else {"q": text})
    damaged: list[str] = []
    with storage():
        found = _found(None if status is None else EventStatus(status), query.get("q"), damaged)
        for event in islice(found, limit):
            _print_line(_schema.dump(event), as_json)
    for event_id in damaged:
        click.echo(f"left out, for its ledger is damaged: {event_id}", err=True)
    sys.exit(EXIT_FINDINGS if damaged else 0)


@event_commands.command("show")
@click.argument("event_id")
@json_option
def show(event_id: str, as_json: bool) -> None:
    """Show an event: what is left of it, and its details.

    Exits with 0 when it is shown, 2 when there is no such event, its ledger is damaged, or the storage does not answer.
    """
    with storage():
        if not is_event_id(event_id):
            raise EventNotFound(event_id)
        state = services().manager.state_of(event_id)
    _print(_schema.dump(_seen(state)), as_json)


@event_commands.command("init")
@click.argument("event_id")
@click.option("--name", required=True, help="What it is called.")
@click.option("--tickets", type=int, help="How many there are, of one type.")
@click.option("--price", help="What one costs, like 12.50. Nothing unless told.")
@click.option("--currency", help="A code of ISO 4217, like EUR.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="CODE:TICKETS[:PRICE:CURRENCY]",
    help="A ticket type, like balcony:40:25.00:EUR, instead of --tickets. As often as there are types.",
)
@json_option
def init(event_id: str, name: str, types: tuple[str, ...], as_json: bool, **one_type: Any) -> None:
    """Open an event under EVENT_ID.

    It belongs to no organizer: admins run it. Times, a venue and limits are set with PATCH /events/EVENT_ID.

    Exits with 0 when it is open, 2 when the id is taken, something is wrong with what was given, or the storage does
    not answer.
    """
    fields = {"event_id": event_id, "name": name, **_total(**one_type)}
    body = _checked(InitializeSchema, fields | ({"ticket_types": [_type(each) for each in types]} if types else {}))
    # Nobody has signed in, so it is by nobody: whoever had a name that stood here would be its organizer.
    command = Initialize(event_id=event_id, name=body["name"], ticket_types=tuple(body["ticket_types"]))
    with storage():
        state = services().manager.execute(command).event
    assert state is not None
    event = _schema.dump(_seen(state))
    if as_json:
        print_json(event)
    else:
        click.echo(f"{event_id} is open: {counted(event['total_tickets'], 'ticket')}.")


def _found(status: EventStatus | None, text: str | None, damaged: list[str]) -> Iterator[SeenEvent]:
    """The events, page by page. Those that cannot be read are added to `damaged`."""
    parts, after = services(), None
    while True:
        at, deadline = parts.clock.now(), parts.clock.monotonic() + parts.config.request_deadline_s
        page = parts.catalog.page(PAGE_SIZE, at, deadline, status=status, text=text, after=after)
        for event_id, summarized in page.events:
            try:
                seen = SeenEvent(summarized or parts.manager.state_of(event_id), at)
            except (EventNotFound, LedgerDamaged):
                damaged.append(event_id)
                continue
            if status in (None, seen.status):
                yield seen
        if page.next is None:
            return
        after = page.next


def _seen(state: EventState | SummarizedEvent) -> SeenEvent:
    return SeenEvent(state, services().clock.now())


def _total(tickets: int | None, price: str | None, currency: str | None) -> dict[str, Any]:
    given = {"total_tickets": tickets, "price": price, "currency": currency}
    return {name: value for name, value in given.items() if value is not None}


def _type(text: str) -> dict[str, Any]:
    """`balcony:40` or `balcony:40:25.00:EUR` as `InitializeSchema` takes it."""
    code, *rest = text.split(":")
    if len(rest) not in (1, 3) or not rest[0].isdecimal():
        raise click.BadParameter(f"{text!r} is not CODE:TICKETS[:PRICE:CURRENCY].", param_hint="--type")
    return {"code": code, **_total(int(rest[0]), *(rest[1:] or (None, None)))}


def _checked(schema: Any, values: dict[str, Any]) -> dict[str, Any]:
    """What the HTTP API would take; ends the command with what is wrong."""
    try:
        loaded: dict[str, Any] = schema().load(values)
        return loaded
    except ValidationError as error:
        fail("\n".join(f"{name}: {' '.join(found)}" for name, found in flattened(error.messages).items()))


def _print_line(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    starts = f", begins {event['starts_at']}" if event["starts_at"] else ""
    tickets = f"{event['available_tickets']} of {counted(event['total_tickets'], 'ticket')} available"
    waiting = f"{event['waiting_list_count']} waiting"
    click.echo(f"{event['event_id']}: {event['name']}, {event['status']}, {tickets}, {waiting}{starts}")


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    types = event.pop("ticket_types")
    for name, value in event.items():
        if value is not None:
            click.echo(f"{name}: {value}")
    for each in types:
        price = f"{each['price']} {each['currency']}" if each["currency"] else "free"
        counts = [f"{each[f'{name}_tickets']} {name}" for name in ("total", "available", "booked", "held")]
        counts.append(f"{each['waiting_list_count']} waiting")
        click.echo(f"ticket type {each['code']}: {each['name']}, {price}, {', '.join(counts)}")
