"""What the service is measured against: Flask alone, which reads the same JSON and answers the same JSON."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flask import Flask, request

AT = "2026-11-22T23:09:33.014Z"

app = Flask(__name__, static_folder=None)
# The worker of the service tells its app when it serves: the baseline runs on that too.
app.extensions["ticketing"] = SimpleNamespace(begin=lambda: None, end=lambda: None)


def an_order(event_id: str, user_id: str) -> dict[str, Any]:
    """An order as the service shows it."""
    return {
        "order_id": f"{event_id}.fLkwiTD0mRFuvTYBjYQGIA",
        "event_id": event_id,
        "user_id": user_id,
        "ticket_type": "general",
        "quantity": 1,
        "unit_price": "0.00",
        "total_price": "0.00",
        "currency": None,
        "status": "confirmed",
        "waiting_position": None,
        "created_at": AT,
        "updated_at": AT,
        "version": 2,
    }


@app.post("/book")
def book() -> Any:
    """An order."""
    body = request.get_json()
    return an_order(body["event_id"], body["user_id"]), 201


@app.post("/cancel")
def cancel() -> Any:
    """Two orders."""
    body = request.get_json()
    promoted = an_order(body["event_id"], "somebody")
    return {"order": an_order(body["event_id"], body["user_id"]), "promoted": [promoted]}


@app.get("/status/<event_id>")
def status(event_id: str) -> Any:
    """An event's status."""
    return {
        "event_id": event_id,
        "name": "Concert",
        "status": "sold_out",
        "total_tickets": 1_000_000,
        "available_tickets": 999_000,
        "booked_tickets": 1_000,
        "held_tickets": 0,
        "waiting_list_count": 0,
        "version": 1_001,
        "ticket_types": [
            {
                "code": "general",
                "name": "General admission",
                "price": "0.00",
                "currency": None,
                "total_tickets": 1_000_000,
                "available_tickets": 999_000,
                "booked_tickets": 1_000,
                "held_tickets": 0,
                "waiting_list_count": 0,
            }
        ],
    }


@app.get("/orders/<order_id>")
def order(order_id: str) -> Any:
    """An order."""
    return an_order(order_id.partition(".")[0], "somebody")
