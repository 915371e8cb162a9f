"""Headers for browsers and caches, on every answer: what may be kept, what may be shown where, and who may read it.

Nobody keeps an answer: it is personal, or true for a moment only. What has an ETag may be kept, and asked about again.
Pages of other sites may not read answers, unless CORS_ORIGINS names their origin. Cookies are not used at all.
"""

from __future__ import annotations

from flask import Flask, Response, request

from ..config import Config

# A path may hold an order's id, which is all that one needs to read the order: no Referer tells it.
PROTECTING = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

CORS_EXPOSED = (
    "ETag, Idempotent-Replayed, Link, Location, Retry-After, WWW-Authenticate, "
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-ID"
)
CORS_TAKEN = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-ID"
CORS_KEPT_S = "600"


def init_headers(app: Flask, config: Config) -> None:
    """Add them to each answer of `app`. Register it before whatever may answer in place of a view."""
    app.after_request(protect)
    if config.cors_origins:
        origins = frozenset(config.cors_origins.split(","))
        app.after_request(lambda response: _allow(response, origins))


def protect(response: Response) -> Response:
    """Add what every answer has. A view's own Cache-Control stays."""
    headers = response.headers
    present = {name.lower() for name, _ in headers}  # Werkzeug looks a name up with an exception where it is not there
    if "cache-control" not in present:
        headers.add("Cache-Control", "no-cache" if "etag" in present else "no-store")
    for name, value in PROTECTING.items():
        headers.add(name, value)
    return response


def _allow(response: Response, origins: frozenset[str]) -> Response:
    """Let pages of `origins` read the answer. Other origins see one without these headers: browsers keep it back."""
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin not in origins:
        return response
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = CORS_EXPOSED
    if request.method == "OPTIONS":  # a browser asks before it sends
        response.headers["Access-Control-Allow-Methods"] = ", ".join(sorted(response.allow))
        response.headers["Access-Control-Allow-Headers"] = CORS_TAKEN
        response.headers["Access-Control-Max-Age"] = CORS_KEPT_S
    return response
