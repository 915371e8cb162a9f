"""What gunicorn refuses before the app sees it, like a header that is too large: problems too, instead of HTML."""

from __future__ import annotations

import logging
import socket
from http import HTTPStatus

from gunicorn import util

from .api.headers import protect
from .api.problems import ApiProblem
from .logs import REQUEST_ID_HEADER, new_request_id

log = logging.getLogger(__name__)


def install() -> None:
    """Have gunicorn's workers in this process answer with problems. There is no setting for that."""
    util.write_error = write_problem


def write_problem(client: socket.socket, status: int, reason: str, message: str) -> None:
    """Answer what cannot be served, in place of `gunicorn.util.write_error`; the connection ends after it.

    Neither `reason` nor `message` is sent: they repeat what came, and tell how gunicorn reads it.
    """
    request_id = new_request_id()
    response = protect(ApiProblem(status).response())
    response.headers["Connection"] = "close"
    response.headers[REQUEST_ID_HEADER] = request_id
    log.info("request refused", extra={"status": status, "request_id": request_id})
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{response.headers}"
    util.write_nonblock(client, head.encode("ascii") + response.get_data())
