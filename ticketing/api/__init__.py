"""The HTTP API: one file a resource, and one a concern that all of them share.

    bookings.py     POST /initialize, /book, /cancel
    events.py       GET  /status/<event_id>, /events/<event_id>/…
    changes.py      GET  /events/<event_id>/changes
    orders.py       GET  /orders/<order_id>
    webhooks.py     /webhooks
    service.py      GET  /healthz, /readyz, /metrics
    schemas.py      what goes in and out
    problems.py     errors -> application/problem+json
    auth.py         who is calling, and what they may do
    limits.py       how often they may call
    idempotency.py  Idempotency-Key
    pagination.py   limit, after, next
    bodies.py       strict JSON
    openapi.py      /openapi.json and /docs
"""
