"""`python -m ticketing`, which is `make run`: everything that is promised of it, on real processes."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo.database import Database

from tests.ports import free_port
from tests.service.conftest import Start
from tests.service.running import (
    DEADLINE_S,
    ROOT,
    Service,
    children_of,
    eventually,
    kill,
    processes_of,
    run,
)
from ticketing import serve
from ticketing.config import Config
from ticketing.embedded import find_mongod
from ticketing.serve import ServiceError, check_address, curl_line, write_dotenv

pytestmark = pytest.mark.usefixtures("measured_processes")


def password_in(folder: Path) -> str:
    found = re.search(r"(?m)^BASIC_AUTH_PASSWORD=(.+)$", (folder / ".env").read_text())
    assert found is not None
    return found[1]


def initialize(service: Service, total_tickets: int = 100) -> str:
    """Make an event with the password that `.env` has, and return its id."""
    answer = httpx.post(
        f"{service.url}/initialize",
        json={"name": "Concert", "total_tickets": total_tickets},
        auth=("admin", password_in(service.folder)),
        timeout=DEADLINE_S,
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["event_id"])


def book(service: Service, event_id: str, user_id: str) -> dict[str, Any]:
    """Book a ticket and return the order."""
    body = {"event_id": event_id, "user_id": user_id}
    answer = httpx.post(f"{service.url}/book", json=body, timeout=DEADLINE_S)
    assert answer.status_code == 201, answer.text
    order: dict[str, Any] = answer.json()
    return order


def note_of(service: Service, name: str) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((service.folder / "var" / f"{name}.json").read_text())
    return note


def mongod_pid_of(service: Service) -> int:
    return int(note_of(service, "embedded")["mongod_pid"])


def gunicorn_pid_of(service: Service) -> int:
    return int(note_of(service, "service")["gunicorn_pid"])


class Healthy(http.server.BaseHTTPRequestHandler):
    """Says that all is well, whatever it is asked."""

    def do_GET(self) -> None:
        """200."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def healthy_server(port: int) -> Iterator[None]:
    """Somebody on a port who answers as a service in good health does."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class TestAFirstRun:
    def test_it_writes_secrets_and_prints_a_curl_line_that_works(self, service: Service) -> None:
        """A newcomer pastes what stands on the screen, and has an event. `.env` is nobody else's to read."""
        dotenv = service.folder / ".env"
        assert dotenv.stat().st_mode & 0o777 == 0o600
        assert f"wrote {dotenv} " in service.output
        assert "change-me" not in re.sub("(?m)^#.*", "", dotenv.read_text())
        assert password_in(service.folder) not in service.output

        assert f"serving at {service.url} " in service.output
        (line,) = re.findall(r"(?m)^ticketing:   (curl .*)$", service.output)
        answer = subprocess.run(
            ["bash", "-c", line], cwd=service.folder, capture_output=True, text=True, check=True
        )
        assert json.loads(answer.stdout)["total_tickets"] == 100

    def test_the_data_and_the_secrets_are_kept_between_runs(self, service: Service) -> None:
        """Stopped and started again, nothing has changed."""
        event_id = initialize(service)
        order = book(service, event_id, "ada")
        secrets = (service.folder / ".env").read_text()
        assert service.stop() == 0
        service.start().wait_until_serving(times=2)
        assert (service.folder / ".env").read_text() == secrets
        assert service.get(f"/orders/{order['order_id']}").json() == order


