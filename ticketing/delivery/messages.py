"""What a receiver gets: a notice as JSON, under an id that stays the same however often it is sent."""

from __future__ import annotations

import hashlib
import json

from ..api.schemas import OrderSchema, Timestamp, order_view
from ..domain.notices import Notice

_order_schema = OrderSchema()
_timestamp = Timestamp()


def message_id(webhook_id: str, event_id: str, notice: Notice) -> str:
    """The `webhook-id`: made from what it tells, so that a receiver knows what it has had already."""
    said = json.dumps([webhook_id, event_id, notice.change.version, notice.number])
    return f"msg_{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}"


def body_of(event_id: str, notice: Notice) -> str:
    """`{"type", "timestamp", "data": {"event_id", "version", "order"}}`; without an order for notices of events."""
    data = {"event_id": event_id, "version": notice.change.version}
    if notice.changed is not None:
        order, waiting_position, _ = notice.changed
        data["order"] = _order_schema.dump(order_view(order, waiting_position))
    at = _timestamp.serialize("at", {"at": notice.change.at})
    return json.dumps({"type": notice.type, "timestamp": at, "data": data}, ensure_ascii=False)
