"""Who is calling: HTTP Basic (RFC 7617) or a Bearer token (RFC 6750) in front of the accounts.

A view says who may call it with `@required(Role.ORGANIZER, Role.ADMIN)` and asks `current_caller()` who does. What
a caller may do with the one event or order is said in permissions.py. By which scheme a caller proves who he is
stays in here.

On a public endpoint credentials are optional, but wrong ones are refused (401): nobody who means to be
somebody is served as nobody. A request's credentials are checked once, before its view and before its rate
limit, which counts by user. What a check of a password costs, and whom it lets in, is told at `Authenticator`.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import logging
import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

from flask import Flask, current_app, g, request
from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth, MultiAuth
from werkzeug.datastructures import Authorization
from werkzeug.security import check_password_hash, generate_password_hash

from ..accounts import Accounts
from ..clock import Clock, tries
from ..config import Config
from ..current import asked, facts
from ..domain.accounts import Account
from ..domain.accounts import Role as Role
from ..errors import Overloaded
from ..passwords import normal
from ..services import request_deadline
from .bearer import AccessTokens
from .problems import ApiProblem

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

REALM = "ticketing"
CHALLENGE = f'Basic realm="{REALM}"'
BEARER_CHALLENGE = f'Bearer realm="{REALM}", error="invalid_token"'

HASH_METHOD = "scrypt"
"""As Werkzeug names it: scrypt with N = 2^15, r = 8, p = 1; 32 MiB and 60 to 100 ms a check."""

REMEMBERED_S = 60.0
"""For so long a password that was right is not hashed again, as long as its account is what it was."""

REMEMBERED_MAX = 1024

FAILURES_MAX = 10
FAILURES_WINDOW_S = 60

FAILURE = 1_000_000
"""What a failure adds to the count of an address. An attempt adds 1, so one number, in one step, tells of both."""

EXTENSION = "ticketing.auth"

ERASING_ENDPOINT = "users.remove_me"
"""All that an account may still do while it is being erased: ask for the rest of it."""


@dataclass(frozen=True)
class Caller:
    """Somebody whose credentials were right."""

    user_id: str
    role: Role

    @property
    def is_staff(self) -> bool:
        """Whether the caller runs events, his own or all, and does not only visit them."""
        return self.role in (Role.ORGANIZER, Role.ADMIN)


class AttemptCounter(Protocol):
    """What counts the attempts of a client; see limits.GuardedCounter."""

    def hit_strictly(self, key: str, window_s: int, amount: int = 1) -> tuple[int, float]:
        """Add to the count of `key` and return (count, seconds until it begins at 0 again)."""


class TooManyFailures(Exception):
    """This address gave wrong credentials too often. Nothing was hashed."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Authenticator:
    """Checks passwords and tokens. One for each app; its methods may be called by many threads at once.

    - A check that succeeded is remembered for `REMEMBERED_S`, so that a thousand requests cost one hash. What
      is remembered is an HMAC under a random key of this process, never the password, and it holds while the
      account has the stamp that it had.
    - Whatever is not remembered is hashed, `hashes_max` at a time: scrypt takes 32 MiB each. The same credentials
      are hashed by one thread after the other: the next ones find them remembered when their turn comes. Whoever has
      no turn by his deadline gets `Overloaded`.
    - An unknown user is hashed as well: the time of the answer does not tell who has an account.
    - Each hash takes one of `FAILURES_MAX` attempts of the address beforehand, so that guesses sent all at once are no
      more than others; whatever did not fail gives it back. Where there are none left, but for those of hashes under
      way, one waits for these: to be many is no failure. After `FAILURES_MAX` failures the address is refused, right
      password or wrong; what is remembered passes, from that address too, because it costs nothing and tells nothing.
    """

    def __init__(
        self,
        accounts: Accounts,
        tokens: AccessTokens,
        attempts: AttemptCounter,
        clock: Clock,
        hashes_max: int = 4,
    ) -> None:
        self.accounts = accounts
        self.tokens = tokens
        self._attempts = attempts
        self._clock = clock
        self._nobody = generate_password_hash(secrets.token_urlsafe(), HASH_METHOD)
        self._key = secrets.token_bytes(32)
        self._hashes = threading.BoundedSemaphore(hashes_max)
        # Guards what follows. `_remembered`: fingerprint -> (user id, stamp, end of the time it is remembered),
        # oldest first; readers take no lock, one look-up in a dictionary is atomic. `_turns`: fingerprint -> whose
        # turn it is, and how many want it.
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[str, str, float]] = OrderedDict()
        self._turns: dict[bytes, _Turn] = {}

    def check(self, user_id: str, password: str, address: str, deadline: float) -> Account | None:
        """Whose credentials these are, None when they are wrong.

        `deadline` is a time on the clock's `monotonic()`. Raises TooManyFailures, StorageUnavailable, Overloaded.
        """
        fingerprint = self._fingerprint(user_id, password)
        if account := self._recall(fingerprint, deadline):
            return account
        with self._turn(fingerprint, deadline):
            # Again: the thread before this one may have had the same credentials.
            if account := self._recall(fingerprint, deadline):
                return account
            self._refuse_after_failures(address)  # at once: it costs neither a look nor a wait
            account = self.accounts.fresh(user_id, deadline)
            password_hash = account and account.password_hash or self._nobody
            is_right = self._is_right(password_hash, password, address, deadline)
            if not is_right or account is None:
                log.warning("wrong credentials", extra={"client": address})
                return None
            self._remember(fingerprint, account)
            return account

    def check_token(self, token: str, deadline: float) -> Account | None:
        """Whose access token this is, None when it is none or has ended. Raises StorageUnavailable."""
        holder = self.tokens.read(token)
        return self.accounts.still(*holder, deadline) if holder else None

    def hash(self, password: str, deadline: float) -> str:
        """The hash of a new password, in its turn. Raises Overloaded when that does not come by the deadline."""
        with self._held(self._hashes, deadline):
            return hash_password(password)

    @contextmanager
    def _turn(self, fingerprint: bytes, deadline: float) -> Iterator[None]:
        """Wait for those who came before with the same credentials."""
        with self._lock:
            turn = self._turns.setdefault(fingerprint, _Turn())
            turn.wanted_by += 1
        try:
            with self._held(turn.lock, deadline):
                yield
        finally:
            with self._lock:
                turn.wanted_by -= 1
                if not turn.wanted_by:
                    del self._turns[fingerprint]

    @contextmanager
    def _held(self, place: threading.Lock | threading.Semaphore, deadline: float) -> Iterator[None]:
        if not place.acquire(timeout=max(0.0, deadline - self._clock.monotonic())):
            raise Overloaded
        try:
            yield
        finally:
            place.release()

    def _is_right(self, password_hash: str, password: str, address: str, deadline: float) -> bool:
        for _ in tries(self._clock, deadline):
            # The attempt is taken in the turn: who waits for his turn keeps nobody else of his address waiting.
            with self._held(self._hashes, deadline):
                if self._take_attempt(address):
                    return self._is_attempt_right(password_hash, password, address)
            self._refuse_after_failures(address)
        raise Overloaded

    def _is_attempt_right(self, password_hash: str, password: str, address: str) -> bool:
        is_wrong = False
        try:
            is_wrong = not check_password_hash(password_hash, password)
        finally:  # what breaks off has not failed
            self._count(address, FAILURE if is_wrong else -1)
        return not is_wrong

    def _take_attempt(self, address: str) -> bool:
        count, _ = self._count(address, 1)
        # Rounded, for it may be less than nothing: what was taken in one window is given back in the next.
        is_free = count - FAILURE * round(count / FAILURE) <= FAILURES_MAX
        if not is_free:
            self._count(address, -1)
        return is_free

    def _refuse_after_failures(self, address: str) -> None:
        count, resets_in_s = self._count(address, 0)
        if round(count / FAILURE) >= FAILURES_MAX:
            raise TooManyFailures(resets_in_s)

    def _count(self, address: str, amount: int) -> tuple[int, float]:
        return self._attempts.hit_strictly(_attempts_key(address), FAILURES_WINDOW_S, amount)

    def _fingerprint(self, user_id: str, password: str) -> bytes:
        # The length in front: no other pair of texts makes the same bytes, NUL or not.
        text = f"{len(user_id)}:{user_id}{password}"
        return hmac.digest(self._key, text.encode(), "sha256")

    def _recall(self, fingerprint: bytes, deadline: float) -> Account | None:
        user_id, stamp, until_s = self._remembered.get(fingerprint, ("", "", 0.0))
        return self.accounts.still(user_id, stamp, deadline) if self._clock.monotonic() < until_s else None

    def _remember(self, fingerprint: bytes, account: Account) -> None:
        now_s = self._clock.monotonic()
        with self._lock:
            self._remembered.pop(fingerprint, None)
            while self._remembered and next(iter(self._remembered.values()))[2] <= now_s:
                self._remembered.popitem(last=False)
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.popitem(last=False)
            self._remembered[fingerprint] = (account.user_id, account.stamp, now_s + REMEMBERED_S)


