"""Access tokens and refresh tokens: what they are worth, and when they end."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from flask import Flask

from ticketing.accounts import RECENT_S
from ticketing.api import tokens
from ticketing.api.auth import Role
from ticketing.api.bearer import LIFETIME_S
from ticketing.storage.sessions import Session

from .conftest import ADMIN, CONFIG, Answer, Api, Json, MakeApp, SteppingClock, add_account, refused

on_both = pytest.mark.parametrize("mongo", ["mongomock", "mongod"], indirect=True)

ADA = ("ada", "correct horse battery staple")
NEW_PASSWORD = "another good passphrase"
KEY = CONFIG.jwt_secret_key or ""


@pytest.fixture(autouse=True)
def ada(app: Flask) -> None:
    """A customer."""
    add_account(app, ADA, Role.CUSTOMER)


def login(api: Api, credentials: tuple[str, str] = ADA) -> Json:
    """Tokens for a password."""
    answer = api.client.post("/auth/token", auth=credentials)
    assert answer.status_code == 200
    return answer.json


def me(api: Api, token: str) -> Answer:
    """Who one is with a token."""
    return api.client.get("/users/me", headers={"Authorization": f"Bearer {token}"})


def refresh(api: Api, token: str) -> Answer:
    """POST /auth/refresh."""
    return api.client.post("/auth/refresh", json={"refresh_token": token})


def signed(key: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    """A token with other claims than those of a login; a claim that is None is left out."""
    said = {"iss": "ticketing", "sub": "admin", "role": "admin", "stamp": "x", "iat": 0, "exp": 10**11} | claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, key if algorithm == "HS256" else "", algorithm)


class TestLogin:
    """POST /auth/token."""

    @on_both
    def test_a_password_gives_tokens(self, api: Api) -> None:
        """With what OAuth 2 calls it, kept by no cache; the access token lets in."""
        answer = api.client.post("/auth/token", auth=ADA)
        assert answer.headers["Cache-Control"] == "no-store"
        assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", LIFETIME_S) == ("Bearer", 900)
        assert me(api, answer.json["access_token"]).json == {"user_id": "ada", "role": "customer"}

    def test_what_it_says(self, api: Api) -> None:
        """HS256 with the key of the settings; issuer, user, role and times."""
        token = login(api)["access_token"]
        claims = jwt.decode(token, KEY, ["HS256"], options={"verify_exp": False, "verify_iat": False})
        assert (claims["iss"], claims["sub"], claims["role"]) == ("ticketing", "ada", "customer")
        assert claims["exp"] - claims["iat"] == LIFETIME_S
        assert datetime.fromtimestamp(claims["iat"], UTC).year == 2027

    def test_without_a_password(self, api: Api) -> None:
        """A token begets no tokens: what is stolen ends."""
        token = login(api)["access_token"]
        answer = api.client.post("/auth/token", headers={"Authorization": f"Bearer {token}"})
        refused(answer, 401, "unauthorized")
        refused(api.client.post("/auth/token"), 401, "unauthorized")

    def test_without_a_key(self, make_app: MakeApp) -> None:
        """Without JWT_SECRET_KEY there are none, and the answer says what to set; a token is worth nothing."""
        api = Api(make_app(jwt_secret_key=None))
        problem = refused(api.client.post("/auth/token", auth=ADA), 403, "tokens_not_configured")
        assert "JWT_SECRET_KEY" in problem["detail"]
        refused(refresh(api, "x"), 403, "tokens_not_configured")
        refused(me(api, signed()), 401, "unauthorized")

    def test_the_first_admin(self, make_app: MakeApp) -> None:
        """A token of one worker lets in at all of them, until the password of the settings is another."""
        token = login(Api(make_app()), ADMIN)["access_token"]
        assert me(Api(make_app()), token).json["role"] == "admin"
        refused(me(Api(make_app(basic_auth_password=NEW_PASSWORD)), token), 401, "unauthorized")


class TestAccessTokens:
    """What lets in and what does not."""

    def test_its_time(self, app: Flask, api: Api) -> None:
        """15 minutes, to the second, by the clock of the service."""
        token = login(api)["access_token"]
        clock: Any = app.extensions["ticketing"].clock
        tokens_clock: SteppingClock = clock
        tokens_clock._now = datetime.fromtimestamp(_claims(token)["exp"] - 2, UTC)
        assert me(api, token).status_code == 200
        answer = me(api, token)
        refused(answer, 401, "unauthorized")
        assert answer.headers.getlist("WWW-Authenticate") == [
            'Basic realm="ticketing"',
            'Bearer realm="ticketing", error="invalid_token"',
        ]

    @pytest.mark.parametrize(
        "token",
        [
            "",
            "x",
            "a.b.c",
            "\xe9.\xe9.\xe9",
            signed(),
            signed(key="another key, as long as it has to be"),
            signed(algorithm="none"),
            signed(iss="somebody else"),
            signed(exp=None),
            signed(exp="soon"),
            signed(exp=1),
            signed(stamp=None),
            signed(stamp=["x"]),
            signed(sub=None),
            signed(sub="nobody"),
        ],
    )
    def test_none_of_ours(self, api: Api, token: str) -> None:
        """Not signed with the key, without a claim, or not of an account as it is now: 401, on public paths too."""
        refused(me(api, token), 401, "unauthorized")
        answer = api.client.get("/status/none", headers={"Authorization": f"Bearer {token}"})
        refused(answer, 401, "unauthorized")

    def test_altered(self, api: Api) -> None:
        """Each character counts."""
        head, body, signature = login(api)["access_token"].split(".")
        claims = _claims(f"{head}.{body}.{signature}") | {"sub": "admin"}
        forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        refused(me(api, f"{head}.{forged}.{signature}"), 401, "unauthorized")

    def test_the_scheme_in_any_case(self, api: Api) -> None:
        """RFC 9110, 11.1."""
        token = login(api)["access_token"]
        assert api.client.get("/users/me", headers={"Authorization": f"bEARER {token}"}).status_code == 200

    @pytest.mark.parametrize("change", [{"password": NEW_PASSWORD}, {"role": "organizer"}, {"role": "customer"}])
    def test_a_change_ends_it(self, api: Api, make_app: MakeApp, change: Json) -> None:
        """In the worker of the change at once, in others within `RECENT_S`."""
        there = make_app()
        given = login(api)
        assert me(Api(there), given["access_token"]).status_code == 200
        assert api.client.patch("/users/ada", json=change, auth=ADMIN).status_code == 200
        refused(me(api, given["access_token"]), 401, "unauthorized")
        assert me(Api(there), given["access_token"]).status_code == 200
        there.extensions["ticketing"].clock.sleep(RECENT_S)
        refused(me(Api(there), given["access_token"]), 401, "unauthorized")
        refused(refresh(Api(there), given["refresh_token"]), 401, "invalid_refresh_token")

    def test_a_new_one_in_another_worker(self, api: Api, make_app: MakeApp) -> None:
        """Who has just changed his password is let in everywhere at once."""
        there = Api(make_app())
        assert me(there, login(api)["access_token"]).status_code == 200
        api.client.patch("/users/ada", json={"password": NEW_PASSWORD}, auth=ADMIN)
        assert me(there, login(api, ("ada", NEW_PASSWORD))["access_token"]).status_code == 200


class TestRefreshTokens:
    """POST /auth/refresh and /auth/revoke."""

    @on_both
    def test_rotation(self, api: Api) -> None:
        """Each use gives the next one, and an access token."""
        given = login(api)
        for _ in range(3):
            answer = refresh(api, given["refresh_token"])
            assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
            assert answer.json["refresh_token"] != given["refresh_token"]
            given = answer.json
            assert me(api, given["access_token"]).status_code == 200

    @on_both
    def test_reuse_ends_the_family(self, api: Api) -> None:
        """Whoever comes with an old one ends the login, the newest token included; another login goes on."""
        other = login(api)["refresh_token"]
        first = login(api)["refresh_token"]
        second = refresh(api, first).json["refresh_token"]
        refused(refresh(api, first), 401, "invalid_refresh_token")
        refused(refresh(api, second), 401, "invalid_refresh_token")
        assert refresh(api, other).status_code == 200

    @pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
    def test_at_once(self, app: Flask, api: Api) -> None:
        """Of eight requests with the same token at once exactly one gets the next one."""
        token = login(api)["refresh_token"]
        start = threading.Barrier(8)

        def use(_: int) -> int:
            start.wait()
            return refresh(Api(app), token).status_code

        with ThreadPoolExecutor(8) as threads:
            statuses = sorted(threads.map(use, range(8)))
        assert statuses == [200] + [401] * 7

    @pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
    def test_at_once_without_the_compare_and_set(self, app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """The control: were the old secret looked for first and replaced afterwards, all of them would get one."""
        sessions = api.services.sessions
        together = threading.Barrier(8)

        def rotate(family: bytes, digest: bytes, to: bytes, *args: Any) -> Any:
            found = sessions._collection.find_one({"_id": family, "digest": digest})
            together.wait()
            rotated = found and sessions._collection.find_one_and_update({"_id": family}, {"$set": {"digest": to}})
            return rotated and Session(
                family, rotated["user_id"], rotated["stamp"], digest, rotated["expires_at"]
            )

        monkeypatch.setattr(sessions, "rotate", rotate)
        token = login(api)["refresh_token"]
        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(lambda _: refresh(Api(app), token).status_code, range(8)))
        assert statuses == [200] * 8

    @pytest.mark.parametrize("token", ["x", ".", "a.b.c", "AAAA.AAAA", "\xe9", f"{'A' * 22}.{'A' * 43}", "A" * 200])
    def test_none_of_ours(self, api: Api, token: str) -> None:
        """401; and to revoke it is no error."""
        refused(refresh(api, token), 401, "invalid_refresh_token")
        assert api.client.post("/auth/revoke", json={"refresh_token": token}).status_code == 204

    def test_revoked(self, api: Api) -> None:
        """The login is over, by an older token too, and twice is no error."""
        first = login(api)["refresh_token"]
        second = refresh(api, first).json["refresh_token"]
        for _ in range(2):
            assert api.client.post("/auth/revoke", json={"refresh_token": first}).status_code == 204
        refused(refresh(api, second), 401, "invalid_refresh_token")

    def test_its_time(self, app: Flask, api: Api) -> None:
        """30 days from its last use on."""
        token = login(api)["refresh_token"]
        clock: SteppingClock = app.extensions["ticketing"].clock
        for _ in range(2):
            clock._now += tokens.REFRESH_LIFETIME * 0.9
            token = refresh(api, token).json["refresh_token"]
        clock._now += tokens.REFRESH_LIFETIME
        refused(refresh(api, token), 401, "invalid_refresh_token")

    def test_what_is_stored(self, api: Api) -> None:
        """Nothing that could be used: 32 bytes of SHA-256, and when MongoDB may remove it."""
        secret = login(api)["refresh_token"].split(".")[1]
        [document] = api.services.database["sessions"].find()
        assert len(document["digest"]) == 32
        assert secret not in repr(document)
        assert base64.urlsafe_b64decode(secret + "=") not in document.values()
        assert set(document) == {"_id", "user_id", "stamp", "digest", "expires_at"}

    @pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
    def test_expired_ones_are_removed(self, api: Api) -> None:
        """By MongoDB's index."""
        [index] = [
            index for index in api.services.database["sessions"].list_indexes() if "expireAfterSeconds" in index
        ]
        assert (dict(index["key"]), index["expireAfterSeconds"]) == ({"expires_at": 1}, 0)


def _claims(token: str) -> Json:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
