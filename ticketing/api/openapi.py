"""/openapi.json and /docs: made by flask-smorest from the views; Swagger UI's files come from a package.

A view says with `documented` what flask-smorest cannot read from its code: its name, its place in the document and
the codes of its errors. The rest is completed here for all of them: examples, and the headers of every answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar, cast

import flask_swagger_ui
from apispec import APISpec, BasePlugin
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask, Response, send_from_directory
from flask_smorest import Api, Blueprint

from .. import __version__
from ..errors import SalesNotOpen
from . import examples
from .problems import HTTP_CODES, MEDIA_TYPE, REPLAYED_HEADER
from .schemas import ProblemSchema

View = TypeVar("View", bound=Callable[..., Any])

# In the order of a person's work.
TAGS = {
    "Events": "Open an event, look at it, change it, end its sale.",
    "Bookings": "Book tickets, and give them back.",
    "Orders": "Look at orders.",
    "Waiting list": "Who waits for tickets, first come, first served.",
    "Users": "Accounts: register, look, change, erase.",
    "Tokens": "Access tokens, and refresh tokens to get new ones.",
    "Changes": "Follow what happens to an event.",
    "Webhooks": "Be told of what happens, at a URL of yours.",
    "Service": "For load balancers, supervisors and Prometheus.",
}

DESCRIPTION = """\
Book tickets for events. First come, first served; never oversold, and an answered booking is never lost.

- **Credentials** are HTTP Basic or an access token (`Authorization: Bearer …`). Anybody may book without.
- **Errors** are `application/problem+json` (RFC 9457): decide by `code`. Beside those that stand at an operation there
  are {elsewhere}.
- **Repeat** a POST that got no answer with the same `Idempotency-Key`: it has one effect and one answer. 503 says that
  nobody knows yet; 429 and 503 say in `Retry-After` when to come back.
- **Lists** take `limit` and `after`: pass the `next` of one page as the `after` of the following one.
- Timestamps are RFC 3339 in UTC. Unknown fields are refused.
""".format(elsewhere=", ".join(f"{status} `{HTTP_CODES[status][0]}`" for status in (404, 405, 414, 431)))

IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "A value of your own for this request: a repeat has no second effect and gets the first answer "
    "again, with `Idempotent-Replayed: true`.",
}
IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "required": True,
    "schema": {"type": "string"},
    "description": "The `ETag` of the event that the change is meant for, or `*` for whatever it is now.",
    "example": '"1"',
}
# What the paths name, with an example of each.
PATH_PARAMETERS = {
    "event_id": ("The event's id.", examples.EVENT_ID),
    "order_id": ("The order's id, from the answer to its booking.", examples.ORDER_ID),
    "user_id": ("The user's id.", "ada"),
    "webhook_id": ("The webhook's id.", "wh_0f3c6a9e1b2d4c5f6a7b8c9d"),
}
SCHEMES: list[dict[str, Any]] = [{"basic": []}, {"bearer": []}]
ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"

SETTINGS = {
    "API_TITLE": "Ticketing",
    "API_VERSION": __version__,
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
    "OPENAPI_SWAGGER_UI_PATH": "docs",
    "OPENAPI_SWAGGER_UI_URL": "/docs/assets/",
    "OPENAPI_SWAGGER_UI_CONFIG": {"deepLinking": True, "displayRequestDuration": True, "defaultModelsExpandDepth": 0},
    "API_SPEC_OPTIONS": {
        "info": {"description": DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "A user name and a password."},
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An `access_token` from `POST /auth/token`.",
                },
            },
        },
    },
}

# Headers that mean the same wherever they stand: (what, an example, its type, whether it is always there).
HEADERS: dict[str, tuple[str, Any, str, bool]] = {
    "X-Request-ID": (
        "The request's own `X-Request-ID`, or one made for it. It finds the request in the log.",
        "0f3c6a9e1b2d4c5f8a7b6c5d4e3f2a1b",
        "string",
        True,
    ),
    "X-RateLimit-Limit": ("How many requests this client may make in a window.", 1200, "integer", False),
    "X-RateLimit-Remaining": ("How many of them are left.", 1187, "integer", False),
    "X-RateLimit-Reset": ("When the window ends, in seconds since 1970.", 1798797600, "integer", False),
    "Retry-After": ("Seconds to wait before the request is repeated.", 1, "integer", True),
    "WWW-Authenticate": ("How to authenticate.", 'Basic realm="ticketing"', "string", True),
    REPLAYED_HEADER: ("`true`: this is the answer to an earlier request.", "true", "string", False),
}
RATE_LIMIT_HEADERS = [name for name in HEADERS if name.startswith("X-RateLimit-")]

ANYWHERE = ("unauthorized", "authentication_not_configured", "rate_limited", "overloaded", "storage_unavailable")
BY_BODY = ("invalid_json", "bad_request", "body_too_large", "unsupported_media_type", "validation_failed")
BY_KEY = ("invalid_idempotency_key", "idempotency_key_reused")

REPLAYABLE = "replayable"
"""The last part of the name of an answer that a repeat of its request may get again."""


class Converter(OpenAPIConverter):
    """apispec's reading of marshmallow schemas, with what `Meta.json_schema` adds to one."""

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """The schema as JSON Schema."""
        json_schema: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        return json_schema | getattr(schema.Meta, "json_schema", {})


