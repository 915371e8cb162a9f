"""What Prometheus is told: how many requests were answered, how, and how long each took.

Under gunicorn with our settings each worker counts in files of its own, in the folder that
`PROMETHEUS_MULTIPROC_DIR` names (`gunicorn_conf.py` sets it before this module is imported), and whoever is
asked adds up all of them. A file outlives its worker, so no counter goes back when a worker dies. Without that
variable an app counts for itself, in memory.

Every label has few values, whatever clients send: a rule instead of a path, and no method of their own making.
"""

from __future__ import annotations

import os

from flask import Flask, Response, current_app, g, request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from .clock import Clock

EXTENSION = "ticketing.metrics"
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = "text/plain"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# A booking takes a few milliseconds, and no answer longer than 10 s.
DURATIONS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def init_metrics(app: Flask, clock: Clock) -> None:
    """Count each answer of `app`. Register it right after the request logging, whose time it takes.

    So it sees the answers of all later hooks too: what they refuse is counted.
    """
    registry = CollectorRegistry()
    requests = Counter(
        "ticketing_http_requests_total",
        "Requests that were answered.",
        ["method", "route", "status"],
        registry=registry,
    )
    durations = Histogram(
        "ticketing_http_request_duration_seconds",
        "How long requests took to be answered.",
        ["route"],
        buckets=DURATIONS_S,
        registry=registry,
    )

    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.method in METHODS else "other"
        requests.labels(method, route, str(response.status_code)).inc()
        durations.labels(route).observe(clock.monotonic() - g.request_begun_s)
        return response

    app.after_request(count)
    if MULTIPROCESS_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    app.extensions[EXTENSION] = registry


def exposition() -> Response:
    """What was counted so far, as Prometheus reads it."""
    return Response(generate_latest(current_app.extensions[EXTENSION]), content_type=CONTENT_TYPE_PLAIN_0_0_4)
