"""The end of a worker: whoever has a connection is answered first."""

from __future__ import annotations

import errno
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.conftest import Start
from tests.service.running import DEADLINE_S, NO_TLS, ROOT, Service, children_of, eventually, outer_environ
from ticketing.config import Config
from ticketing.listeners import let_nobody_in

pytestmark = pytest.mark.usefixtures("measured_processes")

# In a process of its own: importing the worker makes the threads of its process green.
CLOSE_A_SERVER_WITH_CALLERS = """
import socket, sys
from ticketing.worker import _accept_the_rest
import gevent
from gevent import server as servers

def serve(connection, address):
    connection.sendall(connection.recv(100).upper())

server = servers.StreamServer(("127.0.0.1", 0), serve)
server.start()
callers = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(20)]
for caller in callers:
    caller.sendall(b"hello")
if sys.argv[1] == "politely":
    _accept_the_rest(server)
else:
    server.close()
print([caller.recv(100) for caller in callers].count(b"HELLO"))
"""


def close_a_server_with_callers(how: str) -> subprocess.CompletedProcess[str]:
    """Twenty have connected and none is accepted yet when the server closes. Prints how many are answered."""
    command = [sys.executable, "-c", CLOSE_A_SERVER_WITH_CALLERS, how]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


class TestTheQueueOfTheKernel:
    def test_who_waits_in_it_is_served(self) -> None:
        """A listener that is closed resets them; they are accepted before."""
        assert close_a_server_with_callers("politely").stdout == "20\n"

    def test_closing_alone_would_reset_them(self) -> None:
        """The control."""
        finished = close_a_server_with_callers("rudely")
        assert finished.stdout == ""
        assert "ConnectionResetError" in finished.stderr


def connect(port: int) -> socket.socket | None:
    """A connection, with a request sent; or nothing where nobody is let in. On one machine that takes no time."""
    newcomer = socket.socket()
    newcomer.setblocking(False)
    newcomer.connect_ex(("127.0.0.1", port))
    if not select.select([], [newcomer], [], 0.2)[1]:
        newcomer.close()
        return None
    newcomer.setblocking(True)
    newcomer.settimeout(DEADLINE_S)
    newcomer.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
    return newcomer


