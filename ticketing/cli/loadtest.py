"""`flask --app wsgi loadtest`: a crowd books over HTTP, and then each promise that it was given is checked."""

from __future__ import annotations

import base64
import math
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import click
from flask.cli import with_appcontext

from ..services import services
from .crowd import Booking, Client, broken_promises, orders_of, send_crowd
from .terminal import EXIT_FINDINGS, fail, json_option, print_json, progress


def _url(context: click.Context, option: click.Parameter, url: str | None) -> str | None:
    try:
        parts = urlsplit(url or "http://unless.told")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return url
    except ValueError:  # a port that is none
        pass
    raise click.BadParameter(f"{url!r} is no http:// or https:// URL.")


@click.command("loadtest")
@click.option("--url", callback=_url, help="The service. Unless told the one at HOST and PORT of the settings.")
@click.option("--event", "event_id", metavar="EVENT_ID", help="Book this event. Unless told one is opened for it.")
@click.option("--tickets", default=1000, show_default=True, type=click.IntRange(1), help="Of the event it opens.")
@click.option("--users", default=5000, show_default=True, type=click.IntRange(1), help="Each books one ticket.")
@click.option("--connections", default=32, show_default=True, type=click.IntRange(1, 1000), help="All at once.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Then nobody else books.")
@json_option
@with_appcontext
def load_test(url: str | None, event_id: str | None, tickets: int, seconds: float, as_json: bool, **crowd: int) -> None:
    """Let a crowd book, and check what it was promised.

    It asks a running service over HTTP. Tells how many bookings were answered in a second, how soon, and what the
    others got. Then it reads all orders and checks: each booking that was answered is there, nobody has two, no ticket
    was sold twice, nobody was overtaken.

    It signs in as the admin of the settings. The orders stay: it is not for a database in use. To measure the service
    and not its limits, start that with RATELIMIT_ENABLED=false. The crowd takes its share of the machine that it is on.

    Exits with 0 when all promises were kept, 1 when one was broken (each is named), 2 when nothing was booked or the
    service does not answer.
    """
    config = services().config
    if not (config.basic_auth_username and config.basic_auth_password):
        fail("Set BASIC_AUTH_USERNAME and BASIC_AUTH_PASSWORD: the admin opens the event and reads its orders.")
    url = url or f"http://{config.bind_address}"
    basic = f"{config.basic_auth_username}:{config.basic_auth_password}"
    signed_in = {"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"}
    admin, is_own = Client(url, signed_in), event_id is None
    event_id = event_id or f"loadtest-{secrets.token_hex(4)}"
    path = f"/events/{quote(event_id, safe='')}"
    try:
        if is_own:
            admin.answer("POST", "/initialize", {"event_id": event_id, "name": "Load test", "total_tickets": tickets})
        code = admin.answer("GET", path)["ticket_types"][0]["code"]
        headers = signed_in if config.booking_requires_login else {}
        ticket = {"event_id": event_id, "ticket_type": code}
        bookings = list(progress(send_crowd(url, headers, ticket, seconds, **crowd), "booked", crowd["users"]))
        orders = list(orders_of(admin, path))
        event = admin.answer("GET", path)  # after the orders: what they show was there by then
    finally:
        admin.close()
    broken = broken_promises(bookings, orders, event, is_own)
    report = report_of(bookings, orders, event) | {"broken": broken}
    if not report["bookings"]:
        fail(f"Nothing was booked: {_counts(report)}.")
    if as_json:
        print_json(report)
    else:
        _print(report)
    if any(outcome.startswith("429") for outcome in report["outcomes"]):
        click.echo("The service limits its clients (429): start it with RATELIMIT_ENABLED=false.", err=True)
    sys.exit(EXIT_FINDINGS if broken else 0)


def report_of(
    bookings: Sequence[Booking], orders: Sequence[dict[str, Any]], event: dict[str, Any]
) -> dict[str, Any]:
    """What was measured, as `--json` prints it. Latencies are those of bookings that were answered with an order."""
    latencies_ms = sorted(booking.latency_s * 1000 for booking in bookings if booking.order is not None)
    count = len(latencies_ms)
    ended_s = max((booking.ended_s for booking in bookings), default=0.0)
    seconds = ended_s - min((booking.began_s for booking in bookings), default=0.0)
    return {
        "event_id": event["event_id"],
        "seconds": round(seconds, 3),
        "bookings": count,
        "bookings_per_s": round(count / seconds, 1) if seconds else 0.0,
        "latency_ms": {
            f"p{part}": round(latencies_ms[math.ceil(count * part / 100) - 1], 1) for part in (50, 95, 99) if count
        },
        "outcomes": dict(sorted(Counter(each for booking in bookings for each in booking.outcomes).items())),
        "orders": len(orders),
        "booked_tickets": event["booked_tickets"],
        "total_tickets": event["total_tickets"],
    }


def _counts(report: dict[str, Any]) -> str:
    return ", ".join(f"{outcome}: {count}" for outcome, count in report["outcomes"].items())


def _print(report: dict[str, Any]) -> None:
    latencies = ", ".join(f"{name} {value} ms" for name, value in report["latency_ms"].items())
    tickets = f"{report['booked_tickets']} of {report['total_tickets']} tickets booked"
    for line in (
        f"{report['event_id']}: {report['bookings']} bookings in {report['seconds']:.1f} s",
        f"speed: {report['bookings_per_s']:.0f} bookings/s, {latencies}",
        f"answers: {_counts(report)}",
        f"afterwards: {report['orders']} orders, {tickets}",
        *(f"broken: {sentence}" for sentence in report["broken"]),
        *(() if report["broken"] else ("every promise was kept",)),
    ):
        click.echo(line)
