"""The settings: read once, checked all together, never telling a secret."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from ticketing.config import SECRET_PLACEHOLDER, Config, variable
from ticketing.errors import ConfigError

ROOT = Path(__file__).parent.parent
KEY = "k" * 32


def read(**environ: str) -> Config:
    return Config.from_env(environ, dotenv_path=None)


def complaint(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(**environ)
    return str(caught.value)


def written(value: Any) -> str:
    """A default as one writes it into an environment variable."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class TestReading:
    def test_without_any_variable_the_defaults_hold(self) -> None:
        """An empty environment is a whole configuration: the embedded mongod, loopback, no admin."""
        assert read() == Config()

    def test_every_setting_is_read_from_its_variable(self) -> None:
        """No field is left out of reading, and each arrives in its type."""
        given: dict[str, Any] = {
            "mongodb_uri": "mongodb://db.example/?replicaSet=rs0",
            "mongodb_database": "tickets",
            "basic_auth_username": "root",
            "basic_auth_password": "a long password",
            "jwt_secret_key": KEY,
            "ratelimit_enabled": False,
            "ratelimit_default": "5/second;100/hour",
            "registration": "admins",
            "booking_requires_login": True,
            "ratelimit_book": "10/minute",
            "ratelimit_auth": "7/minute",
            "ratelimit_storage_uri": "redis://cache:6379/1",
            "host": "::",
            "port": 8080,
            "web_concurrency": 4,
            "web_threads": 8,
            "trusted_proxies": 1,
            "cors_origins": "https://a.example,http://localhost:3000",
            "request_deadline_s": 2.5,
            "state_orders_max": 10,
            "requests_max": 30,
            "queue_length_max": 20,
            "change_waiters_max": 10,
            "webhooks_allow_private": True,
            "log_level": "debug",
            "log_format": "json",
            "data_dir": "/srv/data",
        }
        assert set(given) == {setting.name for setting in fields(Config)}
        environ = {name.upper(): written(value) for name, value in given.items()}
        assert read(**environ) == Config(**given)

    def test_the_file_is_read_and_real_variables_win_over_it(self, tmp_path: Path) -> None:
        """A deployment overrides one value of `.env` without touching the file."""
        dotenv = tmp_path / ".env"
        dotenv.write_text("PORT=9000\nHOST=0.0.0.0\n# WEB_THREADS=3\n")
        config = Config.from_env({"PORT": "9001"}, dotenv_path=str(dotenv))
        assert (config.port, config.host, config.web_threads) == (9001, "0.0.0.0", 4)

    def test_the_process_environment_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an argument the real environment is read, and `.env` of the current folder, if there."""
        monkeypatch.setenv("PORT", "9002")
        assert Config.from_env(dotenv_path="/nonexistent/.env").port == 9002

    @pytest.mark.parametrize("content", [b"\xff\xfe", None])
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path, content: bytes | None) -> None:
        """Not UTF-8, or a folder: the service does not start on half of its settings."""
        dotenv = tmp_path / ".env"
        dotenv.mkdir() if content is None else dotenv.write_bytes(content)
        with pytest.raises(ConfigError, match=re.escape(str(dotenv))):
            Config.from_env({}, dotenv_path=str(dotenv))

    def test_a_config_cannot_be_changed(self) -> None:
        """Settings are read once: nobody changes them behind another's back."""
        with pytest.raises(FrozenInstanceError):
            Config().port = 1  # type: ignore[misc]

    @pytest.mark.parametrize(("given", "read_as"), [("INFO", "info"), ("Debug", "debug")])
    def test_choices_are_read_in_any_case(self, given: str, read_as: str) -> None:
        """LOG_LEVEL=INFO is what many other programs want."""
        assert read(LOG_LEVEL=given).log_level == read_as


