"""Lists: `limit` and `after` in, `items` and `next` out, and a `Link` to the next page (RFC 8288).

A cursor holds what the list is sorted by of the last item shown: the number of an order, the id of a user. Both are
kept for ever, so a page goes on where the one before it ended, whatever came or went meanwhile.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request

from .problems import ApiProblem

Item = TypeVar("Item")
Page = tuple[dict[str, Any], dict[str, str]]


def page_of(
    items: Iterator[Item], limit: int, show: Callable[[Item], Any], place: Callable[[Item], int | str]
) -> Page:
    """The first `limit` of `items`, shown by `show`: the body of the answer and its headers.

    `place` is what the list is sorted by.
    """
    shown = list(islice(items, limit + 1))
    is_last = len(shown) <= limit
    del shown[limit:]
    return page_up_to(None if is_last else place(shown[-1]), [show(item) for item in shown])


def page_up_to(place: int | str | None, items: list[Any]) -> Page:
    """A page with these items; the next one begins after `place`. None: there is none."""
    if place is None:
        return {"items": items, "next": None}, {}
    cursor = _encoded(place)
    query = urlencode({**request.args.to_dict(), "after": cursor})
    return {"items": items, "next": cursor}, {"Link": f'<{request.path}?{query}>; rel="next"'}


def number_after(query: dict[str, Any]) -> int:
    """The number behind the cursor of a query; 0 without one. Raises `ApiProblem` 422 for what is no cursor."""
    text = text_after(query, "0")
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0 or str(number) != text:
        raise no_cursor()
    return number


def text_after(query: dict[str, Any], first: str = "") -> str:
    """The text behind the cursor of a query; `first` without one. Raises `ApiProblem` 422 for what is no cursor."""
    cursor = query.get("after")
    if cursor is None:
        return first
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:  # binascii.Error and UnicodeDecodeError are
        raise no_cursor() from None
    if not text or _encoded(text) != cursor:
        raise no_cursor()
    return text


def no_cursor() -> ApiProblem:
    """The problem of a cursor that is none of the list."""
    return ApiProblem(422, members={"errors": {"after": ["Not a cursor of this list."]}})


def _encoded(place: int | str) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")
