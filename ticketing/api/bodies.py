"""Strict JSON (RFC 8259): a body means one thing, or it is refused before anything is decided.

Python's reader is more lenient than the standard: it takes NaN, keeps the last of two equal names and guesses
UTF-16. Each of these would let two programs read one body in two ways.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import Request
from gunicorn.http.errors import ParseException
from webargs.flaskparser import FlaskParser

from .problems import ApiProblem

BODY_BYTES_MAX = 64 * 1024

BULK_BYTES_MAX = 384 * 1024
"""Of a body for `BULK_ENDPOINT`: 500 bookings with the longest ids and codes in UTF-8, and what stands around them."""

BULK_ENDPOINT = "bookings.book_many"
CUT_SHORT = "The body ends before its end, or its chunks are broken."

BODY = "ticketing.body"
"""Where the environment of a request keeps what was read of it: admission control reads before the view does."""


class StrictParser(FlaskParser):
    """webargs, with this reading of bodies; unknown fields are refused in queries as they are in bodies."""

    DEFAULT_UNKNOWN_BY_LOCATION = {"json": None, "query": None}

    def use_args(self, argmap: Any, *args: Any, **kwargs: Any) -> Any:
        """A schema given as a class is made here, once, and not with each request."""
        return super().use_args(argmap() if isinstance(argmap, type) else argmap, *args, **kwargs)

    def load_json(self, req: Request, schema: Any) -> Any:
        """The body of the request. Raises `ApiProblem` 400, 413 or 415."""
        return read_json(req)

    def load_querystring(self, req: Request, schema: Any) -> Any:
        """The query of the request. Raises `ApiProblem` 422 for bytes beyond ASCII, and a name that stands twice."""
        if not req.query_string.isascii():
            raise ApiProblem(422, members={"errors": {"query": ["Not percent-encoded."]}})
        twice = [name for name, values in req.args.lists() if len(values) > 1]
        if twice:
            raise ApiProblem(422, members={"errors": {name: ["Stands in the query twice."] for name in twice}})
        return super().load_querystring(req, schema)

    def handle_error(self, error: Any, req: Any, schema: Any, **kwargs: Any) -> NoReturn:
        """Name the wrong fields of a body or a query (422)."""
        (messages,) = error.messages.values()
        raise ApiProblem(422, members={"errors": flattened(messages)}) from error


def read_json(request: Request) -> Any:
    """The value that the body holds. Raises `ApiProblem` 400, 413 or 415."""
    if not request.is_json:
        raise ApiProblem(415)
    body = read_body(request)
    if body is None:
        raise ApiProblem(413)
    try:
        return json.loads(body.decode(), cls=_strict_decoder)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ApiProblem.named("invalid_json", f"The body is not valid JSON: {_reason(error)}.") from error


def read_body(request: Request) -> bytes | None:
    """The body of the request, read once; None when it is too large, of which nothing more is read than shows it.

    Raises `ApiProblem` 400 for a body that breaks off.
    """
    environ = request.environ
    if BODY not in environ:
        environ[BODY] = _body_of(request)
    body: bytes | None = environ[BODY]
    return body


def _body_of(request: Request) -> bytes | None:
    environ = request.environ
    if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""  # RFC 9112, 6.3
    bytes_max = BULK_BYTES_MAX if request.endpoint == BULK_ENDPOINT else BODY_BYTES_MAX
    length = request.content_length
    if length is not None and length > bytes_max:
        return None
    # Of a body without Content-Length, Werkzeug silently takes as much as the limit allows: let it take a byte more.
    request.max_content_length = bytes_max + 1
    try:
        # Where the length is known there is nothing that Werkzeug's stream would have to watch over.
        body: bytes = request.get_data() if length is None else environ["wsgi.input"].read(length)
    except (ParseException, OSError) as error:  # broken chunks, or no end
        raise ApiProblem(400, detail=CUT_SHORT) from error
    # gunicorn gives what came before the client went away as if it were all.
    if length is not None and len(body) < length:
        raise ApiProblem(400, detail=CUT_SHORT)
    return body if len(body) <= bytes_max else None


def flattened(messages: Any, path: str = "") -> dict[str, list[str]]:
    """marshmallow's tree of messages as one level: {"orders.0.quantity": ["…"]}."""
    if not isinstance(messages, dict):
        return {path or "body": [str(message) for message in messages]}
    flat: dict[str, list[str]] = {}
    for name, below in messages.items():
        step = "" if name == "_schema" else str(name)
        flat |= flattened(below, f"{path}.{step}".strip("."))
    return flat


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in an object twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(object_pairs_hook=_unique_names, parse_constant=_no_constant)


def _strict_decoder() -> json.JSONDecoder:
    """The same for all bodies: `json.loads` makes a decoder with each call where it is told more than the text."""
    return _decoder


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return str(error).split(";")[0]