class TestWrongValues:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("MONGODB_DATABASE", "a b"),
            ("MONGODB_DATABASE", "x" * 64),
            ("BASIC_AUTH_USERNAME", "a:b"),
            ("BASIC_AUTH_USERNAME", "a\nb"),
            ("RATELIMIT_ENABLED", "maybe"),
            ("RATELIMIT_DEFAULT", "many"),
            ("RATELIMIT_DEFAULT", "5/fortnight"),
            ("RATELIMIT_BOOK", "0/minute"),
            ("RATELIMIT_AUTH", "often"),
            ("REGISTRATION", "closed"),
            ("BOOKING_REQUIRES_LOGIN", "perhaps"),
            ("HOST", "a b"),
            ("HOST", "[::1]"),
            ("PORT", "0"),
            ("PORT", "65536"),
            ("PORT", "http"),
            ("PORT", "80.5"),
            ("WEB_CONCURRENCY", "0"),
            ("WEB_THREADS", "-1"),
            ("TRUSTED_PROXIES", "-1"),
            ("CORS_ORIGINS", "*"),
            ("CORS_ORIGINS", "https://example.org/"),
            ("CORS_ORIGINS", "https://example.org, https://example.com"),
            ("CORS_ORIGINS", "example.org"),
            ("CORS_ORIGINS", "null"),
            ("REQUEST_DEADLINE_S", "0"),
            ("REQUEST_DEADLINE_S", "9.6"),
            ("REQUEST_DEADLINE_S", "nan"),
            ("STATE_ORDERS_MAX", "0"),
            ("REQUESTS_MAX", "0"),
            ("QUEUE_LENGTH_MAX", "0"),
            ("LOG_LEVEL", "loud"),
            ("LOG_FORMAT", "xml"),
        ],
    )
    def test_the_message_has_the_name_the_value_and_what_is_allowed(self, name: str, value: str) -> None:
        """The operator can mend it without opening the source."""
        allowed = next(setting.metadata["allowed"] for setting in fields(Config) if variable(setting) == name)
        assert complaint(**{name: value}) == f"{name} is {value!r}; allowed: {allowed}."

    @pytest.mark.parametrize(
        ("name", "secret"),
        [
            ("MONGODB_URI", "http://user:hunter2@db"),
            ("MONGODB_URI", "mongodb:user:hunter2@db"),
            ("MONGODB_URI", "mongodb://user:hunter2"),
            ("MONGODB_URI", "mongodb://user:hunter2@@db"),
            ("MONGODB_URI", "mongodb://user:hunter2@db/?noSuchOption=1"),
            ("MONGODB_URI", "mongodb+srv://user:hunter2@a.example.org,b.example.org"),
            ("MONGODB_URI", "mongodb+srv://user:hunter2@a.example.org:27018"),
            ("JWT_SECRET_KEY", "hunter2"),
            ("RATELIMIT_STORAGE_URI", "memcached://:hunter2@cache"),
            ("RATELIMIT_STORAGE_URI", "redis:hunter2"),
            ("RATELIMIT_STORAGE_URI", "redis://"),
            ("RATELIMIT_STORAGE_URI", "redis://:hunter2@cache:port"),
            ("RATELIMIT_STORAGE_URI", "redis://:hunter2@cache:0"),
        ],
    )
    def test_a_secret_is_wrong_without_being_shown(self, name: str, secret: str) -> None:
        """Start-up errors end in logs that many may read."""
        message = complaint(**{name: secret})
        assert message.startswith(f"{name} is wrong (not shown here); allowed: ")
        assert "hunter2" not in message

    @pytest.mark.parametrize("name", ["BASIC_AUTH_PASSWORD", "JWT_SECRET_KEY"])
    def test_the_placeholder_of_the_example_is_refused(self, name: str) -> None:
        """Nobody runs on a password that stands in a public repository."""
        environ = {"BASIC_AUTH_USERNAME": "admin", name: SECRET_PLACEHOLDER}
        assert complaint(**environ).startswith(f"{name} is still the placeholder; ")

    @pytest.mark.parametrize("name", [variable(setting) for setting in fields(Config)])
    def test_an_empty_value_is_refused(self, name: str) -> None:
        """A substitution that failed must not mean "no password", or another database."""
        assert complaint(**{name: ""}).startswith(f"{name} is empty; allowed: ")

    def test_a_password_without_a_user_is_refused(self) -> None:
        """There would be no admin, although somebody meant one."""
        assert "BASIC_AUTH_USERNAME" in complaint(BASIC_AUTH_PASSWORD="a long password")

    def test_all_wrong_variables_are_told_at_once(self) -> None:
        """One start, one list of what is to be mended."""
        lines = complaint(PORT="x", LOG_LEVEL="y", JWT_SECRET_KEY="z").splitlines()
        assert sorted(line.split()[0] for line in lines) == ["JWT_SECRET_KEY", "LOG_LEVEL", "PORT"]


