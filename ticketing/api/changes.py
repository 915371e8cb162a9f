"""GET /events/<event_id>/changes: what happened to an event, for those who follow it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import request
from flask_smorest import Blueprint

from .. import logs
from ..errors import EventNotFound
from ..feed import AfterTheLastChange
from ..ids import is_event_id
from ..services import request_deadline, services
from . import admission, auth, permissions
from .auth import Role
from .bodies import StrictParser
from .openapi import documented, leads_on
from .problems import ApiProblem
from .schemas import ChangePageSchema, ChangesQuerySchema, change_view

blueprint = Blueprint("changes", __name__, description="Follow what happens to an event.")
blueprint.ARGUMENTS_PARSER = StrictParser()


@blueprint.get("/events/<event_id>/changes")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(ChangesQuerySchema, location="query")
@blueprint.response(200, ChangePageSchema, headers=leads_on())
@documented(blueprint, "list_changes", "event_not_found", "validation_failed", tag="Changes", protected=True)
def changes(query: dict[str, Any], event_id: str) -> Any:
    """What happened to an event.

    All changes after a version, in order, each with its orders as they were after it. With `wait`, an empty page waits
    for the next change.
    """
    if not is_event_id(event_id):
        raise EventNotFound(event_id)
    permissions.require_staff_of_event(event_id)
    try:
        page = services().feed.page(
            event_id, query["after"], query["limit"], query["wait"], admission.leave, request_deadline()
        )
    except AfterTheLastChange:
        raise ApiProblem(422, members={"errors": {"after": ["The event has not come to this version."]}}) from None
    logs.leave_out(page.waited_s)
    body = {"items": [change_view(change) for change in page.changes], "next": page.next_version}
    link = urlencode({**request.args.to_dict(), "after": page.next_version})
    return body, 200, {"Link": f'<{request.path}?{link}>; rel="next"'}
