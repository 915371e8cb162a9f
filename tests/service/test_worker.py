"""The end of a worker: whoever has a connection is answered first."""

from __future__ import annotations

import http.client
import subprocess
import sys

import pytest

from tests.service.conftest import Start
from tests.service.running import DEADLINE_S, ROOT, eventually

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


class TestStopping:
    @pytest.mark.parametrize("beginning", [b"", b"GET /healthz HTTP/1.1\r\n"])
    def test_it_does_not_wait_for_idle_connections(
        self, make_lean_service: Start, beginning: bytes
    ) -> None:
        """Kept alive, or begun and gone on with: closed from this side, long before the worker's time is over."""
        service = make_lean_service(GUNICORN_CMD_ARGS="--graceful-timeout 600").start().wait_until_serving()
        kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        kept.sock.sendall(beginning)
        assert service.stop() == 0
        assert kept.sock.recv(1) == b""
        kept.close()
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