class _Turn:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted_by = 0


def _attempts_key(address: str) -> str:
    return f"checked-credentials/{address}"


def init_auth(
    app: Flask, config: Config, accounts: Accounts, attempts: AttemptCounter, clock: Clock
) -> None:
    """Check the credentials of every request to `app` that brings some.

    Register it before init_limits, which counts by caller.
    """
    if accounts.first_admin is None:
        log.warning(
            "no admin is configured: as long as there are no users, the protected endpoints refuse to work "
            "until BASIC_AUTH_USERNAME and BASIC_AUTH_PASSWORD are set"
        )
    tokens = AccessTokens(config.jwt_secret_key, clock)
    app.extensions[EXTENSION] = Authenticator(accounts, tokens, attempts, clock, config.web_threads)
    app.before_request(_identify)


def hash_password(password: str) -> str:
    """The hash of a password in `normal` form. Takes 0.1 s: a worker asks its Authenticator."""
    return generate_password_hash(password, HASH_METHOD)


def first_admin(config: Config) -> Account | None:
    """The account of the settings, if they have one. Hashes its password (0.1 s).

    All workers give it the same stamp, or a token of one would be worth nothing to the others; and another one when
    the password is changed. It stands in tokens, so it must tell nothing about the password.
    """
    if not (config.basic_auth_username and config.basic_auth_password):
        return None
    user_id, password = normal(config.basic_auth_username), normal(config.basic_auth_password)
    key = (config.jwt_secret_key or secrets.token_hex()).encode()
    stamp = hmac.new(key, f"{user_id}:{password}".encode(), "sha256").hexdigest()[:16]
    return Account(user_id, Role.ADMIN, hash_password(password), stamp)


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
                refuse(HTTPStatus.UNAUTHORIZED)
            if roles and caller.role not in roles:
                refuse(HTTPStatus.FORBIDDEN)
            return view(*args, **kwargs)

        return guarded

    return decorate


