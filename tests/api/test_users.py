"""Accounts over HTTP: who may make, see and change them, what passwords are taken, and that a change is felt."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from ticketing.accounts import RECENT_S
from ticketing.api.auth import Role

from .conftest import ADMIN, CUSTOMER, EVENT_ID, Answer, Api, MakeApp, SteppingClock, add_account, refused

on_both = pytest.mark.parametrize("mongo", ["mongomock", "mongod"], indirect=True)

ADA = ("ada", "correct horse battery staple")
NEW_PASSWORD = "another good passphrase"
OLGA = ("olga", "a password of an organizer")
OTTO = ("otto", "a password of another organizer")


def register(
    api: Api, credentials: tuple[str, str] = ADA, auth: Any = None, *, key: str | None = None, **fields: Any
) -> Answer:
    """POST /users, as nobody unless told."""
    user_id, password = credentials
    return api.post("/users", {"user_id": user_id, "password": password, **fields}, auth=auth, key=key)


def me(api: Api, credentials: tuple[str, str]) -> Answer:
    """Who one is."""
    return api.client.get("/users/me", auth=credentials)


def waited(app: Flask) -> None:
    """Let pass what another worker may need to see a change."""
    clock: SteppingClock = app.extensions["ticketing"].clock
    clock.sleep(RECENT_S)


class TestRegistering:
    """POST /users."""

    @on_both
    def test_anybody(self, api: Api) -> None:
        """A new user is a customer, known at once by name and password; the name is then taken."""
        answer = register(api)
        assert (answer.status_code, answer.json) == (201, {"user_id": "ada", "role": "customer"})
        assert answer.headers["Location"] == "/users/ada"
        assert me(api, ADA).json == answer.json
        refused(register(api, ("ada", NEW_PASSWORD)), 409, "user_exists")
        refused(me(api, ("ada", NEW_PASSWORD)), 401, "unauthorized")

    @on_both
    def test_a_repeat_with_its_key(self, api: Api, make_app: MakeApp) -> None:
        """The first answer again, by any worker; what is another in it is refused, and changes nothing."""
        first = register(api, key="k")
        assert "Idempotent-Replayed" not in first.headers
        for worker in (api, Api(make_app())):
            again = register(worker, key="k")
            assert (again.status_code, again.json) == (201, first.json)
            assert again.headers["Location"] == first.headers["Location"]
            assert again.headers["Idempotent-Replayed"] == "true"
            for other in (("ada", NEW_PASSWORD), ("bob", ADA[1])):
                refused(register(worker, other, key="k"), 422, "idempotency_key_reused")
            refused(register(worker, key="another"), 409, "user_exists")
        assert me(api, ADA).status_code == 200
        assert register(api, ("bob", NEW_PASSWORD), ADMIN, key="k").status_code == 201  # it is another caller's key

    def test_a_repeat_after_a_change(self, api: Api) -> None:
        """It is no repeat any more: the account is another, and the name is taken."""
        register(api, key="k")
        assert api.client.patch("/users/ada", json={"role": "organizer"}, auth=ADMIN).status_code == 200
        refused(register(api, key="k"), 409, "user_exists")

    def test_a_repeat_at_the_same_time(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who loses the race for the name finds that it is its own."""
        accounts = api.services.accounts
        real = accounts.register
        monkeypatch.setattr(accounts, "register", lambda *args, key: real(*args, key=key) and real(*args, key=key))
        answer = register(api, key="k")
        assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (201, "true")

    def test_what_is_kept_of_a_key(self, api: Api) -> None:
        """A digest of key and caller; nothing that is quick to compute from the password."""
        register(api, key="secret-key")
        document = api.services.database["users"].find_one({"_id": "ada"})
        assert document is not None
        assert set(document) == {"_id", "role", "password_hash", "stamp", "pseudonym", "key"}
        assert (len(document["key"]), b"secret" in document["key"]) == (16, False)
        register(api, ("ben", ADA[1]), key="other")
        other = api.services.database["users"].find_one({"_id": "ben"})
        assert other is not None and other["key"] != document["key"]

    def test_the_name_of_the_first_admin(self, api: Api) -> None:
        """It is taken, though it stands in no database."""
        refused(register(api, (ADMIN[0], NEW_PASSWORD)), 409, "user_exists")

    @pytest.mark.parametrize(
        "user_id", ["", " ada", "a" * 129, "a\nb", "a:b", "a/b", "me", ".", "..", "erased:abc", "\ud800"]
    )
    def test_names_that_lead_nowhere(self, api: Api, user_id: str) -> None:
        """What could not be sent as a user name or stand in a path."""
        assert list(refused(register(api, (user_id, NEW_PASSWORD)), 422, "validation_failed")["errors"]) == ["user_id"]

    @pytest.mark.parametrize("user_id", ["ada@example.org", "Zoë", "日本", "$where", "a.b", "Me"])
    def test_other_names(self, api: Api, user_id: str) -> None:
        """Case matters, and any script will do. The path in `Location` leads to the user."""
        answer = register(api, (user_id, NEW_PASSWORD))
        assert answer.status_code == 201
        assert api.get(answer.headers["Location"], staff=True).json["user_id"] == user_id

    def test_names_that_look_alike(self, api: Api) -> None:
        """However its accents are put together, it is one name."""
        assert register(api, ("Zoe\u0308", NEW_PASSWORD)).json["user_id"] == "Zo\xeb"
        refused(register(api, ("Zo\xeb", NEW_PASSWORD)), 409, "user_exists")
        assert me(api, ("Zoe\u0308", NEW_PASSWORD)).status_code == 200

    @pytest.mark.parametrize("length", [11, 129])
    def test_length_of_passwords(self, api: Api, length: int) -> None:
        """12 to 128 characters."""
        password = ("kRz7!x" * 22)[:length]
        refused(register(api, ("ada", password)), 422, "validation_failed")

    @pytest.mark.parametrize("length", [12, 128])
    def test_lengths_that_are_taken(self, api: Api, length: int) -> None:
        """The longest too, and every character of it counts."""
        password = ("kRz7!x" * 22)[:length]
        assert register(api, ("ada", password)).status_code == 201
        assert me(api, ("ada", password)).status_code == 200
        refused(me(api, ("ada", password[:-1] + "?")), 401, "unauthorized")

    @pytest.mark.parametrize(
        "password",
        ["passwordpassword", "password1234", "123456789012", "qwertyuiop123", "aaaaaaaaaaaa", "Ada-of-Troy!"],
    )
    def test_common_passwords(self, api: Api, password: str) -> None:
        """Common ones, their variations, and the user's own name."""
        answer = register(api, ("ada-of-troy!", password))
        assert list(refused(answer, 422, "weak_password")["errors"]) == ["password"]

    def test_roles(self, api: Api, customer: tuple[str, str]) -> None:
        """Only an admin gives one: 401 for nobody, 403 for others; nobody is made."""
        refused(register(api, OLGA, role="organizer"), 401, "unauthorized")
        refused(register(api, OLGA, auth=customer, role="organizer"), 403, "forbidden")
        assert register(api, OLGA, auth=ADMIN, role="organizer").json == {"user_id": "olga", "role": "organizer"}

    def test_by_admins_only(self, make_app: MakeApp) -> None:
        """REGISTRATION=admins."""
        app = make_app(registration="admins")
        api = Api(app)
        add_account(app, CUSTOMER, Role.CUSTOMER)
        refused(register(api), 401, "unauthorized")
        refused(register(api, auth=CUSTOMER), 403, "forbidden")
        assert register(api, auth=ADMIN).status_code == 201

    def test_limits(self, make_app: MakeApp) -> None:
        """RATELIMIT_AUTH, for each of registering and logging in, and not for the rest."""
        api = Api(make_app(ratelimit_enabled=True, ratelimit_auth="2/minute"))
        for user_id, status in (("ada", 201), ("ben", 201), ("cyd", 429)):
            assert register(api, (user_id, NEW_PASSWORD)).status_code == status
        for path in ("/auth/refresh", "/auth/revoke"):
            statuses = [api.client.post(path, json={"refresh_token": "x"}).status_code for _ in range(3)]
            assert statuses[2] == 429 and 429 not in statuses[:2]
        logins = [api.client.post("/auth/token", auth=("ada", NEW_PASSWORD)).status_code for _ in range(3)]
        assert logins == [200, 200, 429]
        assert me(api, ("ada", NEW_PASSWORD)).status_code == 200

    def test_nothing_readable_is_kept(self, api: Api) -> None:
        """Of the password there is a hash."""
        register(api)
        [document] = api.services.database["users"].find()
        assert ADA[1] not in repr(document) and document["password_hash"].startswith("pbkdf2:")