class TestRightValues:
    @pytest.mark.parametrize(
        "uri",
        [
            "mongodb://localhost",
            "mongodb://user:p%40ss@a:27017,b:27018/admin?replicaSet=rs0",
            "mongodb+srv://user:password@cluster.example.org/?retryWrites=true",
            "mongodb://%2Ftmp%2Fmongodb.sock",
        ],
    )
    def test_uris_of_mongodb(self, uri: str) -> None:
        """Replica sets, Atlas and sockets. No name is looked up: none of these exists."""
        assert read(MONGODB_URI=uri).mongodb_uri == uri

    @pytest.mark.parametrize("uri", ["memory://", "rediss://:pw@cache:6380/0", "redis+unix:///redis.sock"])
    def test_uris_of_the_limits_storage(self, uri: str) -> None:
        """Memory and the ways to reach Redis."""
        assert read(RATELIMIT_STORAGE_URI=uri).ratelimit_storage_uri == uri

    @pytest.mark.parametrize(("host", "address"), [("0.0.0.0", "0.0.0.0:8000"), ("::1", "[::1]:8000")])
    def test_the_address_to_bind(self, host: str, address: str) -> None:
        """IPv6 stands in brackets."""
        assert read(HOST=host).bind_address == address


def test_no_secret_is_in_the_repr() -> None:
    """A config may end in a traceback or a log line."""
    config = Config(
        mongodb_uri="mongodb://u:hunter2@db",
        basic_auth_password="hunter2",
        jwt_secret_key="hunter2",
        ratelimit_storage_uri="redis://:hunter2@cache",
    )
    assert "hunter2" not in repr(config)


class TestNotes:
    """What the operator is told at the start of a configuration that is allowed but may surprise."""

    def test_a_short_password(self) -> None:
        """Allowed, because tests and demos want it; but told."""
        assert any("BASIC_AUTH_PASSWORD" in note for note in read_with_admin("short").notes())

    def test_counting_in_each_worker(self) -> None:
        """The limit that was set is not the limit that holds, and the note says what to set."""
        assert any("RATELIMIT_STORAGE_URI" in note for note in read().notes())

    @pytest.mark.parametrize(
        "environ",
        [
            {"WEB_CONCURRENCY": "1"},
            {"RATELIMIT_ENABLED": "false"},
            {"RATELIMIT_STORAGE_URI": "redis://cache"},
        ],
    )
    def test_nothing_to_tell(self, environ: dict[str, str]) -> None:
        """One worker, no limits, or a storage for all: then there is nothing to say."""
        assert read_with_admin("a long password", **environ).notes() == []


def read_with_admin(password: str, **environ: str) -> Config:
    return read(BASIC_AUTH_USERNAME="admin", BASIC_AUTH_PASSWORD=password, **environ)


class TestTheThreeTables:
    """config.py, `.env.example` and the README's table of settings tell the same."""

    def test_the_example_has_every_setting_with_its_default(self) -> None:
        """A line `# NAME=default` for each; a setting without a default shows an example or a placeholder."""
        shown = re.findall(r"(?m)^(?:# )?([A-Z][A-Z_]*)=(.*)$", (ROOT / ".env.example").read_text())
        assert [name for name, _ in shown] == [variable(setting) for setting in fields(Config)]
        examples = dict(shown)
        for setting in fields(Config):
            if setting.default is not None:
                assert examples[variable(setting)] == written(setting.default)

    def test_the_example_is_valid_once_its_secrets_are_replaced(self, tmp_path: Path) -> None:
        """With every line taken in, comment signs removed, it is a configuration that starts."""
        text = (ROOT / ".env.example").read_text().replace(SECRET_PLACEHOLDER, KEY)
        dotenv = tmp_path / ".env"
        dotenv.write_text(re.sub(r"(?m)^# ([A-Z_]+=)", r"\1", text))
        assert Config.from_env({}, dotenv_path=str(dotenv)).basic_auth_username == "admin"

    def test_the_readme_has_every_setting_with_its_default(self) -> None:
        """Rows are "| `NAME` | `default` | meaning |", an empty one where there is none."""
        readme = (ROOT / "README.md").read_text()
        rows = re.findall(r"(?m)^\| `([A-Z][A-Z_]*)` \| (?:`([^`]*)`)? *\|", readme)
        assert rows == [
            (variable(setting), "" if setting.default is None else written(setting.default))
            for setting in fields(Config)
        ]


def test_a_file_in_the_uri_that_cannot_be_read_is_a_wrong_setting() -> None:
    """One sentence, and not the traceback of whoever opens it."""
    with pytest.raises(ConfigError, match="^MONGODB_URI is wrong"):
        Config.from_env({"MONGODB_URI": "mongodb://h/?tls=true&tlsCAFile=/nope"}, dotenv_path=None)
