"""The log: its lines, the id of a request in them, and what never stands there."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ticketing import logs
from ticketing.config import Config
from ticketing.logs import Redactor, ServiceHandler, configure_logging

from .conftest import SteppingClock
from .scratch import make_app

ADMIN = ("admin", "correct horse battery staple")
CONFIG = Config(
    basic_auth_username=ADMIN[0],
    basic_auth_password=ADMIN[1],
    jwt_secret_key="0123456789abcdef0123456789abcdef",
    ratelimit_enabled=False,
    log_format="json",
)
NEW_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
LOGGERS = ("", "pymongo", "flask-limiter", *logs.ADOPTED_LOGGERS)

log = logging.getLogger("tests.logs")


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Logging belongs to the process: what a test configures is taken back."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for each, level, handlers, propagate in before:
        each.setLevel(level)
        each.handlers[:] = handlers
        each.propagate = propagate


@pytest.fixture
def stream() -> io.StringIO:
    """What is logged, as JSON."""
    stream = io.StringIO()
    configure_logging(CONFIG, stream)
    return stream


@pytest.fixture
def app(stream: io.StringIO) -> Flask:
    """A small app whose log goes to `stream`."""
    return make_app(CONFIG, SteppingClock())


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the app."""
    return app.test_client()


def configured(stream: io.StringIO, **settings: Any) -> io.StringIO:
    """`stream`, after logging was configured to go there."""
    configure_logging(Config(**settings), stream)
    return stream


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was logged: each line is one JSON value."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def request_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines that stand for a request each."""
    return [line for line in lines_of(stream) if line["message"] == "request"]


