"""`flask --app wsgi webhooks …`."""

from __future__ import annotations

import signal

import click
from flask.cli import AppGroup

from ..clock import SystemClock
from ..delivery.deliverer import LEASE_S, Deliverer, Settings
from ..delivery.sender import Sender
from ..services import services
from .terminal import storage

webhooks_commands = AppGroup("webhooks", help="Tell receivers what happens.")


@webhooks_commands.command("deliver")
@click.option(
    "--lease-s",
    default=LEASE_S,
    show_default=True,
    type=click.FloatRange(1.0),
    help="After so many seconds others take over what this process had when it died.",
)
def deliver(lease_s: float) -> None:
    """Deliver notices to the receivers of all webhooks, until it is told to stop (SIGTERM, Ctrl-C).

    Any number of these processes may run: they share the work.
    """
    parts = services()
    with storage():
        pass
    deliverer = Deliverer(
        parts.webhooks,
        parts.feed,
        SystemClock(),
        lambda: Sender(allow_private=parts.config.webhooks_allow_private),
        Settings(lease_s=lease_s),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: deliverer.stop())
    click.echo("Delivering.", err=True)
    deliverer.run()
