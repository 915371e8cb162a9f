"""/webhooks: who is told of what happens, and how that goes."""

from __future__ import annotations

import base64
import hashlib
import secrets
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Response, request, url_for
from flask_smorest import Blueprint

from ..addresses import is_address, is_public
from ..errors import EventNotFound, IdempotencyKeyReused
from ..ids import is_event_id
from ..services import left_s, request_deadline, services
from ..storage.webhooks import Subscription, Webhooks
from . import auth, permissions
from .auth import Caller, Role
from .bodies import StrictParser
from .idempotency import key_scope, request_key
from .openapi import creates, documented, leads_on
from .problems import REPLAYED_HEADER, ApiProblem
from .schemas import (
    DeliveriesQuerySchema,
    DeliveryPageSchema,
    NewWebhookSchema,
    ReplayQuerySchema,
    SubscribeSchema,
    WebhookPageSchema,
    WebhookSchema,
    WebhooksQuerySchema,
)

blueprint = Blueprint("webhooks", __name__, description="Be told of what happens.")
blueprint.ARGUMENTS_PARSER = StrictParser()

SECRET_BYTES = 32


@blueprint.post("/webhooks")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(SubscribeSchema)
@blueprint.response(201, NewWebhookSchema, headers=creates("the webhook"))
@documented(blueprint, "create_webhook", "event_not_found", tag="Webhooks", protected=True, takes_body=True)
def subscribe(body: dict[str, Any]) -> Any:
    """Be told of what happens.

    From now on each notice is a POST to a URL of yours, signed with the `secret` (Standard Webhooks). The secret is
    shown this once.
    """
    caller = _caller()
    key = request_key(caller.user_id, body)
    event_id = body.get("event_id")
    if event_id is None and caller.role is not Role.ADMIN:
        raise _wrong("event_id", "Name an event: only an admin is told of all.")
    _check_url(body["url"], services().config.webhooks_allow_private)
    if event_id is not None:
        # A look for an admin too: for what there is not he gets 404.
        permissions.require_staff_of(services().manager.state_of(event_id, within_s=left_s()))
    subscription = Subscription(
        webhook_id=_new_id(key_scope(caller.user_id)),
        url=body["url"],
        event_id=event_id,
        types=body.get("types"),
        secret="whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode(),
        created_by=caller.user_id,
        created_at=services().clock.now(),
        fingerprint=key and key.fingerprint,
    )
    headers = {"Location": url_for("webhooks.webhook", webhook_id=subscription.webhook_id)}
    if _webhooks().add(subscription):
        _require_role_still(caller)
        return subscription, 201, headers
    first = _webhooks().find(subscription.webhook_id)
    if first is None or first.fingerprint != subscription.fingerprint:
        raise IdempotencyKeyReused
    return first, 201, headers | {REPLAYED_HEADER: "true"}


@blueprint.get("/webhooks")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(WebhooksQuerySchema, location="query")
@blueprint.response(200, WebhookPageSchema, headers=leads_on())
@documented(blueprint, "list_webhooks", "validation_failed", tag="Webhooks", protected=True)
def webhooks(query: dict[str, Any]) -> Any:
    """Your webhooks.

    For an admin those of all.
    """
    caller = _caller()
    created_by = None if caller.role is Role.ADMIN else caller.user_id
    found = _webhooks().find_all(created_by, query["after"], query["limit"] + 1)
    if len(found) <= query["limit"]:
        return {"items": found, "next": None}
    cursor = found[-2].webhook_id
    link = urlencode({**request.args.to_dict(), "after": cursor})
    return {"items": found[:-1], "next": cursor}, 200, {"Link": f'<{request.path}?{link}>; rel="next"'}


@blueprint.get("/webhooks/<webhook_id>")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.response(200, WebhookSchema)
@documented(blueprint, "get_webhook", "webhook_not_found", tag="Webhooks", protected=True)
def webhook(webhook_id: str) -> Subscription:
    """A webhook.

    And how its receiver fares: since when and why it fails, or why the webhook was disabled.
    """
    return _find(webhook_id)


@blueprint.delete("/webhooks/<webhook_id>")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.response(204)
@documented(blueprint, "delete_webhook", "webhook_not_found", tag="Webhooks", protected=True)
def unsubscribe(webhook_id: str) -> Response:
    """End a webhook.

    What is just being delivered may still arrive.
    """
    _webhooks().remove(_find(webhook_id).webhook_id)
    return Response(status=204)


