"""Lists: `limit` and `after` in, `items` and `next` out, and a `Link` to the next page (RFC 8288).

A cursor holds the number of the last item shown. Orders keep their number for ever, so a page goes on where the
one before it ended, whatever was booked or cancelled meanwhile.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from flask import request

from ..domain.model import Order
from .problems import ApiProblem

Page = tuple[dict[str, Any], dict[str, str]]


def page_of(
    orders: Iterator[Order], limit: int, show: Callable[[Order], dict[str, Any]]
) -> Page:
    """The first `limit` of `orders`, shown by `show`: the body of the answer and its headers."""
    shown = list(islice(orders, limit + 1))
    if len(shown) <= limit:
        return {"items": [show(order) for order in shown], "next": None}, {}
    shown.pop()
    cursor = _encoded(shown[-1].number)
    query = urlencode({**request.args.to_dict(), "after": cursor})
    link = f'<{request.path}?{query}>; rel="next"'
    return {"items": [show(order) for order in shown], "next": cursor}, {"Link": link}


def number_after(query: dict[str, Any]) -> int:
    """The number behind the cursor of a query; 0 without one. Raises `ApiProblem` 422 for what is no cursor."""
    cursor = query.get("after")
    if cursor is None:
        return 0
    try:
        number = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:  # binascii.Error is one
        number = -1
    if number < 0 or _encoded(number) != cursor:
        raise ApiProblem(422, members={"errors": {"after": ["Not a cursor of this list."]}})
    return number


def _encoded(number: int) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")
