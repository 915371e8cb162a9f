"""Logging: one JSON line a record on stderr, or lines for people when stderr is a terminal.

The standard library does it all: a formatter for each of the two forms, one handler at the root, and a
request's id in every record that is written while the request is served. What `extra={...}` brings stands in
the line under its name.

No secret is ever passed to a log call. As the last defence every text is searched for the passwords of URIs
and for the secrets among the settings, and those are replaced before the line is written.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import fields
from typing import IO, Any

from flask import Flask, Response, g, has_app_context

from .clock import Clock
from .config import Config
from .current import asked, facts

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"
REQUEST_ID_PATTERN = re.compile(r"[!-~]{1,128}")
"""Visible ASCII only: the id is written to logs and sent back in a header."""

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by whoever watches the service: logged at debug."""

SECRET_LENGTH_MIN = 6
"""Shorter secrets are not searched for: they would be found inside ordinary words, and so be told apart."""

REDACTED = "***"

# Loggers that say too much at the level of the rest: pymongo tells every command at debug, and flask-limiter
# every refused request at info, which the request's own line says already.
LEVELS_MIN: Mapping[str, int] = {"pymongo": logging.INFO, "flask-limiter": logging.WARNING}

# Loggers that come with handlers of their own.
ADOPTED_LOGGERS = ("gunicorn.error", "gunicorn.access")

# What a record has without any `extra`.
RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

# What each line has, and no `extra` replaces.
LINE_PARTS = frozenset({"time", "level", "logger", "message"})

# The user may be missing. The greedy end takes an "@" inside a password with it.
URI_PASSWORD = re.compile(r"(://[^\s/:@]*:)\S*@")


class ServiceHandler(logging.StreamHandler[Any]):
    """The one handler of the service: a class of its own, so that a second configuration finds the first."""

    def write_line(self, line: str) -> None:
        """Write a line that is made already."""
        self.stream.write(line + self.terminator)
        self.stream.flush()