def current_caller() -> Caller | None:
    """Return who is calling, None for somebody who gave no credentials."""
    caller: Caller | None = facts().get("caller")
    return caller


def current_account() -> Account:
    """Return the account of the caller, for a view that is `required`."""
    account: Account = g.account
    return account


def is_by_password() -> bool:
    """Whether the caller has given a password, not a token."""
    return _scheme() == "basic"


def is_password_right(user_id: str, password: str) -> bool:
    """Whether a password that came with the request is the user's; a wrong one counts like one in a header.

    Raises `ApiProblem` 429 when there were too many.
    """
    return _verify(user_id, normal(password)) is not None


def authenticator() -> Authenticator:
    """The authenticator of the current app."""
    found: Authenticator = current_app.extensions[EXTENSION]
    return found


def client_address() -> str:
    """Return the address that the request came from, as limits count it.

    An IPv6 address counts by its /64 network: that much is given to one subscriber (RFC 6177), who could
    otherwise take a new address for each request. Behind proxies this is right only by ProxyFix; see
    limits.init_limits.
    """
    address = asked().remote_addr or "unknown"
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

    def is_compatible_auth(self, headers: Any) -> bool:
        """Whether the header says Basic, in any case (RFC 9110, 11.1)."""
        return _scheme() == "basic"

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
        return Authorization("basic", {"username": normal(user_id), "password": normal(password)})


class StrictTokenAuth(HTTPTokenAuth):
    """flask-httpauth's Bearer, with its scheme in any case."""

    def is_compatible_auth(self, headers: Any) -> bool:
        """Whether the header says Bearer."""
        return _scheme() == "bearer"


def _scheme() -> str:
    return request.headers.get("Authorization", "").partition(" ")[0].lower()


def _verify(user_id: str, password: str) -> Account | None:
    if not user_id:
        # This is also what flask-httpauth passes when there are no credentials to be read.
        return None
    try:
        return authenticator().check(user_id, password, client_address(), request_deadline())
    except TooManyFailures as error:
        raise ApiProblem(
            HTTPStatus.TOO_MANY_REQUESTS,
            detail="Too many wrong credentials from this address. Come back after the time in Retry-After.",
            headers={"Retry-After": str(max(1, math.ceil(error.retry_after_s)))},
        ) from None


def _verify_token(token: str | None) -> Account | None:
    return authenticator().check_token(token, request_deadline()) if token else None


def refuse(status: int) -> NoReturn:
    """Raise the problem of a request without the right credentials (401), or with too little right (403)."""
    if not authenticator().accounts.exist(request_deadline()):
        raise ApiProblem.named("authentication_not_configured")
    # RFC 9110, section 15.5.2: a 401 says how to authenticate.
    if status != HTTPStatus.UNAUTHORIZED:
        raise ApiProblem(status)
    challenges = [CHALLENGE, BEARER_CHALLENGE] if _scheme() == "bearer" else [CHALLENGE]
    raise ApiProblem(status, headers={"WWW-Authenticate": challenges})


# How a caller may prove who he is. Stateless: accounts and memory belong to the app that serves the request.
_basic = StrictBasicAuth(realm=REALM)
_basic.verify_password(_verify)
_basic.error_handler(refuse)
_bearer = StrictTokenAuth(realm=REALM)
_bearer.verify_token(_verify_token)
_bearer.error_handler(refuse)
schemes = MultiAuth(_basic, _bearer)


@schemes.login_required
def _account_by_credentials() -> Any:
    return schemes.current_user()


def _identify() -> None:
    """Learn who is calling, before the rate limit and the view. An unknown path stays a 404 for everybody."""
    request, known = asked(), facts()
    known.caller = None
    # Nor does a probe's wrong password make the service look ill.
    if request.endpoint is None or request.blueprint == "service":
        return
    # OPTIONS is answered by Flask, and browsers send it without.
    if "HTTP_AUTHORIZATION" in request.environ and request.method != "OPTIONS":
        account: Account = _account_by_credentials()
        if account.pseudonym is not None and request.endpoint != ERASING_ENDPOINT:
            refuse(HTTPStatus.UNAUTHORIZED)
        known.account = account
        known.caller = Caller(account.user_id, account.role)
