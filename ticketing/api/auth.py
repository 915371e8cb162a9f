"""Who is calling, and what they may do: HTTP Basic (RFC 7617) in front of accounts.

A view says who may call it with `@required(Role.ORGANIZER, Role.ADMIN)` and asks `current_caller()` who does.
Where the accounts are kept and by which scheme a caller proves who he is stays in here: `Accounts` is the
place of the users to come, and `schemes` that of a flask_httpauth.MultiAuth with Bearer tokens.

On a public endpoint credentials are optional, but wrong ones are refused (401): nobody who means to be
somebody is served as nobody. A request's credentials are checked once, before its view and before its rate
limit, which counts by user. What a check costs, and whom it lets in, is told at `Authenticator`.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import logging
import math
import secrets
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from http import HTTPStatus
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

from flask import Flask, current_app, g, request
from flask_httpauth import HTTPBasicAuth
from werkzeug.datastructures import Authorization
from werkzeug.security import check_password_hash, generate_password_hash

from ..clock import Clock
from ..config import Config
from .problems import ApiProblem

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

REALM = "ticketing"
CHALLENGE = f'Basic realm="{REALM}"'

HASH_METHOD = "scrypt"
"""As Werkzeug names it: scrypt with N = 2^15, r = 8, p = 1; 32 MiB and 60 to 100 ms a check."""

REMEMBERED_S = 60.0
"""For so long a changed password or a removed user is still let in by a worker that has just seen it."""

REMEMBERED_MAX = 1024

FAILURES_MAX = 10
FAILURES_WINDOW_S = 60

EXTENSION = "ticketing.auth"


class Role(StrEnum):
    """What an account is for."""

    CUSTOMER = "customer"
    ORGANIZER = "organizer"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """Somebody whose credentials were right."""

    user_id: str
    role: Role

    @property
    def is_staff(self) -> bool:
        """Whether the caller runs events, not only visits them."""
        return self.role in (Role.ORGANIZER, Role.ADMIN)


@dataclass(frozen=True)
class Account:
    """One who may call. `password_hash` is in the form of werkzeug.security."""

    caller: Caller
    password_hash: str


class Accounts(Protocol):
    """Where accounts are found. A dict will do."""

    def get(self, user_id: str, /) -> Account | None:
        """Return the account of a user, None when there is none."""

    def __len__(self) -> int:
        """How many accounts there are: without any, nobody can be asked for credentials."""


class AttemptCounter(Protocol):
    """What counts the attempts of a client; see limits.GuardedCounter."""

    def hit_strictly(self, key: str, window_s: int, amount: int = 1) -> tuple[int, float]:
        """Add to the count of `key` and return (count, seconds until it begins at 0 again)."""


class TooManyFailures(Exception):
    """This address gave wrong credentials too often. Raised before anything is hashed."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Authenticator:
    """Checks a user name and a password. One for each app; its methods may be called by many threads at once.

    - A check that succeeded is remembered for `REMEMBERED_S`, so that a thousand requests cost one hash. What
      is remembered is an HMAC under a random key of this process, never the password.
    - Whatever is not remembered is hashed, one at a time: scrypt takes 32 MiB, and threads that come with the
      same new credentials find them remembered when their turn comes.
    - An unknown user is hashed as well: the time of the answer does not tell who has an account.
    - Each hash takes one of `FAILURES_MAX` attempts of the address, and success gives it back. An address
      without attempts left is refused before the hash, right password or wrong; what is remembered passes,
      from that address too, because it costs nothing and tells nothing.
    """

    def __init__(self, accounts: Accounts, attempts: AttemptCounter, clock: Clock) -> None:
        self.accounts = accounts
        self._attempts = attempts
        self._clock = clock
        self._nobody = generate_password_hash(secrets.token_urlsafe(), HASH_METHOD)
        self._key = secrets.token_bytes(32)
        # Guards the writes to `_remembered`: fingerprint -> (caller, end of the time it is remembered),
        # oldest first. Readers take no lock: one look-up in a dictionary is atomic.
        self._hashing = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def check(self, user_id: str, password: str, address: str) -> Caller | None:
        """Return whose credentials these are, None when they are wrong. Raises TooManyFailures."""
        fingerprint = self._fingerprint(user_id, password)
        if caller := self._recall(fingerprint):
            return caller
        with self._hashing:
            # Again: the thread before this one may have had the same credentials.
            if caller := self._recall(fingerprint):
                return caller
            self._take_attempt(address)
            account = self.accounts.get(user_id)
            password_hash = account.password_hash if account else self._nobody
            if not check_password_hash(password_hash, password) or account is None:
                log.warning("wrong credentials", extra={"client": address})
                return None
            self._give_attempt_back(address)
            self._remember(fingerprint, account.caller)
            return account.caller

    def _take_attempt(self, address: str) -> None:
        count, resets_in_s = self._attempts.hit_strictly(_attempts_key(address), FAILURES_WINDOW_S)
        if count > FAILURES_MAX:
            raise TooManyFailures(resets_in_s)

    def _give_attempt_back(self, address: str) -> None:
        self._attempts.hit_strictly(_attempts_key(address), FAILURES_WINDOW_S, -1)

    def _fingerprint(self, user_id: str, password: str) -> bytes:
        # The length in front: no other pair of texts makes the same bytes, NUL or not.
        text = f"{len(user_id)}:{user_id}{password}"
        return hmac.digest(self._key, text.encode(), "sha256")

    def _recall(self, fingerprint: bytes) -> Caller | None:
        caller, until_s = self._remembered.get(fingerprint, (None, 0.0))
        return caller if self._clock.monotonic() < until_s else None

    def _remember(self, fingerprint: bytes, caller: Caller) -> None:
        now_s = self._clock.monotonic()
        while self._remembered and next(iter(self._remembered.values()))[1] <= now_s:
            self._remembered.popitem(last=False)
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        self._remembered[fingerprint] = (caller, now_s + REMEMBERED_S)