class TestForm:
    """The two forms of a line."""

    def test_json(self, stream: io.StringIO) -> None:
        """A record is one line of JSON with time, level, logger and message."""
        before = datetime.now(UTC)
        log.info("sold %d", 3)
        [line] = lines_of(stream)
        time = line.pop("time")
        assert line == {"level": "info", "logger": "tests.logs", "message": "sold 3"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
        assert abs((datetime.fromisoformat(time) - before).total_seconds()) < 60

    def test_extras(self, stream: io.StringIO) -> None:
        """What `extra` brings stands in the line under its name, of whatever type it is."""

        class Odd:
            def __str__(self) -> str:
                return "odd"

        extra = {"n": 1, "x": 0.5, "yes": True, "no": None, "list": [1, Odd()], "map": {1: "ä"}, "odd": Odd()}
        log.info("extras", extra=extra)
        [line] = lines_of(stream)
        assert {name: line[name] for name in extra} == {
            **{"n": 1, "x": 0.5, "yes": True, "no": None},
            **{"list": [1, "odd"], "map": {"1": "ä"}, "odd": "odd"},
        }

    def test_extras_replace_nothing(self, stream: io.StringIO) -> None:
        """An extra named like a part of the line does not replace it."""
        log.info("told", extra={"level": "none", "logger": "nobody", "time": "never"})
        [line] = lines_of(stream)
        assert (line["level"], line["logger"]) == ("info", "tests.logs") and line["time"] != "never"

    def test_one_line(self, stream: io.StringIO) -> None:
        """Line breaks in a value do not break the line: nobody forges another."""
        log.info("first\n{}", extra={"path": "/a\r\n\u2028{}"})
        [line] = stream.getvalue().split("\n")[:-1]
        assert json.loads(line)["path"] == "/a\r\n\u2028{}"

    def test_exception(self, stream: io.StringIO) -> None:
        """The traceback of an exception, with its causes, is in the same line."""
        try:
            try:
                raise ValueError("inner")
            except ValueError as error:
                raise RuntimeError("outer") from error
        except RuntimeError as error:
            log.exception("failed")
            log.error("failed", exc_info=error)
        for line in lines_of(stream):
            assert line["exception"].startswith("Traceback")
            assert "ValueError: inner" in line["exception"]
            assert line["exception"].endswith("RuntimeError: outer")

    def test_stack(self, stream: io.StringIO) -> None:
        """So is a stack that was asked for; an exception that is none adds nothing."""
        log.info("here", stack_info=True)
        log.info("there", exc_info=(None, None, None))
        here, there = lines_of(stream)
        assert "test_stack" in here["exception"]
        assert "exception" not in there

    def test_console(self) -> None:
        """For people: time, level, logger, message, name=value, a traceback below."""
        stream = configured(io.StringIO(), log_format="console")
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("failed", extra={"path": "/a\x1b[2J\n", "n": 1})
        first, *trace = stream.getvalue().splitlines()
        assert re.fullmatch(
            r'\d\d:\d\d:\d\d\.\d{3} ERROR    tests\.logs: failed path="/a\\u001b\[2J\\n" n=1', first
        )
        assert trace[0].startswith("Traceback") and trace[-1] == "ValueError: no"

    def test_console_plain(self) -> None:
        """Without extras and exceptions a line ends with its message."""
        stream = configured(io.StringIO(), log_format="console")
        log.info("sold out")
        assert stream.getvalue().endswith("INFO     tests.logs: sold out\n")

    @pytest.mark.parametrize(
        ("log_format", "stream", "is_json"),
        [
            ("auto", io.StringIO(), True),
            ("auto", Terminal(), False),
            ("json", Terminal(), True),
            ("console", io.StringIO(), False),
        ],
    )
    def test_choice(self, log_format: str, stream: io.StringIO, is_json: bool) -> None:
        """`auto` is for people on a terminal and JSON elsewhere; the other two are what they say."""
        configured(stream, log_format=log_format)
        log.info("hello")
        assert stream.getvalue().startswith("{") == is_json


class TestConfiguration:
    """Whose records go where."""

    def test_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Unless told otherwise, to stderr; stdout stays empty."""
        configure_logging(CONFIG)
        log.info("hello")
        out, err = capsys.readouterr()
        assert out == "" and json.loads(err)["message"] == "hello"

    def test_level(self) -> None:
        """LOG_LEVEL holds for everybody."""
        stream = configured(io.StringIO(), log_level="warning")
        log.info("no")
        log.warning("yes")
        logging.getLogger("pymongo").info("no")
        assert [line["message"] for line in lines_of(stream)] == ["yes"]

    def test_talkative_ones(self) -> None:
        """At debug, pymongo's commands and flask-limiter's refusals stay out."""
        stream = configured(io.StringIO(), log_level="debug")
        log.debug("yes")
        logging.getLogger("pymongo.command").debug("no")
        logging.getLogger("flask-limiter").info("no")
        assert [line["message"] for line in lines_of(stream)] == ["yes"]

    def test_again(self) -> None:
        """Configured again, nothing is written twice, and handlers of others stay."""
        other = logging.NullHandler()
        logging.getLogger().addHandler(other)
        former, latter = configured(io.StringIO()), configured(io.StringIO())
        log.info("once")
        assert former.getvalue() == "" and len(lines_of(latter)) == 1
        handlers = logging.getLogger().handlers
        assert other in handlers
        assert len([each for each in handlers if isinstance(each, ServiceHandler)]) == 1

    def test_gunicorn(self) -> None:
        """gunicorn's own handlers give way: its lines look like the others, and come once."""
        own = io.StringIO()
        gunicorn = logging.getLogger("gunicorn.error")
        gunicorn.addHandler(logging.StreamHandler(own))
        gunicorn.propagate = False
        stream = configured(io.StringIO())
        gunicorn.info("Booting worker")
        assert own.getvalue() == ""
        assert [line["message"] for line in lines_of(stream)] == ["Booting worker"]


class TestRequests:
    """One line a request."""

    def test_line(self, client: FlaskClient, stream: io.StringIO) -> None:
        """It tells method, path, status, duration, request id and user."""
        answer = client.post("/book", auth=ADMIN)
        [line] = request_lines(stream)
        duration_ms = line.pop("duration_ms")
        line.pop("time")
        assert line == {
            "level": "info",
            "logger": "ticketing.logs",
            "message": "request",
            "method": "POST",
            "path": "/book",
            "status": 200,
            "user": "admin",
            "request_id": answer.headers["X-Request-ID"],
        }
        assert duration_ms >= 0

    def test_line_alone(self, client: FlaskClient, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody else listens no record is made, and the line is the same."""
        root = logging.getLogger()
        with_record, own = io.StringIO(), [each for each in root.handlers if isinstance(each, ServiceHandler)]
        asked = {"path": "/open", "auth": ADMIN, "headers": {"X-Request-ID": "one"}}
        client.get(**asked)
        with_record.write(stream.getvalue())
        stream.truncate(stream.seek(0))
        root.handlers[:] = own
        monkeypatch.setattr(logging.Logger, "makeRecord", None)
        client.get(**asked)
        [line], [expected] = request_lines(stream), request_lines(with_record)
        assert line.keys() == expected.keys()
        assert {**line, "time": 0} == {**expected, "time": 0}

    def test_duration(self, stream: io.StringIO) -> None:
        """The duration is in milliseconds, by the clock that never goes back."""
        clock = SteppingClock()
        app = make_app(CONFIG, clock)
        app.before_request(lambda: clock.sleep(0.0125))
        app.test_client().get("/open")
        assert request_lines(stream)[0]["duration_ms"] == 12.5

    @pytest.mark.parametrize(
        ("path", "auth", "status"),
        [
            ("/nothing", None, 404),
            ("/book", None, 405),
            ("/staff", None, 401),
            ("/open", ("admin", "x"), 401),
        ],
    )
    def test_errors(
        self, client: FlaskClient, stream: io.StringIO, path: str, auth: tuple[str, str] | None, status: int
    ) -> None:
        """An error is a request as well, with an id and without a user."""
        answer = client.get(path, auth=auth)
        [line] = request_lines(stream)
        assert (line["status"], line["user"], line["path"]) == (status, None, path)
        assert line["request_id"] == answer.headers["X-Request-ID"]

    def test_failure(self, client: FlaskClient, stream: io.StringIO) -> None:
        """A bug is a line with the traceback and the request's id, then comes the request's line."""
        answer = client.get("/fails")
        failure, line = lines_of(stream)
        assert failure["request_id"] == line["request_id"] == answer.headers["X-Request-ID"]
        assert "RuntimeError" in failure["exception"] and failure["level"] == "error"
        assert line["status"] == 500
        assert "RuntimeError" not in answer.text and "mongodb" not in answer.text

    def test_health(self, client: FlaskClient, stream: io.StringIO) -> None:
        """Health is asked all the time: told at debug only, with the id in the answer as everywhere."""
        assert client.get("/healthz").headers["X-Request-ID"]
        assert request_lines(stream) == []
        logging.getLogger().setLevel(logging.DEBUG)
        client.get("/healthz")
        assert [line["level"] for line in request_lines(stream)] == ["debug"]

    @pytest.mark.parametrize("given", ["a", "01HZX~!", "x" * 128])
    def test_id_taken(self, client: FlaskClient, stream: io.StringIO, given: str) -> None:
        """A client's own id is kept when it is 1 to 128 visible ASCII characters."""
        assert client.get("/open", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given
        assert request_lines(stream)[0]["request_id"] == given

    @pytest.mark.parametrize("given", [None, "", "x" * 129, "two words", "tab\t", "\x7f", "\xe9"])
    def test_id_made(self, client: FlaskClient, given: str | None) -> None:
        """Any other is replaced by a new one."""
        headers = {} if given is None else {"X-Request-ID": given}
        ids = {client.get("/open", headers=headers).headers["X-Request-ID"] for _ in range(2)}
        assert len(ids) == 2 and all(NEW_REQUEST_ID.fullmatch(each) for each in ids)

    def test_every_record(self, app: Flask, stream: io.StringIO) -> None:
        """Every record that is written while a request is served carries its id, and no other does."""

        @app.get("/logs")
        def logs_something() -> dict[str, Any]:
            log.info("inside")
            return {}

        answer = app.test_client().get("/logs")
        log.info("outside")
        with app.app_context():
            log.info("outside, with an app")
        ids = {line["message"]: line.get("request_id") for line in lines_of(stream)}
        own = answer.headers["X-Request-ID"]
        assert ids == {"inside": own, "request": own, "outside": None, "outside, with an app": None}


class TestSecrets:
    """What never stands in the log."""

    def test_request(self, client: FlaskClient, stream: io.StringIO) -> None:
        """Neither credentials nor their header, nor what a query string holds, right or wrong."""
        logging.getLogger().setLevel(logging.DEBUG)
        client.get("/staff?token=opensesame", auth=ADMIN)
        client.get("/staff?token=opensesame", auth=("ada", "opensesame"))
        client.get("/staff", headers={"Authorization": "Bearer opensesame"})
        client.get("/fails")
        told = stream.getvalue()
        assert len(request_lines(stream)) == 4
        assert "opensesame" not in told and ADMIN[1] not in told and "Basic" not in told

    @pytest.mark.parametrize(
        ("text", "redacted"),
        [
            ("mongodb://ada:opensesame@h:1/db", "mongodb://ada:***@h:1/db"),
            ("to mongodb+srv://ada:open@sesame@h, again", "to mongodb+srv://ada:***@h, again"),
            ("redis://:opensesame@h:6379/0", "redis://:***@h:6379/0"),
            ("mongodb://ada:open/sesame?@h1,h2/", "mongodb://ada:***@h1,h2/"),
            ("mongodb://h:27017/db", "mongodb://h:27017/db"),
            ("mongodb://ada@h:27017/db", "mongodb://ada@h:27017/db"),
            ("http://127.0.0.1:8000 and ada@example.com", "http://127.0.0.1:8000 and ada@example.com"),
            (f"password {ADMIN[1]!r}", "password '***'"),
            ("key 0123456789abcdef0123456789abcdef.", "key ***."),
        ],
    )
    def test_redacted(self, text: str, redacted: str) -> None:
        """The passwords of URIs and the secret settings are replaced, the rest of a text stays."""
        assert Redactor(CONFIG)(text) == redacted

    @pytest.mark.parametrize("log_format", ["json", "console"])
    def test_everywhere(self, log_format: str) -> None:
        """In messages, arguments, extras of any depth, their names, and tracebacks, in both forms."""
        stream = configured(io.StringIO(), log_format=log_format, basic_auth_password=ADMIN[1])
        uri = "mongodb://ada:opensesame@h/"
        try:
            raise ValueError(f"{uri} {ADMIN[1]}")
        except ValueError as error:
            extra = {"a": uri, "b": [{"c": (uri, {ADMIN[1]})}], "d": {uri: 1}, "e": error}
            log.exception("message %s " + uri, ADMIN[1], extra=extra)
        told = stream.getvalue()
        assert "opensesame" not in told and ADMIN[1] not in told
        assert told.count("***") >= 9

    def test_uri_settings(self) -> None:
        """A URI among the settings loses its password only: where it leads may be told."""
        uris = {"mongodb_uri": "mongodb://ada:sesame@db.example/", "ratelimit_storage_uri": "redis://:pw@r"}
        config = Config(**uris)  # type: ignore[arg-type]
        told = Redactor(config)(f"{config.mongodb_uri} {config.ratelimit_storage_uri}")
        assert told == "mongodb://ada:***@db.example/ redis://:***@r"

    def test_short_secrets(self) -> None:
        """A very short password is not searched for: replaced inside ordinary words it would show itself."""
        assert Redactor(Config(basic_auth_password="a"))("a status") == "a status"

    def test_longest_first(self) -> None:
        """Of two secrets of which one begins with the other, nothing is left."""
        config = Config(basic_auth_password="secret", jwt_secret_key="secret-and-much-longer-than-that")
        assert Redactor(config)("secret-and-much-longer-than-that secret") == "*** ***"
