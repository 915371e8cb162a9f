"""The Postman collection: a story told in requests, each with what must be true of its answer.

`python -m tests.service.postman` writes docs/postman; with `run` it starts a service in a folder of its own and has
newman (npm, by npx) play the collection against it. test_postman.py says when the files are out of date.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.service.running import ROOT, Service

NEWMAN = "newman@6.2.2"
FOLDER = ROOT / "docs" / "postman"
COLLECTION = FOLDER / "ticketing.postman_collection.json"
ENVIRONMENT = FOLDER / "ticketing.postman_environment.json"
SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"

Json = dict[str, Any]

BASIC = [{"key": "username", "value": "{{username}}"}, {"key": "password", "value": "{{password}}"}]
BEARER = [{"key": "token", "value": "{{access_token}}", "type": "string"}]
AS_STAFF = None  # as the collection says: Basic with the credentials of the environment
AS_NOBODY: Json = {"type": "noauth"}
BY_TOKEN: Json = {"type": "bearer", "bearer": BEARER}

# What every answer has, whatever was asked.
EVERY_ANSWER = """\
pm.test("has an X-Request-ID", () => pm.expect(pm.response.headers.get("X-Request-ID")).to.be.a("string"));
if (pm.response.code >= 400) {
    pm.test("is a problem", () => {
        pm.expect(pm.response.headers.get("Content-Type")).to.eql("application/problem+json");
        pm.expect(pm.response.json()).to.include.all.keys("type", "title", "status", "detail", "code");
    });
}"""
# Names of its own for each run, so that the collection can be run again and again against one service.
NAMES = """\
const run = Date.now().toString(36);
pm.collectionVariables.set("event_id", `concert-${run}`);
pm.collectionVariables.set("customer", `gil-${run}`);
pm.collectionVariables.set("key", `ada-${run}`);"""

EVENT = {"event_id": "{{event_id}}"}


def request(
    name: str,
    method: str,
    path: str,
    body: Json | str | None = None,
    *,
    auth: Json | None = AS_STAFF,
    headers: Json | None = None,
    before: str = "",
    status: int,
    expect: Json | None = None,
    save: Json | None = None,
    header: Json | None = None,
    expect_headers: Json | None = None,
) -> Json:
    """A request and its tests: the status, the values of `expect` by their paths in the body, and `expect_headers`.

    `save` keeps values of the body in variables by their paths, `header` values of the answer's headers.
    """
    tests = [f'pm.test("answers {status}", () => pm.response.to.have.status({status}));']
    if expect or save:
        tests += ['const { get } = require("lodash");', "const body = pm.response.json();"]
    for where, value in (expect or {}).items():
        wanted = f"JSON.parse(pm.variables.replaceIn({json.dumps(json.dumps(value))}))"
        told = f"{where} is {json.dumps(value)}".replace('"', "'")
        tests.append(f'pm.test("{told}", () => pm.expect(get(body, "{where}")).to.eql({wanted}));')
    for name_of_header, value in (expect_headers or {}).items():
        had = f"pm.expect(pm.response.headers.get({json.dumps(name_of_header)})).to.eql({json.dumps(value)})"
        tests.append(f'pm.test("{name_of_header} is {value}", () => {had});')
    for variable, where in (save or {}).items():
        tests.append(f'pm.collectionVariables.set("{variable}", get(body, "{where}"));')
    for variable, name_of_header in (header or {}).items():
        tests.append(f'pm.collectionVariables.set("{variable}", pm.response.headers.get("{name_of_header}"));')
    sent = [{"key": key, "value": value} for key, value in (headers or {}).items()]
    path, _, query = path.partition("?")
    asked: Json = {
        "method": method,
        "header": sent,
        "url": {
            "raw": "{{base_url}}" + path + (f"?{query}" if query else ""),
            "host": ["{{base_url}}"],
            "path": path.strip("/").split("/"),
            "query": [dict(zip(("key", "value"), each.split("="), strict=True)) for each in query.split("&") if each],
        },
    }
    if body is not None:
        sent.append({"key": "Content-Type", "value": "application/json"})
        raw = body if isinstance(body, str) else json.dumps(body, indent=2)
        asked["body"] = {"mode": "raw", "raw": raw, "options": {"raw": {"language": "json"}}}
    if auth is not None:
        asked["auth"] = auth
    events = ([script("prerequest", before)] if before else []) + [script("test", "\n".join(tests))]
    return {"name": name, "event": events, "request": asked, "response": []}


def script(listen: str, text: str) -> Json:
    """A script that runs before a request, or tests its answer."""
    return {"listen": listen, "script": {"type": "text/javascript", "exec": text.split("\n")}}


def book(user_id: str, status: int, expect: Json) -> Json:
    """Somebody books a ticket, without credentials."""
    name = f"{user_id.title()} books"
    body = EVENT | {"user_id": user_id}
    wanted = {"user_id": user_id} | expect
    save = {f"{user_id}_order": "order_id"}
    return request(name, "POST", "/book", body, auth=AS_NOBODY, status=status, expect=wanted, save=save)


def refused(name: str, method: str, path: str, body: Json | str | None, status: int, code: str, **options: Any) -> Json:
    """A request that is refused with a code."""
    return request(name, method, path, body, status=status, expect={"code": code, "status": status}, **options)


STORY: dict[str, list[Json]] = {
    "1 Open an event": [
        request(
            "Open a concert with two tickets",
            "POST",
            "/initialize",
            EVENT | {"name": "Concert", "total_tickets": 2},
            before=NAMES,
            status=201,
            expect={"event_id": "{{event_id}}", "status": "on_sale", "available_tickets": 2, "version": 1},
        ),
        request(
            "Look at it",
            "GET",
            "/events/{{event_id}}",
            auth=AS_NOBODY,
            status=200,
            expect={"name": "Concert", "total_tickets": 2, "max_tickets_per_order": 10},
            header={"first_etag": "ETag"},
        ),
    ],
    "2 Book until it is sold out": [
        request(
            "Ada books, with an Idempotency-Key",
            "POST",
            "/book",
            EVENT | {"user_id": "ada"},
            auth=AS_NOBODY,
            headers={"Idempotency-Key": "{{key}}"},
            status=201,
            expect={"status": "confirmed", "quantity": 1, "waiting_position": None},
            save={"ada_order": "order_id"},
        ),
        request(
            "Ada's network failed, and she repeats it",
            "POST",
            "/book",
            EVENT | {"user_id": "ada"},
            auth=AS_NOBODY,
            headers={"Idempotency-Key": "{{key}}"},
            status=201,
            expect={"order_id": "{{ada_order}}"},
            expect_headers={"Idempotent-Replayed": "true"},
        ),
        book("ben", 201, {"status": "confirmed"}),
        request(
            "It is sold out",
            "GET",
            "/status/{{event_id}}",
            auth=AS_NOBODY,
            status=200,
            expect={"status": "sold_out", "booked_tickets": 2, "available_tickets": 0},
        ),
    ],
    "3 Wait": [
        book("cleo", 202, {"status": "waiting", "waiting_position": 1}),
        book("dan", 202, {"status": "waiting", "waiting_position": 2}),
        request(
            "Who waits, seen by staff",
            "GET",
            "/events/{{event_id}}/waiting-list",
            status=200,
            expect={"items[0].user_id": "cleo", "items[1].user_id": "dan", "items.length": 2},
        ),
        request(
            "Who waits, seen by others",
            "GET",
            "/events/{{event_id}}/waiting-list?limit=1",
            auth=AS_NOBODY,
            status=200,
            expect={"items[0].position": 1, "items.length": 1},
            save={"next_page": "next"},
        ),
        request(
            "The next page",
            "GET",
            "/events/{{event_id}}/waiting-list?limit=1&after={{next_page}}",
            auth=AS_NOBODY,
            status=200,
            expect={"items[0].position": 2, "next": None},
        ),
    ],
    "4 Cancel and promote": [
        request(
            "Ada gives her ticket back, and Cleo gets it",
            "POST",
            "/cancel",
            {"order_id": "{{ada_order}}"},
            status=200,
            expect={
                "order.status": "cancelled",
                "promoted[0].order_id": "{{cleo_order}}",
                "promoted[0].status": "confirmed",
                "promoted.length": 1,
            },
        ),
        request(
            "Dan is first in line now",
            "GET",
            "/orders/{{dan_order}}",
            auth=AS_NOBODY,
            status=200,
            expect={"user_id": "dan", "status": "waiting", "waiting_position": 1},
        ),
        request(
            "Cancelled is cancelled",
            "POST",
            "/cancel",
            {"order_id": "{{ada_order}}"},
            status=200,
            expect={"order.status": "cancelled", "promoted": []},
        ),
    ],
    "5 Status": [
        request(
            "Status",
            "GET",
            "/status/{{event_id}}",
            auth=AS_NOBODY,
            status=200,
            expect={"booked_tickets": 2, "held_tickets": 0, "waiting_list_count": 1, "version": 6},
        ),
        request(
            "Availability",
            "GET",
            "/events/{{event_id}}/availability",
            auth=AS_NOBODY,
            status=200,
            expect={"available_tickets": 0},
        ),
        request(
            "The orders, for staff",
            "GET",
            "/events/{{event_id}}/orders?status=cancelled",
            status=200,
            expect={"items[0].user_id": "ada", "items.length": 1, "next": None},
        ),
        request(
            "What happened, for staff",
            "GET",
            "/events/{{event_id}}/changes?after=5",
            status=200,
            expect={"items[0].type": "cancelled", "items[0].orders.length": 2, "next": 6},
        ),
    ],
    "6 More tickets": [
        refused(
            "At the version of the beginning: too late",
            "PATCH",
            "/events/{{event_id}}",
            {"total_tickets": 3},
            412,
            "precondition_failed",
            headers={"If-Match": "{{first_etag}}"},
        ),
        request(
            "Another one, and it is Dan's",
            "PATCH",
            "/events/{{event_id}}",
            {"total_tickets": 3},
            headers={"If-Match": "*"},
            status=200,
            expect={"total_tickets": 3, "promoted[0].user_id": "dan", "waiting_list_count": 0},
        ),
    ],
    "7 Transfer": [
        request(
            "Dan gives his ticket to Fay",
            "POST",
            "/orders/{{dan_order}}/transfer",
            {"to_user_id": "fay"},
            status=201,
            expect={"order.user_id": "fay", "order.status": "confirmed", "from.status": "cancelled"},
            save={"fay_order": "order.order_id"},
        ),
        refused("It is not his any more", "POST", "/orders/{{dan_order}}/transfer", {"to_user_id": "gus"}, 409,
                "order_not_confirmed"),
        request(
            "Where Fay's ticket came from",
            "GET",
            "/orders/{{fay_order}}/history",
            status=200,
            expect={"items[0].type": "transferred", "items[0].from": "{{dan_order}}"},
        ),
    ],
    "8 Ticket types and prices": [
        request(
            "The ball has two types",
            "POST",
            "/initialize",
            {"event_id": "{{event_id}}-ball", "name": "Ball", "ticket_types": [
                {"code": "floor", "total_tickets": 2, "price": "25.00", "currency": "EUR"},
                {"code": "balcony", "total_tickets": 1, "price": "40.00", "currency": "EUR"},
            ]},
            status=201,
            expect={"total_tickets": 3, "ticket_types[1].price": "40.00"},
        ),
        request(
            "Two tickets for the floor",
            "POST",
            "/book",
            {"event_id": "{{event_id}}-ball", "user_id": "ada", "ticket_type": "floor", "quantity": 2},
            auth=AS_NOBODY,
            status=201,
            expect={"unit_price": "25.00", "total_price": "50.00", "currency": "EUR"},
        ),
        refused("Which of the two?", "POST", "/book", {"event_id": "{{event_id}}-ball", "user_id": "ben"}, 422,
                "ticket_type_required", auth=AS_NOBODY),
        request(
            "Many at once",
            "POST",
            "/bookings/bulk",
            {"event_id": "{{event_id}}-ball", "orders": [
                {"user_id": "ben", "ticket_type": "balcony"},
                {"user_id": "ada", "ticket_type": "balcony"},
            ]},
            status=200,
            expect={"results[0].status": 201, "results[1].error.code": "already_booked"},
        ),
        request(
            "Ada gives one of her two tickets back",
            "POST",
            "/cancel",
            {"event_id": "{{event_id}}-ball", "user_id": "ada", "quantity": 1},
            status=200,
            expect={"order.quantity": 1, "order.total_price": "25.00", "order.status": "confirmed"},
        ),
    ],
    "9 Users and tokens": [
        request(
            "Gil registers",
            "POST",
            "/users",
            {"user_id": "{{customer}}", "password": "a password of a customer"},
            auth=AS_NOBODY,
            status=201,
            expect={"user_id": "{{customer}}", "role": "customer"},
        ),
        request(
            "Gil logs in, with Basic",
            "POST",
            "/auth/token",
            auth={
                "type": "basic",
                "basic": [
                    {"key": "username", "value": "{{customer}}"},
                    {"key": "password", "value": "a password of a customer"},
                ],
            },
            status=200,
            expect={"token_type": "Bearer"},
            save={"access_token": "access_token", "refresh_token": "refresh_token"},
        ),
        request(
            "Who am I, with Bearer",
            "GET",
            "/users/me",
            auth=BY_TOKEN,
            status=200,
            expect={"user_id": "{{customer}}"},
        ),
        request(
            "Gil books for himself",
            "POST",
            "/book",
            EVENT,
            auth=BY_TOKEN,
            status=202,
            expect={"user_id": "{{customer}}", "waiting_position": 1},
        ),
        request(
            "New tokens",
            "POST",
            "/auth/refresh",
            {"refresh_token": "{{refresh_token}}"},
            auth=AS_NOBODY,
            status=200,
            expect={"token_type": "Bearer", "expires_in": 900},
            save={"access_token": "access_token", "refresh_token": "refresh_token"},
        ),
        request(
            "Gil logs out",
            "POST",
            "/auth/revoke",
            {"refresh_token": "{{refresh_token}}"},
            auth=AS_NOBODY,
            status=204,
        ),
    ],
    "10 Webhooks": [
        request(
            "Be told of promotions",
            "POST",
            "/webhooks",
            EVENT | {"url": "https://example.com/tickets", "types": ["order.promoted"]},
            status=201,
            expect={"types": ["order.promoted"], "failing": None},
            save={"webhook_id": "webhook_id"},
        ),
        request("How its receiver fares", "GET", "/webhooks/{{webhook_id}}", status=200, expect={"failing": None}),
        request("No more", "DELETE", "/webhooks/{{webhook_id}}", status=204),
    ],
    "11 Errors": [
        refused("The event is there already", "POST", "/initialize", EVENT | {"name": "x", "total_tickets": 1}, 409,
                "event_exists"),
        refused("Ben has a ticket already", "POST", "/book", EVENT | {"user_id": "ben"}, 409, "already_booked",
                auth=AS_NOBODY),
        refused("No such event", "GET", "/status/nowhere", None, 404, "event_not_found", auth=AS_NOBODY),
        refused("No such path", "GET", "/nowhere", None, 404, "not_found", auth=AS_NOBODY),
        refused("Two is not a number", "POST", "/book", EVENT | {"user_id": "eve", "quantity": "two"}, 422,
                "validation_failed", auth=AS_NOBODY),
        refused("More than an order may hold", "POST", "/book", EVENT | {"user_id": "eve", "quantity": 11}, 422,
                "exceeds_max_tickets_per_order", auth=AS_NOBODY),
        refused("The key of another request", "POST", "/book", EVENT | {"user_id": "eve"}, 422,
                "idempotency_key_reused", auth=AS_NOBODY, headers={"Idempotency-Key": "{{key}}"}),
        refused("Not JSON", "POST", "/book", '{"event_id": ', 400, "invalid_json", auth=AS_NOBODY),
        refused("No credentials", "POST", "/initialize", {"name": "x", "total_tickets": 1}, 401, "unauthorized",
                auth=AS_NOBODY),
        refused("A customer is no organizer", "POST", "/initialize", {"name": "x", "total_tickets": 1}, 403,
                "forbidden", auth=BY_TOKEN),
        refused("A change of no version", "PATCH", "/events/{{event_id}}", {"venue": "City Hall"}, 428,
                "precondition_required"),
        refused("Another method", "DELETE", "/book", None, 405, "method_not_allowed"),
    ],
    "12 The end": [
        request("No more tickets are sold", "POST", "/events/{{event_id}}/cancel", status=200,
                expect={"status": "cancelled"}),
        refused("Eve is too late", "POST", "/book", EVENT | {"user_id": "eve"}, 409, "event_cancelled", auth=AS_NOBODY),
        request("The service is ready for the next one", "GET", "/readyz", auth=AS_NOBODY, status=200,
                expect={"status": "ok"}),
    ],
}


def collection() -> Json:
    """The collection, in the form of Postman's schema 2.1."""
    names = ["event_id", "customer", "key", "first_etag", "ada_order", "ben_order", "cleo_order", "dan_order"]
    names += ["fay_order", "next_page", "access_token", "refresh_token", "webhook_id"]
    return {
        "info": {
            "name": "Ticketing",
            "description": "A concert from its opening to its end. Run it from top to bottom: each request takes over "
            "what the ones before it have made. Choose the environment, and set its password.",
            "schema": SCHEMA,
        },
        "auth": {"type": "basic", "basic": BASIC, "bearer": BEARER},
        "event": [script("test", EVERY_ANSWER)],
        "variable": [{"key": name, "value": ""} for name in names],
        "item": [{"name": name, "item": requests} for name, requests in STORY.items()],
    }