class SchemaPlugin(MarshmallowPlugin):
    """apispec's plugin with this converter."""

    Converter = Converter


class CompletingPlugin(BasePlugin):
    """Completes each operation: what its parameters mean, its examples, and the headers that every answer has."""

    def __init__(self) -> None:
        self._recorded = examples.recorded()
        self._problems = examples.problems()

    def init_spec(self, spec: APISpec) -> None:
        """Components that stand in the document where something refers to them."""
        self._components = spec.components
        for code, problem in self._problems.items():
            spec.components.example(code, {"summary": problem.detail, "value": problem.body}, lazy=True)
        for name, (description, example, type_, required) in HEADERS.items():
            header = tells(name, description, type=type_, required=required)[name] | {"example": example}
            spec.components.header(name, header, lazy=True)

    def path_helper(
        self,
        path: str | None = None,
        operations: dict[str, Any] | None = None,
        parameters: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say what the parameters of a path mean."""
        for parameter in parameters or []:
            parameter["description"], parameter["example"] = PATH_PARAMETERS[parameter["name"]]

    def operation_helper(
        self, path: str | None = None, operations: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Complete the operations of a path."""
        for operation in (operations or {}).values():
            self._complete(operation)

    def _complete(self, operation: dict[str, Any]) -> None:
        recorded = self._recorded.get(operation["operationId"], {"requests": {}, "responses": {}})
        if recorded["requests"]:
            (media_type,) = operation["requestBody"]["content"].values()
            media_type["examples"] = recorded["requests"]
        limits = [] if operation["tags"] == ["Service"] else RATE_LIMIT_HEADERS
        operation["responses"] = dict(sorted(operation["responses"].items(), key=lambda item: int(item[0])))
        for status, response in operation["responses"].items():
            if isinstance(response, str):
                self._add_problem(int(status), response)
                continue
            response["headers"] = response.get("headers", {}) | {name: name for name in ("X-Request-ID", *limits)}
            shown = recorded["responses"].get(str(status), {"examples": {}, "headers": {}})
            for name, value in shown["headers"].items():
                response["headers"][name]["example"] = value
            if shown["examples"]:
                (media_type,) = response["content"].values()
                media_type["examples"] = shown["examples"]

    def _add_problem(self, status: int, name: str) -> None:
        """Add the answer of this name, which `_errors` has given it, to the components."""
        if name in self._components.responses:
            return
        codes = [part for part in name.split(".") if part != REPLAYABLE]
        schema = {"allOf": [ProblemSchema, {"properties": {"code": {"enum": codes}}}]}
        headers: dict[str, Any] = {header: header for header in ("X-Request-ID", *RATE_LIMIT_HEADERS)}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "WWW-Authenticate"
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            headers["Retry-After"] = "Retry-After"
        if SalesNotOpen.code in codes:
            what = f"With `{SalesNotOpen.code}`: seconds until sales open."
            headers |= tells("Retry-After", what, type="integer", required=False)
        if name.endswith(f".{REPLAYABLE}"):
            headers |= replays()
        response = {
            "description": HTTPStatus(status).phrase,
            "headers": headers,
            "content": {MEDIA_TYPE: {"schema": schema, "examples": {code: code for code in codes}}},
        }
        self._components.response(name, response)


class ProblemApi(Api):
    """flask-smorest without its own error answers: errors leave through problems.py."""

    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        pass

    def _register_responses(self) -> None:
        pass

    def _register_pagination_header(self) -> None:
        pass

    @cached_property
    def _document(self) -> bytes:
        return json.dumps(self.spec.to_dict(), indent=2, ensure_ascii=False).encode()

    def _openapi_json(self) -> Response:
        return Response(self._document, mimetype="application/json")


def init_openapi(app: Flask) -> Api:
    """Serve /openapi.json and /docs. Returns what blueprints are registered with."""
    app.config.update(SETTINGS)
    app.add_url_rule("/docs/assets/<path:filename>", "docs_assets", _asset)
    plugins = {"marshmallow_plugin": SchemaPlugin(), "extra_plugins": [CompletingPlugin()]}
    return ProblemApi(app, spec_kwargs=plugins)


def documented(
    blueprint: Blueprint,
    name: str,
    *codes: str,
    tag: str,
    protected: bool = False,
    any_role: bool = False,
    takes_body: bool = False,
    takes_key: bool | None = None,
) -> Callable[[View], View]:
    """Document what a view has beside its schemas: its operationId, its tag, and the `codes` of its own errors.

    `protected`: wants credentials, Basic or Bearer, and not every caller may; `any_role`: every caller may.
    `takes_body`: a JSON body. `takes_key`: an `Idempotency-Key`, as whatever takes a body unless told.
    Raises KeyError for a code that there is not.
    """
    told = {*codes, "internal_error"}
    if tag != "Service":
        told.update(ANYWHERE)
    if protected and not any_role:
        told.add("forbidden")
    # Where credentials are not needed they are taken all the same: limits count by user, staff see more.
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [tag],
        "security": SCHEMES if protected else [{}, *SCHEMES],
    }
    if takes_body:
        told.update(BY_BODY)
    if takes_body if takes_key is None else takes_key:
        told.update(BY_KEY)
        operation["parameters"] = [IDEMPOTENCY_KEY]
    if told & examples.REFUSALS:
        told.add("ledger_damaged")
    operation["responses"] = _errors(told, takes_key=IDEMPOTENCY_KEY in operation.get("parameters", ()))
    return cast(Callable[[View], View], blueprint.doc(**operation))


def tells(header: str, description: str, *, type: str = "string", required: bool = True) -> dict[str, Any]:
    """Document a header of an answer. `required`: it is always there."""
    return {header: {"description": description, "schema": {"type": type}, "required": required}}


def replays() -> dict[str, Any]:
    """Document the header of an answer to a request with an `Idempotency-Key`."""
    return {REPLAYED_HEADER: REPLAYED_HEADER}


def creates(what: str) -> dict[str, Any]:
    """Document the headers of an answer that made something."""
    return tells("Location", f"The path of {what}.") | replays()


def leads_on() -> dict[str, Any]:
    """Document the header of a page."""
    return tells("Link", 'The path of the next page, with `rel="next"`.', required=False)


def _asset(filename: str) -> Response:
    return send_from_directory(ASSETS, filename, max_age=86_400)


def _errors(codes: set[str], *, takes_key: bool) -> dict[int, str]:
    """The answers with these codes, by status: the names of components, which are made of the codes."""
    problems = examples.problems()
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(int(problems[code].status), []).append(code)
    for named in by_status.values():
        if takes_key and not examples.REPLAYABLE.isdisjoint(named):
            named.append(REPLAYABLE)
    return {status: ".".join(named) for status, named in by_status.items()}