class TestTheLastCall:
    """Who comes between the last look into the queue and the closing of the listener would be reset."""

    def test_nobody_gets_in_after_it_and_who_was_in_is_accepted(self) -> None:
        """He asks again by himself, a second later, and is refused."""
        with socket.create_server(("127.0.0.1", 0)) as listener, closing(socket.socket()) as late:
            address = listener.getsockname()
            with socket.create_connection(address) as early:
                let_nobody_in(listener)
                late.setblocking(False)
                assert late.connect_ex(address) == errno.EINPROGRESS
                early.sendall(b"hello")
                with listener.accept()[0] as accepted:
                    assert accepted.recv(100) == b"hello"
            listener.close()
            late_is = eventually(lambda: late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            assert late_is == errno.ECONNREFUSED

    def test_without_it_he_is_reset(self) -> None:
        """The control."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            late = connect(listener.getsockname()[1])
        assert late is not None
        with late, pytest.raises(ConnectionResetError):
            late.recv(100)

    def test_a_stop_begins_with_it(self, make_lean_service: Start) -> None:
        """The worker is frozen, so nobody looks into the queue: who gets in until gunicorn stops is answered later."""
        service = make_lean_service().start().wait_until_serving()
        gunicorn_pid = json.loads((service.folder / "var" / "service.json").read_text())["gunicorn_pid"]
        (worker_pid,) = children_of(gunicorn_pid)
        os.kill(worker_pid, signal.SIGSTOP)
        early = [connect(service.port)]
        service.terminate()
        while (newcomer := connect(service.port)) is not None:
            early.append(newcomer)
            assert len(early) < 500, "newcomers are let in to the end"
            time.sleep(0.02)
        os.kill(worker_pid, signal.SIGCONT)
        for connection in early:
            assert connection is not None
            with connection:
                assert connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        assert service.wait() == 0

    def test_a_listener_of_somebody_else_lets_in_whom_the_next_one_takes(self, folder: Path, mongod: str) -> None:
        """systemd's, say, or one that was inherited: it goes on when gunicorn ends."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            bind = f"fd://{listener.fileno()}"
            command = [sys.executable, "-m", "gunicorn", "-c", "python:ticketing.gunicorn_conf", "-b", bind, "wsgi:app"]
            environ = {**outer_environ(), "MONGODB_URI": mongod, "WEB_CONCURRENCY": "1"}
            gunicorn = subprocess.Popen(command, cwd=folder, env=environ, pass_fds=[listener.fileno()])
            try:
                before = connect(listener.getsockname()[1])
                assert before is not None
                with before:
                    assert before.recv(100).startswith(b"HTTP/1.1 200 OK")
            finally:
                gunicorn.terminate()
                gunicorn.wait(DEADLINE_S)
            after = connect(listener.getsockname()[1])
            assert after is not None
            with after, listener.accept()[0] as accepted:
                assert accepted.recv(100).startswith(b"GET /healthz")


# Loaded by every Python with it on its path: who is forked waits for as long as the file "hold" is there.
HOLD_WHO_IS_FORKED = """
import os, time

def wait():
    while os.path.exists("hold"):
        time.sleep(0.05)

os.register_at_fork(after_in_child=wait)
"""


class TestReloading:
    def test_the_old_serve_until_the_new_do(self, make_lean_service: Start, folder: Path) -> None:
        """Whoever comes before a new worker takes connections is served by an old one."""
        (folder / "sitecustomize.py").write_text(HOLD_WHO_IS_FORKED)
        service = make_lean_service(PYTHONPATH=f"{ROOT}{os.pathsep}{folder}").start().wait_until_serving()
        (folder / "hold").touch()
        service.signal(signal.SIGHUP)
        eventually(lambda: "this one goes on until it does" in service.output)
        for _ in range(10):
            assert httpx.get(service.url + "/healthz", timeout=2, verify=NO_TLS).status_code == 200
        (folder / "hold").unlink()
        eventually(lambda: "Worker exiting" in service.output)
        assert service.get("/healthz").status_code == 200

    def test_where_the_new_do_not_come_the_old_end_with_the_service(
        self, make_lean_service: Start, folder: Path
    ) -> None:
        """Nobody is let in any more: to wait for a new one would only keep newcomers hanging."""
        (folder / "sitecustomize.py").write_text(HOLD_WHO_IS_FORKED)
        patient = "from ticketing import create_app, worker\nworker.FOLLOWERS_S = 3_600.0\napp = create_app()\n"
        (folder / "wsgi.py").write_text(patient)
        service = make_lean_service(PYTHONPATH=f"{folder}{os.pathsep}{ROOT}").start().wait_until_serving()
        (folder / "hold").touch()
        service.signal(signal.SIGHUP)
        eventually(lambda: "this one goes on until it does" in service.output)
        service.terminate()
        eventually(lambda: "Worker exiting" in service.output)
        (folder / "hold").unlink()
        assert service.wait() == 0


class TestTheLastAnswer:
    @pytest.mark.parametrize(
        "request_line",
        ["HEAD /healthz HTTP/1.1", "OPTIONS /healthz HTTP/1.1", "GET /healthz HTTP/1.0", "GET / HTTP/1.1"],
    )
    def test_an_answer_comes_before_the_end_of_its_connection(
        self, lean_service: Service, request_line: str
    ) -> None:
        """Also where it has no body, so that nothing follows its head."""
        with socket.create_connection(("127.0.0.1", lean_service.port), timeout=DEADLINE_S) as connection:
            connection.sendall(f"{request_line}\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(10_000), b""))
        assert answer.startswith(b"HTTP/1.")


class TestStopping:
    def test_it_does_not_wait_for_idle_connections(self, make_lean_service: Start) -> None:
        """Kept alive, or begun and gone on with: closed from this side, long before the worker's time is over."""
        service = make_lean_service(GUNICORN_CMD_ARGS="--graceful-timeout 600").start().wait_until_serving()
        kept = []
        for beginning in (b"", b"GET /healthz HTTP/1.1\r\n"):
            kept.append(http.client.HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S))
            kept[-1].request("GET", "/healthz")
            assert kept[-1].getresponse().read()
            kept[-1].sock.sendall(beginning)
        assert service.stop() == 0
        for each in kept:
            assert each.sock.recv(1) == b""
            each.close()
        assert "killed" not in service.output

    def test_a_request_that_comes_meanwhile_is_answered(self, make_lean_service: Start) -> None:
        """On a connection that was kept; the answer says that it is the last one."""
        service = make_lean_service().start().wait_until_serving()
        kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        service.terminate()

        def answers_for_the_last_time() -> bool:
            kept.request("GET", "/healthz")
            answer = kept.getresponse()
            assert answer.status == 200
            assert answer.read()
            return answer.getheader("Connection") == "close"

        assert eventually(answers_for_the_last_time)
        assert service.wait() == 0

    def test_who_waits_for_changes_is_answered(self, make_lean_service: Start) -> None:
        """They take no place among the requests under way, a commit wakes them; and the stop does not take 20 s."""
        service = make_lean_service(
            REQUESTS_MAX="1", CHANGE_WAITERS_MAX="5", GUNICORN_CMD_ARGS="--graceful-timeout 600"
        )
        service.start().wait_until_serving()
        config = Config.from_env({}, dotenv_path=str(service.folder / ".env"))
        auth = (config.basic_auth_username or "", config.basic_auth_password or "")
        event = {"event_id": "concert", "name": "Concert", "total_tickets": 5}
        assert httpx.post(service.url + "/initialize", json=event, auth=auth).status_code == 201

        def ask(after: int, wait_s: int) -> httpx.Response:
            query = f"/events/concert/changes?after={after}&wait={wait_s}"
            return httpx.get(service.url + query, auth=auth, timeout=DEADLINE_S, verify=NO_TLS)

        def follow(after: int) -> Any:
            while (answer := ask(after, 20)).status_code == 503:
                pass  # they come at once, and only one of them at a time may be under way
            return answer.json()

        def all_wait(after: int) -> bool:
            one_more = ask(after, 1)
            return one_more.status_code == 503 and service.get("/status/concert").status_code == 200

        with ThreadPoolExecutor(5) as pool:
            woken = [pool.submit(follow, 1) for _ in range(5)]
            eventually(lambda: all_wait(1))
            booked = httpx.post(service.url + "/book", json={"event_id": "concert", "user_id": "ada"})
            assert booked.status_code == 201
            assert [each.result()["items"][0]["orders"][0]["user_id"] for each in woken] == ["ada"] * 5
            left = [pool.submit(follow, 2) for _ in range(5)]
            eventually(lambda: all_wait(2))
            began_s = time.monotonic()
            assert service.stop() == 0
            assert [each.result() for each in left] == [{"items": [], "next": 2}] * 5
            assert time.monotonic() - began_s < 15
