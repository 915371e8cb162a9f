"""The settings: read once from the environment and `.env`, checked all together, then frozen.

Each field of `Config` carries its row of the table of settings: the variable's name is the field's in
capitals, its default is the field's, and the metadata say what it means, what is allowed and whether its
value may be shown. `.env.example` and the README repeat that table for people; a test compares the three.

This module is the only one in the package that reads settings from the environment. What the service's own processes
leave for each other there is no setting: `metrics.py` reads where workers count, `listeners.py` where gunicorn says
that it listens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

import limits
from environs import Env, EnvValidationError, ValidationError, validate
from pymongo import uri_parser
from pymongo.errors import PyMongoError

from ticketing.errors import ConfigError

SECRET_PLACEHOLDER = "change-me"
"""What `.env.example` has in the place of each secret. Not accepted as a value."""

PASSWORD_LENGTH_GOOD = 12

REQUEST_DEADLINE_S_MAX = 6.5
"""An answer is promised within 10 s: this, the 3 s of a probe (manager.py), and the answer's own way."""

ORIGIN_PATTERN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")

RATELIMIT_STORAGE_SCHEMES = ("memory", "redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster")


def _setting(
    default: Any,
    meaning: str,
    allowed: str,
    check: Callable[[Any], Any] = lambda value: None,
    *,
    secret: bool = False,
) -> Any:
    """Return a dataclass field that is a row of the table of settings. `check` raises ValidationError."""
    metadata = {"meaning": meaning, "allowed": allowed, "check": check, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


def _is_mongodb_uri(value: str) -> None:
    """Check the form only: for mongodb+srv, pymongo's own parsing would ask the DNS."""
    scheme, separator, rest = value.partition("://")
    if scheme not in ("mongodb", "mongodb+srv") or not separator:
        raise ValidationError("scheme")
    try:
        parsed = uri_parser.parse_uri(f"mongodb://{rest}")
    except (PyMongoError, ValueError, OSError):  # OSError: a tlsCAFile that cannot be read
        # `from None`: pymongo's message quotes the parts of the URI, and one of them may be the password.
        raise ValidationError("form") from None
    if scheme == "mongodb+srv" and (len(parsed["nodelist"]) != 1 or parsed["nodelist"][0][1] != 27017):
        raise ValidationError("srv")


def _is_database_name(value: str) -> None:
    if not 0 < len(value.encode()) < 64 or any(character in '/\\. "$*<>:|?\0' for character in value):
        raise ValidationError("name")


def _is_rate_limit(value: str) -> None:
    try:
        parsed = limits.parse_many(value)
    except ValueError:
        raise ValidationError("limit") from None
    if any(limit.amount < 1 for limit in parsed):
        raise ValidationError("limit")


def _is_ratelimit_storage_uri(value: str) -> None:
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValidationError("form") from None
    if parts.scheme not in RATELIMIT_STORAGE_SCHEMES or "://" not in value or not port_is_valid:
        raise ValidationError("scheme")
    if parts.scheme != "memory" and not (parts.netloc or parts.path):
        raise ValidationError("host")


def _is_host(value: str) -> None:
    if any(character.isspace() or character in "/@[]" for character in value):
        raise ValidationError("host")


def _are_origins(value: str) -> None:
    # RFC 6454, section 6.2: as a browser sends it.
    if not all(ORIGIN_PATTERN.fullmatch(origin) for origin in value.split(",")):
        raise ValidationError("origin")


def _is_one_of(*names: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value.lower() not in names:
            raise ValidationError("choice")

    return check


def _is_password(value: str) -> None:
    if value == SECRET_PLACEHOLDER:
        raise ValidationError("placeholder")


def _is_username(value: str) -> None:
    # RFC 7617, section 2: everything up to the first colon is the user.
    if ":" in value or not value.isprintable():
        raise ValidationError("username")


def _is_jwt_key(value: str) -> None:
    # RFC 7518, section 3.2: a key for HS256 has 256 bits or more.
    if len(value.encode()) < 32:
        raise ValidationError("length")


@dataclass(frozen=True)
class Config:
    """All settings of one process. Made by `from_env`; tests may make one directly, unchecked.

    Times are in seconds. Secrets, and URIs that may hold a password, are left out of `repr`.
    """

    mongodb_uri: str | None = _setting(
        None,
        "the MongoDB to use; without it the service starts a `mongod` of its own, data under `DATA_DIR`",
        "a mongodb:// or mongodb+srv:// URI with user name and password percent-encoded",
        _is_mongodb_uri,
        secret=True,
    )
    mongodb_database: str = _setting(
        "ticketing",
        "the database in it",
        'up to 63 bytes, none of / \\ . " $ * < > : | ? or a space',
        _is_database_name,
    )
    basic_auth_username: str | None = _setting(
        None, "the first admin", "a name without a colon or control characters", _is_username
    )
    basic_auth_password: str | None = _setting(
        None,
        "the first admin's password; without it the protected endpoints refuse to work",
        f'any text but the placeholder "{SECRET_PLACEHOLDER}"',
        _is_password,
        secret=True,
    )
    jwt_secret_key: str | None = _setting(
        None, "signs the access tokens", "32 bytes or more, kept secret", _is_jwt_key, secret=True
    )
    registration: str = _setting(
        "open", "who may make accounts: `open` to all, or `admins` only", "open or admins", _is_one_of("open", "admins")
    )
    booking_requires_login: bool = _setting(
        False, "whether bookings need credentials", "true or false"
    )
    ratelimit_enabled: bool = _setting(True, "whether requests are limited", "true or false")
    ratelimit_default: str = _setting(
        "1200/minute",
        "requests a client may make",
        'limits like "240/minute" or "10/second;240/minute"',
        _is_rate_limit,
    )
    ratelimit_book: str = _setting(
        "240/minute",
        "bookings a client may ask for",
        'limits like "240/minute" or "10/second;240/minute"',
        _is_rate_limit,
    )
    ratelimit_auth: str = _setting(
        "30/minute",
        "registrations and logins a client may ask for",
        'limits like "240/minute" or "10/second;240/minute"',
        _is_rate_limit,
    )
    ratelimit_storage_uri: str = _setting(
        "memory://",
        "where requests are counted: `memory://` counts in each worker, `redis://host:6379` for all together",
        "a URI that begins with " + ", ".join(f"{scheme}://" for scheme in RATELIMIT_STORAGE_SCHEMES),
        _is_ratelimit_storage_uri,
        secret=True,
    )
    host: str = _setting("127.0.0.1", "the address to listen on", "a host name or an IP address", _is_host)
    port: int = _setting(
        8000, "the port to listen on", "a whole number from 1 to 65535", validate.Range(1, 65535)
    )
    web_concurrency: int = _setting(
        2, "worker processes", "a whole number from 1 to 256", validate.Range(1, 256)
    )
    web_threads: int = _setting(
        4,
        "system threads in each, which check passwords; connections need none",
        "a whole number from 1 to 512",
        validate.Range(1, 512),
    )
    trusted_proxies: int = _setting(
        0, "how many proxies stand in front", "a whole number from 0 to 16", validate.Range(0, 16)
    )
    cors_origins: str | None = _setting(
        None,
        "whose pages may call the service from a browser: origins, separated by commas; without it none",
        "origins like https://tickets.example.com,https://example.org, without a path",
        _are_origins,
    )
    request_deadline_s: float = _setting(
        6.0,
        "seconds until a request that waits for MongoDB is answered with 503",
        f"a number above 0, {REQUEST_DEADLINE_S_MAX} at most",
        validate.Range(0, REQUEST_DEADLINE_S_MAX, min_inclusive=False),
    )
    state_orders_max: int = _setting(
        1_000_000,
        "orders a worker keeps in memory, over all events",
        "a whole number, 1 or more",
        validate.Range(1),
    )
    requests_max: int = _setting(
        1000,
        "requests that a worker has under way at once; the next ones get 503",
        "a whole number, 1 or more",
        validate.Range(1),
    )
    queue_length_max: int = _setting(
        800,
        "how many of them may wait for one event",
        "a whole number, 1 or more",
        validate.Range(1),
    )
    change_waiters_max: int = _setting(
        500,
        "how many requests of a worker may wait for changes; the next ones get 503",
        "a whole number, 1 or more",
        validate.Range(1),
    )
    webhooks_allow_private: bool = _setting(
        False,
        "whether webhooks may lead to private addresses and to http:// URLs",
        "true or false",
    )
    log_level: str = _setting(
        "info",
        "how much is logged",
        "debug, info, warning or error",
        _is_one_of("debug", "info", "warning", "error"),
    )
    log_format: str = _setting(
        "auto",
        "`json`, `console`, or `auto`: console on a terminal, else JSON",
        "auto, json or console",
        _is_one_of("auto", "json", "console"),
    )
    data_dir: str = _setting("var", "the folder of the embedded mongod's data, of locks and logs", "a path")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, dotenv_path: str | None = ".env") -> Config:
        """Read and check every setting; real environment variables win over the file `dotenv_path`.

        A missing file is no error. Raises ConfigError, whose message names all wrong variables, a line each.
        """
        env = _Environment(os.environ if environ is None else environ)
        _read_dotenv(env, dotenv_path)
        values = {setting.name: _read(env, setting) for setting in fields(cls)}
        try:
            env.seal()
        except EnvValidationError as error:
            wrong = [setting for setting in fields(cls) if variable(setting) in error.error_messages]
            raise ConfigError("\n".join(_complaint(env, setting) for setting in wrong)) from None
        if values["basic_auth_password"] and not values["basic_auth_username"]:
            raise ConfigError("BASIC_AUTH_PASSWORD is set and BASIC_AUTH_USERNAME is not: set both.")
        for choice in ("registration", "log_level", "log_format"):
            values[choice] = values[choice].lower()
        return cls(**values)

    @property
    def bind_address(self) -> str:
        """HOST:PORT, with the brackets of RFC 3986 around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def notes(self) -> list[str]:
        """Return what the operator should know about settings that are allowed but may surprise."""
        notes = []
        if self.basic_auth_password and len(self.basic_auth_password) < PASSWORD_LENGTH_GOOD:
            notes.append(f"BASIC_AUTH_PASSWORD has less than {PASSWORD_LENGTH_GOOD} characters.")
        if self.ratelimit_enabled and self.web_concurrency > 1 and self._counts_in_memory:
            notes.append(
                f"Each of the {self.web_concurrency} workers counts rate limits for itself, so that a client "
                "may do that many times as much: set RATELIMIT_STORAGE_URI=redis://... to count together."
            )
        return notes

    @property
    def _counts_in_memory(self) -> bool:
        return self.ratelimit_storage_uri.startswith("memory:")


def variable(setting: Field[Any]) -> str:
    """Return the environment variable of a field of `Config`."""
    return setting.name.upper()


class _Environment(Env):
    """environs' reader over a given mapping, so that tests need not change the environment of the process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(eager=False)
        self.given = environ

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self.given.get(env_key, self._environ.get(env_key, default))


def _read_dotenv(env: _Environment, dotenv_path: str | None) -> None:
    if dotenv_path is None:
        return
    try:
        env.read_env(dotenv_path, recurse=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{dotenv_path} cannot be read as a file of settings: {error}") from error


def _read(env: _Environment, setting: Field[Any]) -> Any:
    """Read one setting by the type of its annotation. What is wrong is kept in `env` until it is sealed."""
    readers: dict[str, Callable[..., Any]] = {"bool": env.bool, "int": env.int, "float": env.float}
    read = readers.get(str(setting.type), env.str)
    return read(variable(setting), setting.default, validate=[_is_not_empty, setting.metadata["check"]])


def _is_not_empty(value: Any) -> None:
    # An empty value is what a failed substitution leaves behind: it must not pass as "not set".
    if value == "":
        raise ValidationError("empty")


def _complaint(env: _Environment, setting: Field[Any]) -> str:
    """Say which variable is wrong, what it was (never of a secret) and what is allowed."""
    name = variable(setting)
    value = env._get_value(name, "")
    if not value:
        was = "is empty"
    elif setting.metadata["secret"]:
        was = "is still the placeholder" if value == SECRET_PLACEHOLDER else "is wrong (not shown here)"
    else:
        was = f"is {value!r}"
    return f"{name} {was}; allowed: {setting.metadata['allowed']}."