def configure_logging(config: Config, stream: IO[str] | None = None) -> None:
    """Send the records of all loggers to `stream` (stderr), in the form that LOG_FORMAT asks for.

    For the whole process. Calling it again replaces what the last call did, and leaves handlers of others
    alone.
    """
    stream = stream or sys.stderr
    redact = Redactor(config)
    as_json = config.log_format == "json" or (config.log_format == "auto" and not stream.isatty())
    handler = ServiceHandler(stream)
    handler.setFormatter(JsonFormatter(redact) if as_json else ConsoleFormatter(redact))
    root = logging.getLogger()
    for former in [each for each in root.handlers if isinstance(each, ServiceHandler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(config.log_level.upper())
    for name, level_min in LEVELS_MIN.items():
        logging.getLogger(name).setLevel(max(level_min, root.level))
    for name in ADOPTED_LOGGERS:
        adopted = logging.getLogger(name)
        adopted.handlers.clear()
        adopted.propagate = True


def init_request_logging(app: Flask, clock: Clock) -> None:
    """Give each request an id and each answer a log line.

    Register it before all other hooks of `app`: its first hook must run first and its last hook last. The id
    is the client's `X-Request-ID` when that is 1 to 128 visible ASCII characters, else a new one; it is
    `g.request_id` and goes back with every answer. The line's `user` is the `user_id` of `g.caller`, null
    without one.
    """

    def begin() -> None:
        known = facts()
        known.request_begun_s = clock.monotonic()
        known.request_id = _request_id(asked().environ.get("HTTP_X_REQUEST_ID"))

    def end(response: Response) -> Response:
        known, request = facts(), asked()
        response.headers.add(REQUEST_ID_HEADER, known.request_id)
        level = logging.DEBUG if request.path in QUIET_PATHS else logging.INFO
        if log.isEnabledFor(level):
            duration_s = clock.monotonic() - known.request_begun_s
            _log_request(
                level,
                {
                    "method": request.method,
                    "path": request.path,  # alone: a query string may hold what does not belong in a log
                    "status": response.status_code,
                    "duration_ms": round(duration_s * 1000, 3),
                    "user": getattr(known.get("caller"), "user_id", None),
                    "request_id": known.request_id,
                },
            )
        return response

    app.before_request(begin)
    app.after_request(end)


def leave_out(waited_s: float) -> None:
    """Do not count so long in the duration of the current request: it waited because its client wished so."""
    g.request_begun_s += waited_s


def new_request_id() -> str:
    """Return an id for a request that brought none."""
    return secrets.token_hex(16)


def _request_id(given: str | None) -> str:
    if given is not None and REQUEST_ID_PATTERN.fullmatch(given):
        return given
    return new_request_id()


def _log_request(level: int, about: dict[str, Any]) -> None:
    """As `log.log` does it, which takes most of its time for a record: where nobody else wants one, none is made."""
    handlers = logging.getLogger().handlers
    only = handlers[0] if len(handlers) == 1 else None
    if isinstance(only, ServiceHandler) and isinstance(only.formatter, JsonFormatter):
        only.write_line(only.formatter.line(time.time(), level, log.name, "request", about))
    else:
        log.log(level, "request", extra=about)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, the extras, request_id, exception."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact
        self._encode = json.JSONEncoder(ensure_ascii=False, default=redact).encode
        self._second = (0, "")  # the latest, and how it is written

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        more = {name: value for name, value in _extras(record).items() if name not in LINE_PARTS}
        if trace := _trace(record):
            more["exception"] = trace
        return self.line(record.created, record.levelno, record.name, record.getMessage(), more)

    def line(self, created_s: float, level: int, logger: str, message: str, more: Mapping[str, Any]) -> str:
        """Return the line that says so, without its end. Values that JSON does not know are written as their `str`."""
        line = {
            "time": self._time(created_s),
            "level": logging.getLevelName(level).lower(),
            "logger": logger,
            "message": message,
            **more,
        }
        try:
            text = self._encode(line)
        except TypeError:  # names that are no texts
            text = ""
        # One line in a million has something to hide: to look at all of it at once costs least.
        return text if text and self._redact.passes(text) else self._encode(self._redact(line))

    def _time(self, created_s: float) -> str:
        """RFC 3339 in UTC."""
        second = int(created_s)
        if self._second[0] != second:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int(1000 * (created_s - second)):03d}Z"


class ConsoleFormatter(logging.Formatter):
    """A record for people: time, level, logger, message, the extras as name=value, a traceback below."""

    default_time_format = "%H:%M:%S"
    default_msec_format = "%s.%03d"

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines. Values are JSON in ASCII: no path can move the terminal's cursor."""
        message = self._redact(record.getMessage())
        line = f"{self.formatTime(record)} {record.levelname:<8} {record.name}: {message}"
        for name, value in _extras(record).items():
            line += f" {name}={json.dumps(self._redact(value))}"
        if trace := _trace(record):
            line += "\n" + self._redact(trace)
        return line


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the log call brought, and the id of the request that is being served."""
    extras = {name: value for name, value in record.__dict__.items() if name not in RECORD_ATTRIBUTES}
    if has_app_context() and "request_id" in g:
        extras["request_id"] = g.request_id
    return extras


def _trace(record: logging.LogRecord) -> str:
    """Return the traceback and the stack of the record, an empty text when it has neither."""
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts += traceback.format_exception(record.exc_info[1])
    if record.stack_info:
        parts.append(record.stack_info)
    return "".join(parts).rstrip("\n")


class Redactor:
    """Takes a value to log and returns it as JSON can hold it, without secrets.

    Secrets are the values of the settings that are marked so, and the password of any URI.
    """

    def __init__(self, config: Config) -> None:
        settings = [getattr(config, each.name) for each in fields(config) if each.metadata["secret"]]
        # URIs among the settings are dealt with as URIs, which leaves their host in the line. The longest first:
        # one secret may begin with another.
        literal = [text for text in settings if text and len(text) >= SECRET_LENGTH_MIN and "://" not in text]
        self._literal = sorted(literal, key=len, reverse=True)
        self._suspicious = ["://", *literal, *(json.dumps(text, ensure_ascii=False)[1:-1] for text in literal)]

    def passes(self, line: str) -> bool:
        """Whether there is nothing to redact in a line of JSON."""
        return not any(text in line for text in self._suspicious)

    def __call__(self, value: Any) -> Any:
        """The value without secrets."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self(str(name)): self(item) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self(item) for item in value]
        text = str(value)
        if "://" in text:
            text = URI_PASSWORD.sub(rf"\1{REDACTED}@", text)
        for secret in self._literal:
            text = text.replace(secret, REDACTED)
        return text
