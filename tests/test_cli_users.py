"""`flask --app wsgi users …` on a real mongod."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from flask import Flask
from pymongo.database import Database
from werkzeug.security import check_password_hash

from ticketing.api import auth
from ticketing.cli import users as commands
from ticketing.config import Config
from ticketing.domain.accounts import Account
from ticketing.passwords import normal
from ticketing.services import EXTENSION

from .api.conftest import CHEAP_HASH
from .api.test_erasure import subscription_of
from .concurrency.stage import booking, opening
from .test_cli import app_on, run

PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "another good passphrase"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """To hash a password takes no time."""
    monkeypatch.setattr(auth, "HASH_METHOD", CHEAP_HASH)


@pytest.fixture
def app(database: Database[dict[str, Any]]) -> Flask:
    return app_on(database)


def account(app: Flask, user_id: str) -> Account:
    """An account that is there."""
    found = app.extensions[EXTENSION].accounts.fresh(user_id)
    assert isinstance(found, Account)
    return found


def create(app: Flask, user_id: str, *options: str, password: str = PASSWORD) -> Any:
    """`users create`, with the password on standard input."""
    return run(app, "users", "create", user_id, *options, given=password + "\n")


def test_an_account_is_made(app: Flask) -> None:
    """A customer unless told, with the password of the first line of standard input."""
    result = create(app, "ada")
    assert (result.exit_code, result.stdout) == (0, "ada is a user: customer.\n")
    assert check_password_hash(account(app, "ada").password_hash, PASSWORD)
    assert create(app, "olga", "--role", "organizer").stdout == "olga is a user: organizer.\n"


@pytest.mark.parametrize(
    ("user_id", "password", "sentence"),
    [
        ("ada", PASSWORD, "The user id 'ada' is taken.\n"),
        ("a:b", PASSWORD, "user_id: Must not contain ':' or '/', nor be 'me', '.' or '..'.\n"),
        ("bob", "short", "password: Length must be between 12 and 128.\n"),
        ("bob", "password1234", "password: Is among the first that are guessed: too common.\n"),
        ("bob", "", "password: Length must be between 12 and 128.\n"),
    ],
)
def test_what_is_not_taken(app: Flask, user_id: str, password: str, sentence: str) -> None:
    """One sentence and exit status 2; the password is not repeated."""
    create(app, "ada")
    result = create(app, user_id, password=password)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", sentence)


def test_a_password_on_a_terminal_is_typed_twice_and_not_shown(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never an argument: those are for all to see."""
    typed: list[dict[str, Any]] = []

    def prompt(text: str, **options: Any) -> str:
        typed.append(options)
        return PASSWORD

    monkeypatch.setattr(click, "prompt", prompt)
    monkeypatch.setattr(commands, "_is_terminal", lambda: True)
    assert run(app, "users", "create", "ada").exit_code == 0
    assert typed == [{"hide_input": True, "confirmation_prompt": True}]
    assert check_password_hash(account(app, "ada").password_hash, PASSWORD)


def test_the_list(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """By id, in words or as JSON, however many there are."""
    monkeypatch.setattr(commands, "PAGE_SIZE", 2)
    for name in ("cyd", "ada", "Zo\xeb", "bob", "eve"):
        create(app, name)
    result = run(app, "users", "list")
    assert result.stdout.splitlines() == [f"{name}: customer" for name in ("Zo\xeb", "ada", "bob", "cyd", "eve")]
    result = run(app, "users", "list", "--json")
    assert [json.loads(line)["user_id"] for line in result.stdout.splitlines()][:2] == ["Zo\xeb", "ada"]


def test_a_role_and_a_password_are_changed(app: Flask) -> None:
    """Each ends what rests on the old one."""
    create(app, "ada")
    stamps = {account(app, "ada").stamp}
    assert run(app, "users", "set-role", "ada", "organizer").stdout == "ada is a user: organizer.\n"
    stamps.add(account(app, "ada").stamp)
    result = run(app, "users", "reset-password", "ada", given=NEW_PASSWORD + "\n")
    assert (result.exit_code, result.stdout) == (0, "ada has another password.\n")
    changed = account(app, "ada")
    assert check_password_hash(changed.password_hash, NEW_PASSWORD) and changed.role == "organizer"
    assert len(stamps | {changed.stamp}) == 3
    result = run(app, "users", "reset-password", "ada", given="password1234\n")
    assert result.exit_code == 2 and account(app, "ada") == changed


def test_another_role_ends_webhooks(app: Flask) -> None:
    """A customer is told of no event; another password ends nothing."""
    create(app, "olga", "--role", "organizer")
    webhooks = app.extensions[EXTENSION].webhooks
    webhooks.add(subscription_of("olga"))
    assert run(app, "users", "reset-password", "olga", given=NEW_PASSWORD + "\n").exit_code == 0
    assert len(webhooks.find_all("olga", "", 9)) == 1
    assert run(app, "users", "set-role", "olga", "customer").exit_code == 0
    assert webhooks.find_all("olga", "", 9) == []


@pytest.mark.parametrize("user_id", ["ada", "e\u0301ve", "a/b", "me", ".", "a:b"])
def test_a_name_is_erased(app: Flask, monkeypatch: pytest.MonkeyPatch, user_id: str) -> None:
    """Also one without an account that no path of the API leads to, and as earlier versions wrote it."""
    monkeypatch.setattr("ticketing.erasure.RECENT_S", 0.0)
    parts = app.extensions[EXTENSION]
    if user_id == "ada":
        create(app, user_id)
    parts.manager.execute(opening("concert", 3))
    for name in {user_id, normal(user_id)}:
        parts.manager.execute(booking(name, "concert"))
    result = run(app, "users", "erase", user_id)
    assert (result.exit_code, result.stdout) == (0, f"{user_id} is erased.\n")
    erased = parts.manager.state_of("concert").orders_by_arrival()
    assert all(order.user_id.startswith("erased:") for order in erased)
    stored = json.dumps(list(parts.database["ledger"].find()), default=str, ensure_ascii=False)
    assert f'"{user_id}"' not in stored and f'"{normal(user_id)}"' not in stored
    assert parts.accounts.fresh(user_id) is None
    result = run(app, "users", "erase", user_id)
    assert (result.exit_code, result.stderr) == (2, f"The name {user_id!r} stands nowhere.\n")


def test_who_is_not_there(database: Database[dict[str, Any]]) -> None:
    """And the admin of the settings, who is not to be changed here: a sentence each, exit status 2."""
    config = Config(mongodb_database=database.name, basic_auth_username="admin", basic_auth_password=PASSWORD)
    app = app_on(database, config)
    for user_id, sentence in (
        ("nobody", "There is no user 'nobody'.\n"),
        ("admin", "The account 'admin' stands in the settings: change it there.\n"),
    ):
        result = run(app, "users", "set-role", user_id, "admin")
        assert (result.exit_code, result.stderr) == (2, sentence)
    assert run(app, "users", "erase", "admin").stderr == sentence
    assert create(app, "admin").stderr == "The user id 'admin' is taken.\n"
