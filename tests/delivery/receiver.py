"""A real HTTP receiver, that does with each request what the test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    headers: dict[str, str]
    body: str
    path: str = "/"

    @property
    def message_id(self) -> str:
        """What it is known by."""
        return self.headers["webhook-id"]

    @property
    def notice(self) -> Any:
        """What it tells."""
        return json.loads(self.body)

    @property
    def told(self) -> tuple[str, str | None]:
        """The type, and the user of the order."""
        return self.notice["type"], self.notice["data"].get("order", {}).get("user_id")

    def verify(self, secret: str) -> Any:
        """The notice. Raises where the signature is not right."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """Listens on loopback. `answer` decides the status of each request, by itself; it may take its time."""

    def __init__(self, answer: Callable[[Received], int | bytes] = lambda received: 204) -> None:
        self.answer = answer
        self.received: list[Received] = []
        self.connections = 0
        self.left = threading.Event()  # set at the end: who hangs lets go

        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                received = Received(headers, body, self.path)
                status = receiver.answer(received)
                receiver.received.append(received)
                try:
                    if isinstance(status, bytes):
                        self.wfile.write(status)
                        self.close_connection = True
                        return
                    self.send_response(status)
                    self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    self.close_connection = True  # nobody waits for it any more

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    def hang(self, received: Received) -> int:
        """An answer that does not come until the end."""
        self.left.wait(PATIENCE_S)
        return 204

    def told(self) -> list[tuple[str, str | None]]:
        """All that it was sent: types and users."""
        return [each.told for each in list(self.received)]

    def close(self) -> None:
        """Stop listening."""
        self.left.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
