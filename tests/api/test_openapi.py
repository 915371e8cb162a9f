"""/openapi.json says all there is, and /docs shows it with what this service has of its own.

That every answer is as documented is checked by the client of all tests: see conftest.py.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask, Response
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from ticketing import __version__
from ticketing.api.problems import HTTP_CODES, NAMED_CODES, STATUSES
from ticketing.api.schemas import TEXT_PATTERN, CancelSchema, InitializeSchema

from .conftest import EVENT_ID, PROBLEM, UNDOCUMENTED, Api, Client, openapi, resolved
from .test_bookings import EVENT_MEMBERS, ORDER_MEMBERS

POSTS = [
    "/initialize",
    "/book",
    "/bookings/bulk",
    "/cancel",
    "/orders/{order_id}/transfer",
    "/events/{event_id}/cancel",
    "/webhooks",
    "/users",
]
UNKEYED_POSTS = ["/auth/refresh", "/auth/revoke", "/auth/token", "/webhooks/{webhook_id}/replay"]
WITHOUT_BODY = {"/events/{event_id}/cancel", "/auth/token", "/webhooks/{webhook_id}/replay"}
PROTECTED = {
    ("post", "/initialize"),
    ("post", "/bookings/bulk"),
    ("post", "/cancel"),
    ("post", "/orders/{order_id}/transfer"),
    ("patch", "/events/{event_id}"),
    ("post", "/events/{event_id}/cancel"),
    ("get", "/events/{event_id}/orders"),
    ("get", "/events/{event_id}/orders.csv"),
    ("get", "/events/{event_id}/changes"),
    ("get", "/orders"),
    ("get", "/users"),
    *((method, path) for method in ("get", "patch", "delete") for path in ("/users/me", "/users/{user_id}")),
    ("post", "/auth/token"),
    ("post", "/webhooks"),
    ("get", "/webhooks"),
    ("get", "/webhooks/{webhook_id}"),
    ("delete", "/webhooks/{webhook_id}"),
    ("get", "/webhooks/{webhook_id}/deliveries"),
    ("post", "/webhooks/{webhook_id}/replay"),
}


def operations() -> list[tuple[str, str, Any]]:
    """(method, path, operation) for all that is documented."""
    return [
        (method, path, operation)
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
        if method in ("get", "post", "put", "patch", "delete")
    ]


def test_the_document_is_valid(client: Client) -> None:
    """OpenAPI 3, by the validator of its makers."""
    answer = client.get("/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json["info"]["version"] == __version__
    validate(answer.json)


def test_every_route_is_documented(app: Flask) -> None:
    """But for those that serve the documentation itself; and nothing is documented that is not there."""
    served = {
        (method.lower(), rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        if rule.rule not in UNDOCUMENTED
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served == {(method, path) for method, path, _ in operations()}
    assert UNDOCUMENTED <= {rule.rule for rule in app.url_map.iter_rules()}


def test_every_operation_tells_what_can_go_wrong() -> None:
    """A name, a summary, a description and a place; errors are problems of RFC 9457, and each has its codes."""
    for method, path, operation in operations():
        told = f"{method} {path}"
        assert operation["summary"].endswith("."), told
        assert operation["description"].endswith("."), told
        [tag] = operation["tags"]
        statuses = {int(status) for status in operation["responses"]}
        assert statuses >= ({500} if tag == "Service" else {401, 403, 429, 500, 503}), told
        for status, answer in operation["responses"].items():
            headers = resolved(answer)["headers"]
            assert "X-Request-ID" in headers
            assert (tag != "Service" or int(status) >= 400) == ("X-RateLimit-Limit" in headers), told
            if int(status) >= 400:
                (media_type,) = resolved(answer)["content"].items()
                problem, codes = media_type[1]["schema"]["allOf"]
                assert (media_type[0], problem["$ref"]) == (PROBLEM, "#/components/schemas/Problem"), told
                assert codes["properties"]["code"]["enum"] == list(media_type[1]["examples"]), told


def test_the_names_of_operations_are_unique() -> None:
    """Clients that are made of the document call their functions so."""
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in names)


def test_tags_stand_in_the_order_of_work() -> None:
    """Each is used, each is explained, and no other is."""
    tags = openapi()["tags"]
    assert [tag["name"] for tag in tags][:3] == ["Events", "Bookings", "Orders"]
    assert {tag["name"] for tag in tags} == {tag for _, _, operation in operations() for tag in operation["tags"]}
    assert all(tag["description"] for tag in tags)


def test_a_post_takes_a_key_and_tells_of_its_body() -> None:
    """JSON only, `Idempotency-Key` in the header where something is made or changed, and the errors of both."""
    posts = {path: operation for method, path, operation in operations() if method == "post"}
    assert set(posts) == {*POSTS, *UNKEYED_POSTS}
    for path, operation in posts.items():
        names = [parameter.get("name") for parameter in operation.get("parameters", [])]
        assert ("Idempotency-Key" in names) == (path in POSTS)
        if path in WITHOUT_BODY:
            assert "requestBody" not in operation
        else:
            assert list(operation["requestBody"]["content"]) == ["application/json"]
            assert {"400", "413", "415", "422"} <= operation["responses"].keys()


def test_every_code_stands_in_the_document() -> None:
    """With an answer of an operation, in the results of one, or where it says what may be answered anywhere."""
    document = openapi()
    told = set(re.findall(r"`([a-z_]+)`", document["info"]["description"]))
    told |= set(re.findall(r'"code": "([a-z_]+)"', json.dumps(document)))
    for _, _, operation in operations():
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                told |= set(resolved(answer)["content"][PROBLEM]["schema"]["allOf"][1]["properties"]["code"]["enum"])
    assert {code for code, _ in HTTP_CODES.values()} | NAMED_CODES.keys() | {kind.code for kind in STATUSES} <= told


def test_a_refusal_that_a_repeat_gets_again_says_so() -> None:
    """Where an Idempotency-Key is taken, and nowhere else; too early is said with the time to wait."""
    by_name = {operation["operationId"]: operation["responses"] for _, _, operation in operations()}
    assert "Idempotent-Replayed" in resolved(by_name["transfer"]["404"])["headers"]
    assert "Idempotent-Replayed" not in resolved(by_name["get_order"]["404"])["headers"]
    assert "Idempotent-Replayed" not in resolved(by_name["update_event"]["409"])["headers"]
    assert resolved(by_name["book"]["409"])["headers"]["Retry-After"]["required"] is False
    assert "Retry-After" not in resolved(by_name["transfer"]["409"])["headers"]


def test_every_parameter_and_every_member_of_an_answer_says_what_it_is() -> None:
    """To people who read /docs, and in the clients that are made of the document."""
    document = openapi()
    silent = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            parameters = operation if method == "parameters" else operation.get("parameters", [])
            silent += [f"{method} {path}: {each['name']}" for each in parameters if not each.get("description")]
    for name in answered_schemas():
        members = document["components"]["schemas"][name]["properties"]
        silent += [f"{name}.{member}" for member, about in members.items() if not about.get("description")]
    assert silent == []


def answered_schemas() -> set[str]:
    """The names of all schemas that answers are made of."""
    schemas = openapi()["components"]["schemas"]
    found: set[str] = set()
    wanted = [json.dumps(resolved(answer)) for _, _, each in operations() for answer in each["responses"].values()]
    while wanted:
        named = set(re.findall(r"#/components/schemas/(\w+)", wanted.pop())) - found
        found |= named
        wanted += [json.dumps(schemas[name]) for name in named]
    assert {"Order", "Stock", "Problem", "Failing"} <= found
    return found


def test_the_protected_operations_say_so() -> None:
    """HTTP Basic or Bearer, on these and no others; where it is not needed it may be sent."""
    schemes = openapi()["components"]["securitySchemes"]
    assert {scheme["scheme"] for scheme in schemes.values()} == {"basic", "bearer"} == set(schemes)
    wanted = {(method, path): operation["security"] for method, path, operation in operations()}
    assert {operation for operation, security in wanted.items() if {} not in security} == PROTECTED
    assert all({"basic": []} in security and {"bearer": []} in security for security in wanted.values())


@pytest.mark.parametrize(("schema", "members"), [("Order", ORDER_MEMBERS), ("Event", EVENT_MEMBERS)])
def test_the_schemas_have_the_members_of_the_contract(schema: str, members: list[str]) -> None:
    """No more and no less."""
    assert openapi()["components"]["schemas"][schema]["properties"].keys() == set(members)


def test_the_bodies_say_what_is_needed() -> None:
    """Required fields, bounds and forms, as the service holds them."""
    schemas = openapi()["components"]["schemas"]
    assert schemas["Initialize"]["required"] == ["name"]
    assert schemas["Book"]["required"] == ["event_id"]
    assert schemas["Initialize"]["properties"]["total_tickets"]["minimum"] == 1
    assert schemas["Book"]["properties"]["quantity"]["minimum"] == 1
    for name in ("Initialize", "Book", "Cancel"):
        assert schemas[name]["additionalProperties"] is False
        pattern = schemas[name]["properties"]["event_id"]["pattern"]
        # ECMA-262, as JSON Schema wants it: \Z would be a plain Z there.
        assert r"\Z" not in pattern
        assert re.search(pattern, EVENT_ID) and not re.search(pattern, "no id") and not re.search(pattern, "x" * 65)


WHITE_AND_ODD = " \t\n\x1f\x7f\x85\xa0\u2028\u3000\ufeffa"


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.text(WHITE_AND_ODD))
def test_the_pattern_of_a_text_is_what_is_held(text: str) -> None:
    """/openapi.json and the service take the same texts. (Lone surrogates are refused by the service alone:
    ECMA-262 has no way to name them that means the same in every reader.)"""
    is_refused = bool(InitializeSchema().validate({"name": text, "total_tickets": 1}))
    assert is_refused != bool(re.fullmatch(TEXT_PATTERN, text))


@pytest.mark.parametrize(
    ("body", "is_valid"),
    [
        ({"order_id": "x"}, True),
        ({"event_id": "e", "user_id": "u"}, True),
        ({}, False),
        ({"event_id": "e"}, True),
        ({"user_id": "u"}, False),
        ({"order_id": "x", "event_id": "e"}, False),
        ({"order_id": "x", "event_id": "e", "user_id": "u"}, False),
        ({"order_id": "x", "quantity": 1}, True),
        ({"event_id": "e", "user_id": "u", "quantity": 1}, True),
        ({"event_id": "e", "quantity": 1}, True),
        ({"quantity": 1}, False),
    ],
)
def test_a_cancellation_names_one_order(body: dict[str, str], is_valid: bool) -> None:
    """By its id, or by event and user, who is the caller unless told: to the document as to the service."""
    schema = openapi()["components"]["schemas"]["Cancel"]
    assert OAS31Validator(schema).is_valid(body) == is_valid
    assert (not CancelSchema().validate(body)) == is_valid


@pytest.mark.parametrize(
    ("body", "is_valid"),
    [
        ({"name": "C", "total_tickets": 1}, True),
        ({"name": "C", "total_tickets": 1, "price": "5.00", "currency": "EUR"}, True),
        ({"name": "C", "ticket_types": [{"code": "a", "total_tickets": 1}]}, True),
        ({"name": "C"}, False),
        ({"name": "C", "price": "5.00", "currency": "EUR"}, False),
        ({"name": "C", "total_tickets": 1, "ticket_types": [{"code": "a", "total_tickets": 1}]}, False),
        ({"name": "C", "currency": "EUR", "ticket_types": [{"code": "a", "total_tickets": 1}]}, False),
    ],
)
def test_an_event_has_one_type_or_several(body: dict[str, Any], is_valid: bool) -> None:
    """Told by total_tickets, or by ticket_types: to the document as to the service."""
    schemas = openapi()["components"]["schemas"]
    text = json.dumps(schemas["Initialize"]).replace("#/components/schemas/", "#/definitions/")
    schema = json.loads(text) | {"definitions": schemas}
    assert OAS31Validator(schema).is_valid(body) == is_valid
    assert (not InitializeSchema().validate(body)) == is_valid


def test_a_client_that_is_not_as_documented_is_seen(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: an answer with another status or other members fails the test that asked for it."""
    monkeypatch.setitem(api.app.view_functions, "service.healthz", lambda: ({"status": "ok", "more": 1}, 200))
    with pytest.raises(Exception, match="Additional properties"):
        api.get("/healthz")
    monkeypatch.setitem(api.app.view_functions, "service.healthz", lambda: Response(status=204))
    with pytest.raises(AssertionError, match="answered 204, which is not documented"):
        api.get("/healthz")


class Addresses(HTMLParser):
    """All that a page loads or leads to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect src and href."""
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_loads_nothing_from_elsewhere(client: Client) -> None:
    """Every asset that it names is served here, under its right type; no other address stands in it."""
    page = client.get("/docs")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "//" not in page.text
    addresses = Addresses(page.text).found
    types = {".css": "text/css", ".js": "text/javascript"}
    assert len(addresses) >= 3
    for address in addresses:
        assert address.startswith("/docs/")
        with client.get(address) as asset:
            assert asset.status_code == 200
            assert asset.mimetype == types[address[address.rindex(".") :]]
            assert len(asset.data) > 1_000
    assert '"/openapi.json"' in page.text


@pytest.mark.parametrize(
    "path",
    ["/docs/assets/", "/docs/assets/nothing.js", "/docs/assets/../__init__.py", "/docs/assets/%2e%2e/__init__.py"],
)
def test_nothing_but_assets_is_served(client: Client, path: str) -> None:
    """No way leads out of their folder."""
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (404, PROBLEM)
