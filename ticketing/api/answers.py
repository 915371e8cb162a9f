"""What commands have in common: who sent one, and what its sender is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Response
from werkzeug.datastructures import Headers

from ..domain.model import Answer
from . import auth
from .problems import REPLAYED_HEADER
from .schemas import SeenEvent

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def caller_id() -> str | None:
    """The user who sent the current request, None without credentials."""
    caller = auth.current_caller()
    return caller.user_id if caller else None


def seen_event(answer: Answer) -> SeenEvent:
    """The event of an answer, as it was when that was given first."""
    assert answer.event is not None and answer.event.updated_at is not None
    return SeenEvent(answer.event, answer.event.updated_at, answer.promoted)


def headers_of(answer: Answer, **headers: str) -> dict[str, str]:
    """The headers of an answer; it says when it is the answer to an earlier request."""
    return headers | {REPLAYED_HEADER: "true"} if answer.replayed else headers


class FinishedAnswer(Response):
    """An answer with all that its headers need: a length, and no IRI.

    Werkzeug looks through the headers of each answer for what is missing, in a copy: a twentieth of a request.
    """

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """The headers as they are."""
        return self.headers


def json_answer(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer whose body needs no schema any more."""
    return FinishedAnswer(_encode(body) + "\n", status=status, headers=headers, mimetype="application/json")


_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