@blueprint.get("/webhooks/<webhook_id>/deliveries")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(DeliveriesQuerySchema, location="query")
@blueprint.response(200, DeliveryPageSchema)
@documented(
    blueprint, "list_deliveries", "webhook_not_found", "validation_failed", tag="Webhooks", protected=True
)
def deliveries(query: dict[str, Any], webhook_id: str) -> Any:
    """The last attempts to deliver.

    100 at most, the newest first.
    """
    found = _find(webhook_id)
    return {"items": _webhooks().deliveries(found.webhook_id, query["limit"]), "next": None}


@blueprint.post("/webhooks/<webhook_id>/replay")
@auth.required(Role.ORGANIZER, Role.ADMIN)
@blueprint.arguments(ReplayQuerySchema, location="query")
@blueprint.response(202, WebhookSchema)
@documented(
    blueprint,
    "replay_webhook",
    "webhook_not_found",
    "event_not_found",
    "validation_failed",
    tag="Webhooks",
    protected=True,
)
def replay(query: dict[str, Any], webhook_id: str) -> Any:
    """Deliver again.

    What came after a version of an event is sent once more. A webhook that was disabled is served again. The notices
    have the same `webhook-id` as before, so that to ask twice does no harm.
    """
    found = _find(webhook_id)
    event_id = found.event_id or query.get("event_id")
    if event_id is None:
        raise _wrong("event_id", "Name an event: this webhook is for all.")
    if query.get("event_id", event_id) != event_id:
        raise _wrong("event_id", "This webhook is for another event.")
    if not is_event_id(event_id):
        raise EventNotFound(event_id)
    if query["after"] > services().manager.state_of(event_id, within_s=left_s()).version:
        raise _wrong("after", "The event has not come to this version.")
    _webhooks().replay(found.webhook_id, event_id, query["after"])
    return _find(webhook_id)


def _find(webhook_id: str) -> Subscription:
    """A webhook of the caller's. Raises `ApiProblem` 404 for another's too: nobody learns that it is there."""
    caller = _caller()
    found = _webhooks().find(webhook_id)
    if found is None or (caller.role is not Role.ADMIN and found.created_by != caller.user_id):
        raise ApiProblem.named("webhook_not_found")
    return found


def _webhooks() -> Webhooks:
    """All of them, for as long as the request may take."""
    return services().webhooks.within(left_s())


def _caller() -> Caller:
    caller = auth.current_caller()
    assert caller is not None  # each view wants one
    return caller


def _require_role_still(caller: Caller) -> None:
    """End the webhooks of a caller who was erased or lost this role meanwhile, and raise `ApiProblem` 403.

    Who takes a role away ends the webhooks after that, and this looks after the webhook is there: one of both finds it.
    """
    account = services().accounts.fresh(caller.user_id, request_deadline())
    if account is None or account.pseudonym is not None or account.role is not caller.role:
        _webhooks().remove_of(caller.user_id)
        auth.refuse(HTTPStatus.FORBIDDEN)


def _new_id(seed: str | None) -> str:
    """An id for a webhook. The same seed makes the same id, so that a repeat finds it."""
    return f"wh_{secrets.token_hex(12) if seed is None else hashlib.sha256(seed.encode()).hexdigest()[:24]}"


def _check_url(url: str, allow_private: bool) -> None:
    """Raise `ApiProblem` 422 for a URL that could never be delivered to. What its name leads to is checked then."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _wrong("url", "Not a URL.") from None
    if parts.scheme not in (("http", "https") if allow_private else ("https",)):
        raise _wrong("url", "Must begin with https://.")
    if not host or port == 0 or not url.isascii() or any(each in url for each in " \\"):
        raise _wrong("url", "Not a URL with a host, in ASCII.")
    if parts.username is not None or parts.fragment:
        raise _wrong("url", "Must have neither a user nor a fragment.")
    if is_address(host) and not is_public(host) and not allow_private:
        raise _wrong("url", "Must lead to a public address.")


def _wrong(field: str, message: str) -> ApiProblem:
    return ApiProblem(422, members={"errors": {field: [message]}})