def environment() -> Json:
    """Where the service is, and who may open events. The password is to be filled in."""
    values = {"base_url": "http://127.0.0.1:8000", "username": "admin", "password": ""}
    return {
        "name": "Ticketing on this machine",
        "values": [
            {"key": key, "value": value, "type": "secret" if key == "password" else "default", "enabled": True}
            for key, value in values.items()
        ],
        "_postman_variable_scope": "environment",
    }


def written(value: Json) -> str:
    """A file's text."""
    return json.dumps(value, indent=2) + "\n"


def play() -> int:
    """Have newman play the collection against a service of its own; return newman's exit status."""
    # The environment brings its own Node.js.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    password = secrets.token_urlsafe()
    with TemporaryDirectory() as folder:
        shutil.copy(ROOT / ".env.example", folder)
        service = Service(Path(folder), BASIC_AUTH_USERNAME="admin", BASIC_AUTH_PASSWORD=password)
        try:
            service.start().wait_until_serving()
            variables = {"base_url": service.url, "password": password}
            options = [each for item in variables.items() for each in ("--env-var", "=".join(item))]
            files = [str(COLLECTION), "--environment", str(ENVIRONMENT)]
            command = [shutil.which("npx", path=path) or "npx", "--yes", NEWMAN, "run", *files, *options]
            return subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode
        finally:
            service.stop()


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        sys.exit(play())
    FOLDER.mkdir(exist_ok=True)
    COLLECTION.write_text(written(collection()))
    ENVIRONMENT.write_text(written(environment()))