class TestStopping:
    @pytest.mark.parametrize("tell", [Service.press_ctrl_c, Service.terminate])
    def test_requests_in_flight_are_answered_and_nothing_is_left(
        self, service: Service, tell: Callable[[Service], None]
    ) -> None:
        """Ctrl-C in a terminal, or SIGTERM: gunicorn ends first, then mongod, each cleanly."""
        body = json.dumps({"event_id": initialize(service), "user_id": "ada"})
        mongod_pid = mongod_pid_of(service)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port)) as connection:
            # A connection that gunicorn has accepted. What is sent on it later is in flight at once.
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
            # While mongod stands still, the booking stays in flight.
            os.kill(mongod_pid, signal.SIGSTOP)
            connection.request("POST", "/book", body, {"Content-Type": "application/json"})
            tell(service)
            service.wait_until_output_has("Handling signal: term")
            os.kill(mongod_pid, signal.SIGCONT)
            assert connection.getresponse().status == 201
            assert service.wait() == 0
        assert service.processes() == []
        assert '"exitCode":0' in (service.folder / "var" / "mongod.log").read_text().splitlines()[-1]

    def test_it_stops_while_it_starts(self, make_service: Start) -> None:
        """A signal that comes early is not lost: nothing more is started, and what was is stopped."""
        service = make_service().start()
        eventually((service.folder / "var" / "embedded.lock").exists)
        assert service.stop() == 0
        assert service.processes() == []
        assert "serving at" not in service.output

    def test_what_does_not_stop_is_killed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A worker that hangs cannot keep the service from ending."""
        monkeypatch.setattr(serve, "STOP_DEADLINE_S", 0.1)
        command = ["bash", "-c", "trap '' TERM; echo ready; sleep 600 & wait; wait"]
        stubborn = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True)
        assert stubborn.stdout is not None
        with stubborn.stdout as output:
            assert output.readline() == b"ready\n"
            serve._end_group(stubborn)
        assert stubborn.returncode == -signal.SIGKILL
        eventually(lambda: processes_of(tmp_path) == [])
        assert "does not end" in caplog.text


class TestDeath:
    def test_after_a_kill_of_the_supervisor_everything_ends_and_the_next_run_has_the_data(
        self, service: Service
    ) -> None:
        """The seed of all promises: kill -9 and start again, and nothing has changed."""
        event_id = initialize(service, total_tickets=1)
        order = book(service, event_id, "ada")
        killed = set(service.processes())
        # A worker that is just answering does not leave at once.
        slow_client = http.client.HTTPConnection("127.0.0.1", service.port)
        slow_client.request("GET", "/healthz")
        kill(service.pid)
        assert service.wait() == -signal.SIGKILL
        # At once, while the workers and mongod of the killed run are still ending.
        service.start().wait_until_serving(times=2)
        slow_client.close()
        assert "the last run was killed" in service.output
        assert not killed & set(service.processes())
        assert service.get(f"/orders/{order['order_id']}").json() == order
        status = service.get(f"/status/{event_id}").json()
        assert (status["booked_tickets"], status["available_tickets"]) == (1, 0)
        assert service.stop() == 0
        assert service.processes() == []

    def test_a_mongod_that_dies_is_started_again_with_its_data(self, service: Service) -> None:
        """The service goes on at the same address, and the log tells of it."""
        event_id = initialize(service)
        order = book(service, event_id, "ada")
        first = mongod_pid_of(service)
        kill(first)
        service.wait_until_output_has(f"mongod (process {first}) died")
        service.wait_until_output_has("mongod is back")
        assert mongod_pid_of(service) != first
        assert service.get(f"/orders/{order['order_id']}").json() == order
        assert book(service, event_id, "grace")["status"] == "confirmed"
        assert service.stop() == 0

    def test_a_mongod_that_dies_again_and_again_ends_the_service(self) -> None:
        """It is broken: better an end that is seen than a service that never gets to work."""
        supervisor = serve.Supervisor(Config())
        mongod = RestartingMongod()
        for _ in range(serve.MONGOD_DEATHS_MAX):
            supervisor._restart_mongod(mongod)  # type: ignore[arg-type]
        with pytest.raises(ServiceError, match=r"again and again: .*mongod\.log"):
            supervisor._restart_mongod(mongod)  # type: ignore[arg-type]
        assert mongod.restarts == serve.MONGOD_DEATHS_MAX

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_when_gunicorn_ends_the_service_ends_with_its_status(
        self, lean_service: Service, number: signal.Signals
    ) -> None:
        """Its workers are gone too, and the port is free, when the supervisor ends."""
        os.kill(gunicorn_pid_of(lean_service), number)
        assert lean_service.wait() == (128 + number if number == signal.SIGKILL else 0)
        assert "gunicorn ended by itself" in lean_service.output
        assert lean_service.processes() == []

    def test_a_worker_that_dies_is_replaced(self, lean_service: Service) -> None:
        """The new worker serves what the old one knew: the ledger is in MongoDB."""
        order = book(lean_service, initialize(lean_service), "ada")
        gunicorn_pid = gunicorn_pid_of(lean_service)
        workers = set(children_of(gunicorn_pid))
        for worker in workers:
            kill(worker)
        eventually(lambda: len(set(children_of(gunicorn_pid)) - workers) == len(workers))
        assert lean_service.get(f"/orders/{order['order_id']}").json() == order


class RestartingMongod:
    """Stands for a mongod that starts, and dies soon after."""

    pid = 1
    log_path = Path("mongod.log")
    restarts = 0

    def restart(self) -> None:
        """Count."""
        self.restarts += 1


class TestReload:
    def test_sighup_replaces_the_workers_unless_the_settings_are_wrong(self, lean_service: Service) -> None:
        """New workers read `.env` again. Some that could not start would end the service: the old ones go on."""
        gunicorn_pid = gunicorn_pid_of(lean_service)

        def workers() -> set[int]:
            return set(children_of(gunicorn_pid))

        first = workers()
        lean_service.signal(signal.SIGHUP)
        eventually(lambda: len(workers()) == len(first) and not first & workers())
        assert lean_service.get("/readyz").status_code == 200

        second = workers()
        with (lean_service.folder / ".env").open("a") as dotenv:
            dotenv.write("LOG_LEVEL=loud\n")
        lean_service.signal(signal.SIGHUP)
        lean_service.wait_until_output_has("LOG_LEVEL is 'loud'")
        assert lean_service.get("/readyz").status_code == 200
        assert workers() == second
        assert lean_service.stop() == 0

    def test_in_a_terminal_sighup_means_stop(self, make_lean_service: Start) -> None:
        """The window was closed: nothing goes on without it."""
        service = make_lean_service()
        controller, terminal = os.openpty()
        try:
            service.start(stdin=terminal).wait_until_serving()
            service.signal(signal.SIGHUP)
            assert service.wait() == 0
        finally:
            os.close(terminal)
            os.close(controller)

    def test_under_nohup_sighup_means_nothing(self, make_lean_service: Start) -> None:
        """Who says nohup means it."""
        service = make_lean_service(command=["nohup", sys.executable, "-m", "ticketing"])
        service.start().wait_until_serving()
        gunicorn_pid = gunicorn_pid_of(service)
        workers = children_of(gunicorn_pid)
        service.signal(signal.SIGHUP)
        assert service.get("/healthz").status_code == 200
        assert children_of(gunicorn_pid) == workers
        assert service.stop() == 0


class TestWhatKeepsItFromStarting:
    """One clear sentence on stderr, exit status not 0, nothing left running."""

    def test_a_second_one_in_the_same_folder(self, lean_service: Service) -> None:
        """It names the first, which is not disturbed."""
        service = lean_service
        second = run(service.folder, "-m", "ticketing", PORT=str(free_port()))
        assert second.returncode == 1
        assert re.fullmatch(
            f"ticketing: The service already runs .*process {service.pid}, {service.url}.*\n", second.stderr
        )
        assert service.get("/healthz").status_code == 200

    def test_a_taken_port(self, folder: Path) -> None:
        """It names PORT, and leaves the other program alone."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            finished = run(folder, "-m", "ticketing", PORT=str(port))
        assert finished.returncode == 1
        assert re.fullmatch(f"ticketing: Cannot listen on .*PORT {port}: .*\n", finished.stderr)
        assert processes_of(folder) == []

    def test_somebody_who_takes_the_port_meanwhile_is_not_taken_for_the_service(
        self, make_lean_service: Start
    ) -> None:
        """He may even answer as the service does. Here gunicorn cannot listen where it is told to."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bind = f"127.0.0.1:{taken.getsockname()[1]}"
            service = make_lean_service(GUNICORN_CMD_ARGS=f"--bind {bind}").start()
            service.wait_until_output_has("Connection in use")
            with healthy_server(service.port):
                assert service.wait() == 1
        assert "serving at" not in service.output

    def test_a_mongod_of_somebody_else_on_the_data_folder(self, folder: Path, other_mongod: int) -> None:
        """It is neither used nor stopped."""
        finished = run(folder, "-m", "ticketing", PORT=str(free_port()))
        assert finished.returncode == 2
        assert re.fullmatch(f"ticketing: A mongod .*process {other_mongod}.*\n", finished.stderr)
        assert processes_of(folder) == [other_mongod]

    def test_no_mongod(self, folder: Path) -> None:
        """On a platform without the wheel: it says what to install or set."""
        # As on such a platform: nothing in PATH, and no package `fiftyone`.
        (folder / "sitecustomize.py").write_text("import sys; sys.modules['fiftyone'] = None\n")
        path = f"{folder}:{ROOT}"
        finished = run(folder, "-m", "ticketing", PORT=str(free_port()), PATH="", PYTHONPATH=path)
        assert finished.returncode == 2
        assert re.fullmatch(r"ticketing: There is no mongod .*MONGODB_URI.*\n", finished.stderr)

    def test_a_wrong_setting(self, folder: Path) -> None:
        """Every wrong variable, each in a line."""
        finished = run(folder, "-m", "ticketing", PORT="http", LOG_LEVEL="loud")
        assert finished.returncode == 2
        assert "PORT is 'http'; allowed: " in finished.stderr
        assert "LOG_LEVEL is 'loud'; allowed: " in finished.stderr

    def test_a_data_folder_that_cannot_be_made(self, folder: Path) -> None:
        """It names the folder and the reason."""
        (folder / "var").write_text("a file")
        finished = run(folder, "-m", "ticketing", PORT=str(free_port()))
        assert finished.returncode == 1
        assert re.fullmatch(r"ticketing: The data folder .* cannot be used: .*\n", finished.stderr)

    def test_a_mongodb_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It names the variable, and not the password in it."""
        monkeypatch.setattr(serve, "PREPARE_DEADLINE_S", 0.5)
        uri = f"mongodb://user:hunter2@127.0.0.1:{free_port()}"
        with pytest.raises(ServiceError, match="MONGODB_URI") as caught:
            serve.Supervisor(Config(mongodb_uri=uri))._prepare_database()
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("host", "port", "says"),
        [("no.such.host.invalid", 8000, "HOST 'no.such.host.invalid'"), ("192.0.2.1", 8000, "HOST '192.0.2.1'")],
    )
    def test_a_host_that_is_not_here(self, host: str, port: int, says: str) -> None:
        """A name that nobody knows, or an address of another machine."""
        with pytest.raises(ServiceError, match=says):
            check_address(host, port)