class TestLooking:
    """GET /users."""

    @on_both
    def test_pages(self, api: Api) -> None:
        """By id, each once, though others come and go."""
        for name in ("cyd", "ada", "bob", "dan"):
            register(api, (name, NEW_PASSWORD))
        first = api.get("/users?limit=2", staff=True)
        assert [item["user_id"] for item in first.json["items"]] == ["ada", "bob"]
        assert f'after={first.json["next"]}' in first.headers["Link"]
        register(api, ("aaa", NEW_PASSWORD))
        second = api.get(f"/users?limit=2&after={first.json['next']}", staff=True).json
        assert [item["user_id"] for item in second["items"]] == ["cyd", "dan"]
        assert second["next"] is None

    @pytest.mark.parametrize("cursor", ["!", "YQ==", "_w", "YR"])
    def test_no_cursor(self, api: Api, cursor: str) -> None:
        """What this list has not given is refused."""
        refused(api.get(f"/users?after={cursor}", staff=True), 422, "validation_failed")

    def test_nobody_there(self, api: Api) -> None:
        """404."""
        refused(api.get("/users/nobody", staff=True), 404, "user_not_found")
        refused(api.client.patch("/users/nobody", json={"role": "admin"}, auth=ADMIN), 404, "user_not_found")

    def test_the_first_admin(self, api: Api) -> None:
        """Is somebody, and cannot be changed here."""
        assert me(api, ADMIN).json == {"user_id": "admin", "role": "admin"}
        for path in ("/users/me", "/users/admin"):
            refused(api.client.delete(path, auth=ADMIN), 409, "account_in_settings")
        refused(api.client.patch("/users/admin", json={"role": "customer"}, auth=ADMIN), 409, "account_in_settings")


