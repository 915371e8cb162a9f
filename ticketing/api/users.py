"""/users: registering, and what users and admins may change of an account."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import url_for
from flask_smorest import Blueprint

from ..account_changes import change_account, erase_name
from ..domain.accounts import Account
from ..errors import IdempotencyKeyReused
from ..passwords import normal, weakness
from ..services import request_deadline, services
from . import auth
from .answers import caller_id
from .auth import Role, authenticator, current_account
from .bodies import StrictParser
from .idempotency import request_key
from .openapi import creates, documented, leads_on
from .pagination import page_of, text_after
from .problems import REPLAYED_HEADER, ApiProblem
from .schemas import (
    ChangeAccountSchema,
    ChangeMyAccountSchema,
    PageQuerySchema,
    RegisterSchema,
    UserPageSchema,
    UserSchema,
)

blueprint = Blueprint("users", __name__, description="Accounts: register, look, change, erase.")
blueprint.ARGUMENTS_PARSER = StrictParser()


@blueprint.post("/users")
@blueprint.arguments(RegisterSchema)
@blueprint.response(201, UserSchema, headers=creates("the user"))
@documented(
    blueprint,
    "register",
    "user_exists",
    "weak_password",
    "forbidden",
    tag="Users",
    takes_body=True,
)
def register(body: dict[str, Any]) -> Any:
    """Make an account.

    Only admins give a role other than `customer`, and where registration is theirs, any.
    """
    caller = auth.current_caller()
    is_admin = caller is not None and caller.role is Role.ADMIN
    role = Role(body["role"])
    if not is_admin and services().config.registration == "admins":
        auth.refuse(HTTPStatus.FORBIDDEN if caller else HTTPStatus.UNAUTHORIZED)
    if not is_admin and role is not Role.CUSTOMER:
        auth.refuse(HTTPStatus.FORBIDDEN if caller else HTTPStatus.UNAUTHORIZED)
    # Of the key alone: a digest of the body would be a fast one of the password.
    request = request_key(caller_id(), {})
    key = request and request.key
    headers = {"Location": url_for("users.user", user_id=body["user_id"])}
    if first := _registered_before(key, body):
        return first, 201, headers | {REPLAYED_HEADER: "true"}
    password_hash = _hash(body["password"], body["user_id"])
    account = services().accounts.register(body["user_id"], role, password_hash, request_deadline(), key=key)
    if account is not None:
        return account, 201, headers
    if first := _registered_before(key, body):  # meanwhile
        return first, 201, headers | {REPLAYED_HEADER: "true"}
    raise ApiProblem.named("user_exists")


def _registered_before(key: bytes | None, body: dict[str, Any]) -> Account | None:
    """The account that the same request with this key has made.

    Raises `IdempotencyKeyReused` where it was another request, or the password is another; it costs what a login does.
    """
    account = None if key is None else services().accounts.registered_with(key, request_deadline())
    if account is None:
        return None
    is_same = (account.user_id, account.role) == (body["user_id"], Role(body["role"]))
    if not is_same or not auth.is_password_right(account.user_id, body["password"]):
        raise IdempotencyKeyReused
    return account


@blueprint.get("/users")
@auth.required(Role.ADMIN)
@blueprint.arguments(PageQuerySchema, location="query")
@blueprint.response(200, UserPageSchema, headers=leads_on())
@documented(blueprint, "list_users", "validation_failed", tag="Users", protected=True)
def users(query: dict[str, Any]) -> Any:
    """All users.

    By id; the admin of the settings is not among them.
    """
    found = services().accounts.page(text_after(query), query["limit"] + 1, request_deadline())
    body, headers = page_of(iter(found), query["limit"], lambda account: account, lambda account: account.user_id)
    return body, 200, headers


@blueprint.get("/users/me")
@auth.required()
@blueprint.response(200, UserSchema)
@documented(blueprint, "get_me", tag="Users", protected=True, any_role=True)
def me() -> Account:
    """Who is calling.

    The user whose credentials came with the request.
    """
    return current_account()


@blueprint.patch("/users/me")
@auth.required()
@blueprint.arguments(ChangeMyAccountSchema)
@blueprint.response(200, UserSchema)
@documented(
    blueprint,
    "change_my_password",
    "wrong_password",
    "account_in_settings",
    "user_changed",
    "weak_password",
    tag="Users",
    protected=True,
    any_role=True,
    takes_body=True,
    takes_key=False,
)
def change_me(body: dict[str, Any]) -> Account:
    """Change one's password.

    It takes the old one, and ends all tokens.
    """
    account = current_account()
    _refuse_first_admin(account.user_id)
    if not auth.is_password_right(account.user_id, body["current_password"]):
        raise ApiProblem.named("wrong_password")
    return _changed(account, body)


@blueprint.delete("/users/me")
@auth.required()
@blueprint.response(204)
@documented(
    blueprint,
    "erase_me",
    "account_in_settings",
    "ledger_damaged",
    tag="Users",
    protected=True,
    any_role=True,
)
def remove_me() -> None:
    """Erase one's account.

    And one's webhooks, and one's name in all orders, which stay under a pseudonym. A 503 has begun it: repeat it, with
    HTTP Basic.
    """
    _erase(current_account().user_id)


@blueprint.get("/users/<user_id>")
@auth.required(Role.ADMIN)
@blueprint.response(200, UserSchema)
@documented(blueprint, "get_user", "user_not_found", tag="Users", protected=True)
def user(user_id: str) -> Account:
    """A user.

    For admins.
    """
    return _account_of(user_id)


@blueprint.patch("/users/<user_id>")
@auth.required(Role.ADMIN)
@blueprint.arguments(ChangeAccountSchema)
@blueprint.response(200, UserSchema)
@documented(
    blueprint,
    "change_user",
    "user_not_found",
    "account_in_settings",
    "user_changed",
    "weak_password",
    tag="Users",
    protected=True,
    takes_body=True,
    takes_key=False,
)
def change(body: dict[str, Any], user_id: str) -> Account:
    """Give a user another role or password.

    It ends all tokens of that user, and a role other than `admin` ends the webhooks.
    """
    _refuse_first_admin(user_id)
    return _changed(_account_of(user_id), body)


@blueprint.delete("/users/<user_id>")
@auth.required(Role.ADMIN)
@blueprint.response(204)
@documented(
    blueprint, "erase_user", "user_not_found", "account_in_settings", "ledger_damaged", tag="Users", protected=True
)
def remove(user_id: str) -> None:
    """Erase a user.

    The account, its webhooks, and its name in all orders; or a name that has orders and no account. Names that no path
    leads to (`me`, or with a slash) are erased at the console.
    """
    if not _erase(user_id):
        raise _not_found()


def _erase(user_id: str) -> bool:
    _refuse_first_admin(user_id)
    caller = current_account().user_id
    return erase_name(services(), user_id, caller, request_deadline())


def _account_of(user_id: str) -> Account:
    account = services().accounts.registered(normal(user_id), request_deadline())
    if account is None:
        raise _not_found()
    return account


def _changed(account: Account, body: dict[str, Any]) -> Account:
    role = Role(body["role"]) if "role" in body else None
    password_hash = _hash(body["password"], account.user_id) if "password" in body else None
    changed = change_account(services(), account, request_deadline(), role=role, password_hash=password_hash)
    if changed is None:
        raise ApiProblem.named("user_changed")
    return changed


def _hash(password: str, user_id: str) -> str:
    """The hash of a password that may be taken. Raises `ApiProblem` 422 for a weak one."""
    password = normal(password)
    if finding := weakness(password, user_id):
        raise ApiProblem.named("weak_password", finding, members={"errors": {"password": [finding]}})
    return authenticator().hash(password, request_deadline())


def _refuse_first_admin(user_id: str) -> None:
    if services().accounts.is_first_admin(normal(user_id)):
        raise ApiProblem.named("account_in_settings")


def _not_found() -> ApiProblem:
    return ApiProblem.named("user_not_found")
