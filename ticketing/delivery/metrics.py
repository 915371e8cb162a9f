"""What Prometheus is told by a process that delivers webhooks, at a port of its own: it has no other HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from .deliverer import Deliverer
from .sender import Outcome

# A receiver may take 10 s.
DURATIONS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@contextmanager
def metrics_served(deliverer: Deliverer, host: str, port: int) -> Iterator[int]:
    """Serve the metrics of `deliverer` meanwhile. The port: 0 takes one that is free.

    Raises OSError where it cannot listen.
    """
    registry = make_registry(deliverer)
    server, thread = start_http_server(port, host, registry)
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_registry(deliverer: Deliverer) -> CollectorRegistry:
    """Count what `deliverer` does from now on."""
    registry = CollectorRegistry()
    deliveries = Counter(
        "ticketing_webhook_deliveries_total",
        "Attempts to deliver a notice: delivered or failed.",
        ["outcome"],
        registry=registry,
    )
    for outcome in ("delivered", "failed"):
        deliveries.labels(outcome)  # 0 from the start: a rate needs a value before the first one
    durations = Histogram(
        "ticketing_webhook_delivery_duration_seconds",
        "How long attempts took.",
        buckets=DURATIONS_S,
        registry=registry,
    )
    for name, meaning, figure in (
        ("ticketing_webhooks_served", "Webhooks that this process serves.", deliverer.served),
        ("ticketing_webhooks_failing", "Those of them whose receiver fails.", deliverer.failing),
        ("ticketing_webhooks_behind_changes", "Changes that those of them have still to be told of.", deliverer.behind),
    ):
        Gauge(name, meaning, registry=registry).set_function(figure)

    def count(outcome: Outcome, duration_s: float) -> None:
        deliveries.labels("delivered" if outcome.error is None else "failed").inc()
        durations.observe(duration_s)

    deliverer.on_attempt = count
    return registry
