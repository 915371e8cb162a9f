"""`flask --app wsgi webhooks …`."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import click
from flask.cli import AppGroup

from ..clock import SystemClock
from ..delivery.deliverer import LEASE_S, Deliverer, Settings
from ..delivery.metrics import metrics_served
from ..delivery.sender import Sender
from ..services import services
from .terminal import fail, storage

webhooks_commands = AppGroup("webhooks", help="Tell receivers what happens.")


@webhooks_commands.command("deliver")
@click.option(
    "--lease-s",
    default=LEASE_S,
    show_default=True,
    type=click.FloatRange(1.0),
    help="After so many seconds others take over what this process had when it died.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Answer Prometheus at this port of HOST. Without it there are no metrics.",
)
def deliver(lease_s: float, metrics_port: int | None) -> None:
    """Deliver notices to the receivers of all webhooks.

    It goes on until it is told to stop (SIGTERM, Ctrl-C). Any number of these processes may run: they share the work.

    Exits with 0 when it was told to stop, 2 when the storage does not answer at the start, or the port of the metrics
    cannot be used.
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
    with ExitStack() as stack:
        if metrics_port is not None:
            try:
                stack.enter_context(metrics_served(deliverer, parts.config.host, metrics_port))
            except OSError as error:
                fail(f"Port {metrics_port} of {parts.config.host} cannot be used: {error.strerror}.")
        click.echo("Delivering.", err=True)
        deliverer.run()