@pytest.fixture
def other_mongod(folder: Path) -> Iterator[int]:
    """A mongod that somebody started by hand on the service's data folder: its process id."""
    database_dir = folder / "var" / "mongo"
    database_dir.mkdir(parents=True)
    command = f"{find_mongod()} --dbpath {database_dir} --port {free_port()} --bind_ip 127.0.0.1"
    process = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL)
    lock = database_dir / "mongod.lock"
    eventually(lambda: lock.exists() and lock.read_text().strip() == str(process.pid))
    yield process.pid
    process.kill()
    process.wait()


class TestAnotherMongoDB:
    def test_a_configured_mongodb_is_used_and_none_is_started(
        self, lean_service: Service, database: Database[dict[str, Any]]
    ) -> None:
        """Production: MONGODB_URI, and only gunicorn here. What the database needs is made at the start."""
        service = lean_service
        book(service, initialize(service), "ada")
        assert {"orders", "events"} <= set(database.list_collection_names())
        assert database["orders"].count_documents({"user_id": "ada"}) == 1
        assert not (service.folder / "var" / "mongo").exists()
        assert service.stop() == 0


class TestOtherProcesses:
    def test_a_flask_command_works_beside_the_service_and_without_it(self, service: Service) -> None:
        """It attaches to the service's mongod, or starts one and stops it at its end."""
        initialize(service)
        verify = ("-m", "flask", "--app", "wsgi", "ledger", "verify")
        beside = run(service.folder, *verify)
        assert beside.returncode == 0, beside.stderr
        service.stop()
        without = run(service.folder, *verify)
        assert (without.returncode, without.stdout) == (0, beside.stdout)
        assert service.processes() == []

    def test_gunicorn_alone_serves_too(self, make_service: Start) -> None:
        """With our configuration and without the supervisor: its master owns mongod and ends it."""
        command = [sys.executable, "-m", "gunicorn", "-c", "python:ticketing.gunicorn_conf", "wsgi:app"]
        service = make_service(
            command=command, BASIC_AUTH_USERNAME="admin", BASIC_AUTH_PASSWORD="short"
        ).start()
        eventually(service.is_healthy)
        assert service.get("/readyz").status_code == 200
        assert "BASIC_AUTH_PASSWORD has less than" in service.output
        assert service.output.count("counts rate limits for itself") == 1
        assert service.stop() == 0
        assert service.processes() == []

    @pytest.mark.parametrize(
        ("environ", "says"), [({"PORT": "http"}, "PORT is 'http'"), ({"DATA_DIR": "/dev/null/x"}, "/dev/null/x")]
    )
    def test_gunicorn_alone_fails_at_its_start_with_the_sentence(
        self, folder: Path, environ: dict[str, str], says: str
    ) -> None:
        """A wrong setting, or a mongod that cannot be started: no traceback, and no worker that tries."""
        command = ("-m", "gunicorn", "-c", "python:ticketing.gunicorn_conf", "wsgi:app")
        finished = run(folder, *command, **{"PORT": str(free_port()), **environ})
        assert finished.returncode == 1
        assert "Error: " in finished.stderr
        assert says in finished.stderr
        assert "Traceback" not in finished.stderr