def _attempts_key(address: str) -> str:
    return f"wrong-credentials/{address}"


def init_auth(app: Flask, config: Config, attempts: AttemptCounter, clock: Clock) -> None:
    """Check the credentials of every request to `app` that brings some.

    Register it before init_limits, which counts by caller. Hashes the password of the first admin (0.1 s).
    Without that password the protected endpoints refuse to work, and the log says why.
    """
    accounts = _first_admin(config)
    if not accounts:
        log.warning(
            "no admin is configured: the protected endpoints refuse to work "
            "until BASIC_AUTH_USERNAME and BASIC_AUTH_PASSWORD are set"
        )
    app.extensions[EXTENSION] = Authenticator(accounts, attempts, clock)
    app.before_request(_identify)


def _first_admin(config: Config) -> dict[str, Account]:
    if not (config.basic_auth_username and config.basic_auth_password):
        return {}
    user_id = _normal(config.basic_auth_username)
    password_hash = generate_password_hash(_normal(config.basic_auth_password), HASH_METHOD)
    return {user_id: Account(Caller(user_id, Role.ADMIN), password_hash)}


def required(*roles: Role) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a view that wants a caller with one of `roles`; without roles, any caller.

    The view then answers 401 without credentials, 403 when the caller has another role, and 403
    `authentication_not_configured` when there are no accounts at all.
    """

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            caller = current_caller()
            if caller is None:
                _refuse(HTTPStatus.UNAUTHORIZED)
            if roles and caller.role not in roles:
                _refuse(HTTPStatus.FORBIDDEN)
            return view(*args, **kwargs)

        return guarded

    return decorate


def current_caller() -> Caller | None:
    """Return who is calling, None for somebody who gave no credentials."""
    caller: Caller | None = g.get("caller")
    return caller


def client_address() -> str:
    """Return the address that the request came from, as limits count it.

    An IPv6 address counts by its /64 network: that much is given to one subscriber (RFC 6177), who could
    otherwise take a new address for each request. Behind proxies this is right only by ProxyFix; see
    limits.init_limits.
    """
    address = request.remote_addr or "unknown"
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


class StrictBasicAuth(HTTPBasicAuth):
    """flask-httpauth's Basic, strict about the header.

    The library's own parser takes any scheme for Basic, skips what is not Base64, and reads as Latin-1 what
    is not UTF-8. Here all of these are no credentials at all.
    """

    def get_auth(self) -> Authorization | None:
        """Return user name and password of the request, None when the header has no such thing (RFC 7617,
        2)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            credentials = base64.b64decode(token.strip(), validate=True).decode()
        except ValueError:
            return None
        user_id, colon, password = credentials.partition(":")
        if not colon:
            return None
        return Authorization("basic", {"username": _normal(user_id), "password": _normal(password)})


def _verify(user_id: str, password: str) -> Caller | None:
    if not user_id:
        # This is also what flask-httpauth passes when there are no credentials to be read.
        return None
    try:
        return _authenticator().check(user_id, password, client_address())
    except TooManyFailures as error:
        raise ApiProblem(
            HTTPStatus.TOO_MANY_REQUESTS,
            detail="Too many wrong credentials from this address. Come back after the time in Retry-After.",
            headers={"Retry-After": str(max(1, math.ceil(error.retry_after_s)))},
        ) from None


def _refuse(status: int) -> NoReturn:
    """Raise the problem of a request without the right credentials (401), or with too little right (403)."""
    if not len(_authenticator().accounts):
        raise ApiProblem(
            HTTPStatus.FORBIDDEN,
            "authentication_not_configured",
            "This service has no users. Its operator must set BASIC_AUTH_USERNAME and BASIC_AUTH_PASSWORD.",
        )
    # RFC 9110, section 15.5.2: a 401 says how to authenticate.
    headers = {"WWW-Authenticate": CHALLENGE} if status == HTTPStatus.UNAUTHORIZED else {}
    raise ApiProblem(status, headers=headers)


# How a caller may prove who he is. Stateless: accounts and memory belong to the app that serves the request.
schemes = StrictBasicAuth(realm=REALM)
schemes.verify_password(_verify)
schemes.error_handler(_refuse)


@schemes.login_required
def _caller_by_credentials() -> Any:
    return schemes.current_user()


def _identify() -> None:
    """Learn who is calling, before the rate limit and the view. An unknown path stays a 404 for everybody."""
    g.caller = None
    # Nor does a probe's wrong password make the service look ill.
    if request.endpoint is None or request.blueprint == "service":
        return
    if "Authorization" in request.headers:
        g.caller = _caller_by_credentials()


def _authenticator() -> Authenticator:
    authenticator: Authenticator = current_app.extensions[EXTENSION]
    return authenticator


def _normal(text: str) -> str:
    """Return the one form of texts that look alike to people: NFC, as RFC 8265 has it for passwords."""
    return unicodedata.normalize("NFC", text)
