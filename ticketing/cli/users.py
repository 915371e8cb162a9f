"""`flask --app wsgi users …`: the accounts, for whoever runs the service."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from flask.cli import AppGroup

from ..account_changes import change_account, erase_name
from ..api.auth import hash_password
from ..api.schemas import RegisterSchema
from ..domain.accounts import Account, Role
from ..passwords import normal, weakness
from ..services import services
from .terminal import fail, json_option, print_json, say, storage

PAGE_SIZE = 500
ERASE_S = 600.0
"""Enough to fold long ledgers. Who needs more repeats it."""

user_commands = AppGroup("users", help="Look after the accounts. Passwords are asked for, or read from standard input.")
_role = click.Choice([role.value for role in Role])


@user_commands.command("create")
@click.argument("user_id")
@click.option("--role", type=_role, default=Role.CUSTOMER.value, show_default=True, help="What the user may do.")
def create(user_id: str, role: str) -> None:
    """Make an account for USER_ID.

    Exits with 0 when it is made, 2 when the name is taken, name or password are not allowed, or the storage does not
    answer.
    """
    password = _password()
    wrong = RegisterSchema().validate({"user_id": user_id, "password": password, "role": role})
    for name, findings in wrong.items():
        fail(f"{name}: {' '.join(findings)}")
    user_id = normal(user_id)
    with storage():
        if services().accounts.register(user_id, Role(role), _hash(password, user_id)) is None:
            fail(f"The user id {user_id!r} is taken.")
    click.echo(f"{user_id} is a user: {role}.")


@user_commands.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the accounts, by id.

    The admin of the settings is not among them.

    Exits with 0 when all are listed, 2 when the storage does not answer.
    """
    with storage():
        for account in _all():
            if as_json:
                print_json({"user_id": account.user_id, "role": account.role.value})
            else:
                say(f"{account.user_id}: {account.role}")


@user_commands.command("set-role")
@click.argument("user_id")
@click.argument("role", type=_role)
def set_role(user_id: str, role: str) -> None:
    """Give USER_ID the role ROLE. It ends all tokens of that user, and a role other than admin ends the webhooks.

    Exits with 0 when it is done, 2 when there is no such user, or the storage does not answer.
    """
    with storage():
        _change(_account(user_id), role=Role(role))
    click.echo(f"{user_id} is a user: {role}.")


@user_commands.command("reset-password")
@click.argument("user_id")
def reset_password(user_id: str) -> None:
    """Give USER_ID another password. It ends all tokens of that user.

    Exits with 0 when it is done, 2 when there is no such user, the password is not allowed, or the storage does not
    answer.
    """
    password = _password()
    with storage():
        account = _account(user_id)
        _change(account, password_hash=_hash(password, account.user_id))
    click.echo(f"{user_id} has another password.")


@user_commands.command("erase")
@click.argument("user_id")
def erase(user_id: str) -> None:
    """Erase USER_ID: the account, and the name in all orders.

    The account's webhooks end. Also a name that has no account, and one that no path of the API leads to: me, or what
    has a slash.

    Exits with 0 when it is erased, 2 when the name stands nowhere or in a damaged ledger, or the storage does not
    answer.
    """
    parts = services()
    _refuse_first_admin(user_id)
    with storage():
        if not erase_name(parts, user_id, None, parts.clock.monotonic() + ERASE_S):
            fail(f"The name {user_id!r} stands nowhere.")
    click.echo(f"{user_id} is erased.")


def _all() -> Iterator[Account]:
    after = ""
    while page := services().accounts.page(after, PAGE_SIZE):
        yield from page
        after = page[-1].user_id


def _account(user_id: str) -> Account:
    _refuse_first_admin(user_id)
    account = services().accounts.registered(normal(user_id))
    if account is None:
        fail(f"There is no user {user_id!r}.")
    return account


def _refuse_first_admin(user_id: str) -> None:
    if services().accounts.is_first_admin(normal(user_id)):
        fail(f"The account {user_id!r} stands in the settings: change it there.")


def _change(account: Account, *, role: Role | None = None, password_hash: str | None = None) -> None:
    if change_account(services(), account, role=role, password_hash=password_hash) is None:
        fail("The account was changed meanwhile. Try again.")


def _password() -> str:
    """Typed twice and not shown, or the first line of standard input. Never an argument: those are for all to see."""
    if _is_terminal():
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return normal(typed)
    return normal(sys.stdin.readline().rstrip("\r\n"))


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _hash(password: str, user_id: str) -> str:
    if finding := weakness(password, user_id):
        fail(f"password: {finding}")
    return hash_password(password)