class TestWhatGunicornRefuses:
    def test_it_is_a_problem_too(self, lean_service: Service) -> None:
        """As any other error, with an id that the log has; nothing of what came is sent back."""
        for sent, status, code in (
            (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
            (b"GET / HTTP/1.1\r\nX-Big: " + b"a" * 9_216 + b"\r\n\r\n", 431, "headers_too_large"),
            (b"GET / HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 101 + b"\r\n", 431, "headers_too_large"),
            (b"<script>hunter2</script>\r\n\r\n", 400, "bad_request"),
            (b"GET / HTTP/1.1\r\nhunter2 : 1\r\n\r\n", 400, "bad_request"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: hunter2\r\n\r\n", 501, "not_implemented"),
        ):
            self._is_refused(lean_service, sent, status, code)

    def _is_refused(self, lean_service: Service, sent: bytes, status: int, code: str) -> None:
        with socket.create_connection(("127.0.0.1", lean_service.port), DEADLINE_S) as connection:
            connection.sendall(sent)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            text = answer.read().decode()
            assert connection.recv(1) == b""
        problem = json.loads(text)
        assert problem.keys() == {"type", "title", "status", "detail", "code"}
        assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
        assert problem["type"] == f"urn:ticketing:problem:{code}"
        assert answer.reason == problem["title"]
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Connection"] == "close"
        assert "hunter2" not in text and "aaa" not in text
        request_id = answer.headers["X-Request-ID"]
        assert re.fullmatch("[0-9a-f]{32}", request_id)
        lean_service.wait_until_output_has(request_id)
        assert "Traceback" not in lean_service.output
        assert lean_service.get("/healthz").status_code == 200

    def test_gunicorn_without_our_settings_is_left_alone(self, make_lean_service: Start) -> None:
        """It serves, with answers to such requests that are its own, and counts in memory."""
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "wsgi:app"]
        service = make_lean_service(command=command)
        service.url = f"http://127.0.0.1:{port}"
        service.start()
        eventually(service.is_healthy)
        assert 'route="/healthz"' in service.get("/metrics").text
        assert service.get("/" + "a" * 5_000).status_code == 414
        assert not (service.folder / "var" / "metrics").exists()
        assert service.stop() == 0


class TestWriteDotenv:
    def test_an_existing_file_is_not_touched(self, tmp_path: Path) -> None:
        """Nobody's secrets are replaced."""
        (tmp_path / "example").write_text("JWT_SECRET_KEY=change-me\n")
        (tmp_path / ".env").write_text("mine")
        assert not write_dotenv(tmp_path / ".env", tmp_path / "example")
        assert (tmp_path / ".env").read_text() == "mine"

    def test_without_an_example_nothing_is_written(self, tmp_path: Path) -> None:
        """An image that is configured by its environment needs no file."""
        assert not write_dotenv(tmp_path / ".env", tmp_path / "example")
        assert list(tmp_path.iterdir()) == []

    def test_each_secret_is_another(self, tmp_path: Path) -> None:
        """The password does not give the key away."""
        (tmp_path / "example").write_text("# A=change-me not\nA=change-me\nB=change-me\nC=1\n")
        assert write_dotenv(tmp_path / ".env", tmp_path / "example")
        first, a, b, c = (tmp_path / ".env").read_text().splitlines()
        assert (first, c) == ("# A=change-me not", "C=1")
        assert a.startswith("A=") and b.startswith("B=") and a[2:] != b[2:]


class TestTheCurlLine:
    @pytest.mark.parametrize(
        ("dotenv", "username"), [("", "admin"), ("BASIC_AUTH_PASSWORD=other", "admin"), ("=", "$(reboot)")]
    )
    def test_it_asks_for_health_when_the_password_is_not_in_the_file(
        self, tmp_path: Path, dotenv: str, username: str
    ) -> None:
        """The password came from the environment, or the name is none for a shell: still a line that works."""
        (tmp_path / ".env").write_text(dotenv)
        config = Config(basic_auth_username=username, basic_auth_password="secret")
        assert curl_line(config, tmp_path / ".env") == "curl http://127.0.0.1:8000/healthz"

    @pytest.mark.parametrize(
        ("host", "url"),
        [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("db.local", "http://db.local:8000")],
    )
    def test_it_goes_where_this_machine_is_reached(self, tmp_path: Path, host: str, url: str) -> None:
        """0.0.0.0 is an address to listen on and none to ask."""
        assert curl_line(Config(host=host), tmp_path / ".env") == f"curl {url}/healthz"