class TestChanging:
    """PATCH, and how fast it is felt."""

    @pytest.fixture(autouse=True)
    def ada(self, api: Api) -> None:
        """The user who is changed."""
        register(api)

    def change_me(self, api: Api, **body: Any) -> Answer:
        """PATCH /users/me."""
        return api.client.patch("/users/me", json=body, auth=ADA)

    @on_both
    def test_a_password(self, api: Api) -> None:
        """It takes the old one, and then the old one is worth nothing, at once."""
        refused(self.change_me(api, current_password="not it", password=NEW_PASSWORD), 403, "wrong_password")
        refused(self.change_me(api, password=NEW_PASSWORD), 422, "validation_failed")
        refused(self.change_me(api, current_password=ADA[1], password="password1234"), 422, "weak_password")
        assert self.change_me(api, current_password=ADA[1], password=NEW_PASSWORD).status_code == 200
        refused(me(api, ADA), 401, "unauthorized")
        assert me(api, ("ada", NEW_PASSWORD)).status_code == 200

    def test_no_role(self, api: Api) -> None:
        """Nobody gives himself a role."""
        body = {"current_password": ADA[1], "password": NEW_PASSWORD, "role": "admin"}
        assert list(refused(self.change_me(api, **body), 422, "validation_failed")["errors"]) == ["role"]

    def test_guessing(self, app: Flask, api: Api) -> None:
        """Who has a stolen token has ten guesses at the password, like everybody."""
        token = api.client.post("/auth/token", auth=ADA).json["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        body = {"current_password": "a guess", "password": NEW_PASSWORD}
        for _ in range(10):
            refused(api.client.patch("/users/me", json=body, headers=headers), 403, "wrong_password")
        refused(api.client.patch("/users/me", json=body, headers=headers), 429, "rate_limited")

    def test_by_an_admin(self, api: Api) -> None:
        """A role, a password, or both; nothing at all is refused."""
        answer = api.client.patch("/users/ada", json={"role": "organizer"}, auth=ADMIN)
        assert answer.json == {"user_id": "ada", "role": "organizer"} == me(api, ADA).json
        assert api.client.patch("/users/ada", json={"password": NEW_PASSWORD}, auth=ADMIN).status_code == 200
        assert me(api, ("ada", NEW_PASSWORD)).json["role"] == "organizer"
        refused(api.client.patch("/users/ada", json={}, auth=ADMIN), 422, "validation_failed")

    @on_both
    def test_another_worker(self, make_app: MakeApp) -> None:
        """Another worker lets the old password in for `RECENT_S` at most, and the new one at once."""
        here, there = make_app(), make_app()
        assert me(Api(there), ADA).status_code == 200
        Api(here).client.patch("/users/ada", json={"password": NEW_PASSWORD, "role": "organizer"}, auth=ADMIN)
        assert me(Api(there), ADA).json["role"] == "customer"
        assert me(Api(there), ("ada", NEW_PASSWORD)).json["role"] == "organizer"
        refused(me(Api(there), ADA), 401, "unauthorized")

    def test_another_worker_without_its_help(self, make_app: MakeApp) -> None:
        """The same where nobody comes with the new one."""
        here, there = make_app(), make_app()
        assert me(Api(there), ADA).status_code == 200
        Api(here).client.patch("/users/ada", json={"password": NEW_PASSWORD}, auth=ADMIN)
        assert me(Api(there), ADA).status_code == 200
        waited(there)
        refused(me(Api(there), ADA), 401, "unauthorized")

    def test_two_changes_at_once(self, app: Flask) -> None:
        """Who changes what somebody else has changed meanwhile is told so."""
        accounts = app.extensions["ticketing"].accounts
        seen = accounts.fresh("ada")
        assert accounts.change(seen, role=Role.ADMIN) is not None
        assert accounts.change(seen, role=Role.ORGANIZER) is None
        assert accounts.fresh("ada").role is Role.ADMIN


class TestWhoseOrders:
    """What belongs to whom: beside the table of test_authorization.py."""

    @pytest.fixture(autouse=True)
    def concert(self, app: Flask, api: Api) -> None:
        """An event of an organizer, and a user."""
        add_account(app, OLGA, Role.ORGANIZER)
        add_account(app, OTTO, Role.ORGANIZER)
        register(api)
        api.initialize(2, auth=OLGA)

    def book(self, api: Api, auth: Any = None, **fields: Any) -> Answer:
        """POST /book."""
        return api.post("/book", {"event_id": EVENT_ID, **fields}, auth=auth)

    def test_for_whom(self, api: Api) -> None:
        """A user books for himself, said or not; nobody has to say; staff books for anybody."""
        assert self.book(api, ADA).json["user_id"] == "ada"
        assert self.book(api, OTTO, user_id="ben").json["user_id"] == "ben"
        assert self.book(api, OLGA).json["user_id"] == "olga"
        assert list(refused(self.book(api), 422, "validation_failed")["errors"]) == ["user_id"]
        refused(self.book(api, ADA, user_id="ben"), 403, "forbidden")

    def test_in_the_name_of_a_user(self, api: Api) -> None:
        """Nobody books in the name of a registered user, nor in one that looks like it."""
        register(api, ("Zo\xeb", NEW_PASSWORD))
        for name in ("ada", "admin", "Zo\xeb", "Zoe\u0308"):
            refused(self.book(api, user_id=name), 401, "unauthorized")
        assert self.book(api, user_id="Ada").status_code == 201

    def test_with_login_only(self, make_app: MakeApp) -> None:
        """BOOKING_REQUIRES_LOGIN."""
        api = Api(make_app(booking_requires_login=True))
        refused(self.book(api, user_id="ben"), 401, "unauthorized")
        assert self.book(api, ADA).status_code == 201

    def test_who_reads(self, api: Api) -> None:
        """An order of a user is for him and for staff of the event; with its id alone it is not to be found."""
        path = self.book(api, ADA).headers["Location"]
        for reader in (ADA, OLGA, ADMIN):
            assert api.client.get(path, auth=reader).status_code == 200
        for stranger in (None, OTTO):
            refused(api.client.get(path, auth=stranger), 404, "order_not_found")

    def test_an_order_without_an_account(self, api: Api) -> None:
        """Is for whoever has its id, also where staff has booked it."""
        for answer in (self.book(api, user_id="ben"), self.book(api, OLGA, user_id="cyd")):
            assert api.client.get(answer.headers["Location"]).status_code == 200

    def test_a_name_that_is_registered_later(self, api: Api) -> None:
        """What was booked without credentials does not come to who registers that name: it is not proven his."""
        path = self.book(api, user_id="ben").headers["Location"]
        register(api, ("ben", NEW_PASSWORD))
        by_name = {"event_id": EVENT_ID, "user_id": "ben"}
        refused(api.post("/cancel", by_name, auth=("ben", NEW_PASSWORD)), 403, "forbidden")
        assert api.client.get(path).status_code == 200
        assert api.post("/cancel", by_name, auth=OLGA).status_code == 200

    def test_who_cancels(self, api: Api) -> None:
        """By id or by name; of others' orders nothing is done, and of what is not there nothing is told."""
        order_id = self.book(api, ADA).json["order_id"]
        other = self.book(api, OTTO).json["order_id"]
        before = api.ledger()
        for body in ({"order_id": other}, {"event_id": EVENT_ID, "user_id": "otto"}):
            refused(api.post("/cancel", body, auth=ADA), 403, "forbidden")
        refused(api.post("/cancel", {"order_id": order_id}, auth=OTTO), 403, "forbidden")
        for unknown in ("no order", f"none.{'x' * 22}", f"{EVENT_ID}.{'x' * 22}"):
            refused(api.post("/cancel", {"order_id": unknown}, auth=ADA), 404, "order_not_found")
        refused(api.post("/cancel", {"event_id": "none", "user_id": "ada"}, auth=ADA), 404, "event_not_found")
        assert api.ledger() == before
        assert api.post("/cancel", {"order_id": order_id}, auth=ADA).status_code == 200
        refused(api.post("/cancel", {"event_id": EVENT_ID, "user_id": "ada"}, auth=ADA), 404, "order_not_found")
        assert api.post("/cancel", {"order_id": other}, auth=OTTO).status_code == 200

    def test_names_in_the_line(self, api: Api) -> None:
        """Only staff of the event sees who waits."""
        for name in ("ben", "cyd", "dan"):
            self.book(api, user_id=name)
        shown = {
            who: "user_id" in api.client.get(f"/events/{EVENT_ID}/waiting-list", auth=auth).json["items"][0]
            for who, auth in {"nobody": None, "ada": ADA, "otto": OTTO, "olga": OLGA, "admin": ADMIN}.items()
        }
        assert shown == {"nobody": False, "ada": False, "otto": False, "olga": True, "admin": True}

    @pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
    def test_after_a_restart(self, make_app: MakeApp) -> None:
        """Whose event and whose order it is stands in the ledger."""
        path = self.book(Api(make_app()), ADA).headers["Location"]
        api = Api(make_app())
        assert api.client.get(path, auth=ADA).status_code == 200
        refused(api.client.get(path), 404, "order_not_found")
        assert api.client.get(f"/events/{EVENT_ID}/orders", auth=OLGA).status_code == 200
        refused(api.client.get(f"/events/{EVENT_ID}/orders", auth=OTTO), 403, "forbidden")
