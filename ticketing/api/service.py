"""GET /healthz, /readyz and /metrics: is the process alive, can it do its work, what did it do."""

from __future__ import annotations

import pymongo
from flask import Response
from flask_smorest import Blueprint
from pymongo.errors import PyMongoError

from ..errors import StorageUnavailable
from ..metrics import MEDIA_TYPE, exposition
from ..services import services
from .openapi import documented
from .schemas import HealthSchema

READY_TIMEOUT_S = 2.0

blueprint = Blueprint("service", __name__, description="For load balancers and supervisors.")


@blueprint.get("/healthz")
@blueprint.response(200, HealthSchema)
@documented(blueprint, "healthz", tag="Service")
def healthz() -> dict[str, str]:
    """The process answers.

    Says nothing about MongoDB: restarting this process would not mend that.
    """
    return {"status": "ok"}


@blueprint.get("/readyz")
@blueprint.response(200, HealthSchema)
@documented(blueprint, "readyz", "storage_unavailable", tag="Service")
def readyz() -> dict[str, str]:
    """The service can do its work.

    MongoDB answers, and may be written.
    """
    try:
        with pymongo.timeout(READY_TIMEOUT_S):
            hello = services().database.client.admin.command("hello")
    except PyMongoError as error:
        raise StorageUnavailable("MongoDB does not answer.") from error
    if not hello.get("isWritablePrimary"):
        raise StorageUnavailable("MongoDB takes no writes now.")
    return {"status": "ok"}


@blueprint.get("/metrics")
@blueprint.response(200, {"type": "string"}, content_type=MEDIA_TYPE)
@documented(blueprint, "metrics", tag="Service")
def metrics() -> Response:
    """What Prometheus reads.

    Requests, bookings, commits and tickets in figures. Over all workers of this host.
    """
    return exposition()
