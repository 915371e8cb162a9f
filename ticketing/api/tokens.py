"""POST /auth/token, /auth/refresh, /auth/revoke: from a password to tokens, and their end.

A refresh token is `<family>.<secret>`, 16 and 32 random bytes. Each use gives the next secret. Who comes with an
older one of a family that is still alive has a copy, or is the one whose token was copied: nobody knows, so the
family ends, and both log in again (RFC 9700, 4.14.2).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import timedelta
from http import HTTPStatus
from typing import Any, NamedTuple

from flask_smorest import Blueprint

from ..domain.accounts import Account
from ..services import request_deadline, services
from ..storage.sessions import Session
from . import auth
from .auth import authenticator, current_account
from .bearer import LIFETIME_S
from .bodies import StrictParser
from .openapi import documented
from .problems import ApiProblem
from .schemas import RefreshTokenSchema, TokensSchema

REFRESH_LIFETIME = timedelta(days=30)
"""From the last use on."""

FAMILY_BYTES = 16
SECRET_BYTES = 32
NO_STORE = {"Cache-Control": "no-store"}  # RFC 6749, 5.1

blueprint = Blueprint("tokens", __name__, description="Access tokens, and refresh tokens to get new ones.")
blueprint.ARGUMENTS_PARSER = StrictParser()


class RefreshToken(NamedTuple):
    """A refresh token taken apart."""

    family: bytes
    secret: bytes

    @classmethod
    def new(cls, family: bytes | None = None) -> RefreshToken:
        """A new secret, for a family or as the first of a new one."""
        return cls(family or secrets.token_bytes(FAMILY_BYTES), secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parsed(cls, text: str) -> RefreshToken | None:
        """The token that a text is; None for what never was one."""
        try:
            family, secret = (base64.urlsafe_b64decode(part + "==") for part in text.split("."))
        except ValueError:  # too many parts, or no Base64
            return None
        token = cls(family, secret)
        return token if str(token) == text else None

    @property
    def digest(self) -> bytes:
        """What is stored of the secret. It has 256 random bits: no salt and no slow hash could add to that."""
        return hashlib.sha256(self.secret).digest()

    def __str__(self) -> str:
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in self)


@blueprint.post("/auth/token")
@auth.required()
@blueprint.response(200, TokensSchema)
@documented(blueprint, "log_in", "tokens_not_configured", tag="Tokens", protected=True, any_role=True)
def token() -> Any:
    """Log in.

    An access token and a refresh token, for a user name and a password (HTTP Basic).
    """
    if not auth.is_by_password():  # a token must not beget tokens that outlive it
        auth.refuse(HTTPStatus.UNAUTHORIZED)
    _refuse_without_key()
    account, refresh_token = current_account(), RefreshToken.new()
    expires_at = services().clock.now() + REFRESH_LIFETIME
    session = Session(refresh_token.family, account.user_id, account.stamp, refresh_token.digest, expires_at)
    services().sessions.add(session, request_deadline())
    return _tokens(account, refresh_token), 200, NO_STORE


@blueprint.post("/auth/refresh")
@blueprint.arguments(RefreshTokenSchema)
@blueprint.response(200, TokensSchema)
@documented(
    blueprint,
    "refresh_tokens",
    "invalid_refresh_token",
    "tokens_not_configured",
    tag="Tokens",
    takes_body=True,
    takes_key=False,
)
def refresh(body: dict[str, Any]) -> Any:
    """Get new tokens.

    For a refresh token, which ends with it. One that was used before ends the whole login.
    """
    _refuse_without_key()
    used = RefreshToken.parsed(body["refresh_token"])
    if used is None:
        raise _invalid()
    following = RefreshToken.new(used.family)
    now = services().clock.now()
    sessions = services().sessions
    session = sessions.rotate(used.family, used.digest, following.digest, now + REFRESH_LIFETIME, request_deadline())
    account = session and services().accounts.still(session.user_id, session.stamp, request_deadline())
    if session is None or account is None or account.pseudonym is not None or session.expires_at <= now:
        sessions.remove(used.family, request_deadline())
        raise _invalid()
    return _tokens(account, following), 200, NO_STORE


@blueprint.post("/auth/revoke")
@blueprint.arguments(RefreshTokenSchema)
@blueprint.response(204)
@documented(blueprint, "log_out", tag="Tokens", takes_body=True, takes_key=False)
def revoke(body: dict[str, Any]) -> None:
    """Log out.

    Ends a login by any of its refresh tokens. An unknown one is no error (RFC 7009, 2.2).
    """
    if (ended := RefreshToken.parsed(body["refresh_token"])) is not None:
        services().sessions.remove(ended.family, request_deadline())


def _tokens(account: Account, refresh_token: RefreshToken) -> dict[str, Any]:
    return {
        "access_token": authenticator().tokens.issue(account),
        "token_type": "Bearer",
        "expires_in": LIFETIME_S,
        "refresh_token": str(refresh_token),
    }


def _refuse_without_key() -> None:
    if not authenticator().tokens.are_configured:
        raise ApiProblem.named("tokens_not_configured")


def _invalid() -> ApiProblem:
    return ApiProblem.named("invalid_refresh_token", headers={"WWW-Authenticate": auth.CHALLENGE})
