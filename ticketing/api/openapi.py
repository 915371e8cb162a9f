"""/openapi.json and /docs: made by flask-smorest from the views; Swagger UI's files come from a package."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar, cast

import flask_swagger_ui
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask, Response, send_from_directory
from flask_smorest import Api, Blueprint

from .. import __version__
from .problems import MEDIA_TYPE
from .schemas import ProblemSchema

View = TypeVar("View", bound=Callable[..., Any])

# 401 and 403 too: wrong credentials are refused everywhere.
COMMON_ERRORS = (401, 403, 429, 500, 503)
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
}
SCHEMES: list[dict[str, Any]] = [{"basic": []}, {"bearer": []}]
ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"

SETTINGS = {
    "API_TITLE": "Ticketing",
    "API_VERSION": __version__,
    "OPENAPI_VERSION": "3.0.3",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
    "OPENAPI_SWAGGER_UI_PATH": "docs",
    "OPENAPI_SWAGGER_UI_URL": "/docs/assets/",
    "API_SPEC_OPTIONS": {
        "info": {"description": "Book tickets for events. First come, first served."},
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    },
}


class Converter(OpenAPIConverter):
    """apispec's reading of marshmallow schemas, with what `Meta.json_schema` adds to one."""

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """The schema as JSON Schema."""
        json_schema: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        return json_schema | getattr(schema.Meta, "json_schema", {})


class SchemaPlugin(MarshmallowPlugin):
    """apispec's plugin with this converter."""

    Converter = Converter


class ProblemApi(Api):
    """flask-smorest without its own error answers: errors leave through problems.py."""

    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        pass


def init_openapi(app: Flask) -> Api:
    """Serve /openapi.json and /docs. Returns what blueprints are registered with."""
    app.config.update(SETTINGS)
    app.add_url_rule("/docs/assets/<path:filename>", "docs_assets", _asset)
    return ProblemApi(app, spec_kwargs={"marshmallow_plugin": SchemaPlugin()})


def documented(
    blueprint: Blueprint,
    *statuses: int,
    protected: bool = False,
    takes_body: bool = False,
    takes_key: bool | None = None,
) -> Callable[[View], View]:
    """Document what a view has beside its schemas: the `statuses` of its errors and those of every view.

    `protected`: wants credentials, Basic or Bearer. `takes_body`: a JSON body. `takes_key`: an `Idempotency-Key`, as
    whatever takes a body unless told.
    """
    errors = {*statuses, *COMMON_ERRORS}
    # Where credentials are not needed they are taken all the same: limits count by user, staff see more.
    operation: dict[str, Any] = {"security": SCHEMES if protected else [{}, *SCHEMES]}
    if takes_body:
        errors |= {400, 413, 415, 422}
    if takes_body if takes_key is None else takes_key:
        errors |= {400, 422}
        operation["parameters"] = [IDEMPOTENCY_KEY]
    operation["responses"] = {str(status): _problem(status) for status in sorted(errors)}
    return cast(Callable[[View], View], blueprint.doc(**operation))


def tells(header: str, description: str, *, type: str = "string", required: bool = True) -> dict[str, Any]:
    """Document a header of an answer. `required`: it is always there."""
    return {header: {"description": description, "schema": {"type": type}, "required": required}}


def replays() -> dict[str, Any]:
    """Document the header of an answer to a request with an `Idempotency-Key`."""
    return tells("Idempotent-Replayed", "`true`: this is the answer to an earlier request.", required=False)


def creates(what: str) -> dict[str, Any]:
    """Document the headers of an answer that made something."""
    return tells("Location", f"The path of {what}.") | replays()


def leads_on() -> dict[str, Any]:
    """Document the header of a page."""
    return tells("Link", 'The path of the next page, with `rel="next"`.', required=False)


def _asset(filename: str) -> Response:
    return send_from_directory(ASSETS, filename, max_age=86_400)


def _problem(status: int) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": ProblemSchema}}
    headers: dict[str, Any] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers = tells("WWW-Authenticate", "How to authenticate.")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers = tells("Retry-After", "Seconds to wait before the request is repeated.", type="integer")
    return {"description": HTTPStatus(status).phrase, "content": content, "headers": headers}
