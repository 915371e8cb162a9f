"""One signed POST (Standard Webhooks), within a deadline, to an address that was checked.

The name of a receiver is resolved here, each address is checked, and the connection goes to that very address: a
name that is resolved again for the connection could lead somewhere else by then. The system offers no look-up that
ends in time, so another thread asks, and who waits for it gives up at the deadline. TLS and the Host header have the
name. Redirects are not followed, proxies of the environment not asked, and of an answer no more than a part is read.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpcore
from standardwebhooks import Webhook

from ..addresses import is_public

DEADLINE_S = 10.0
"""One delivery, from the look-up of the name to the status of the answer."""

ANSWER_BYTES_MAX = 64 * 1024
USER_AGENT = "Ticketing-Webhooks/1"
GONE = 410


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery. `error` None: the receiver took it."""

    http_status: int | None = None
    error: str | None = None

    @property
    def is_gone(self) -> bool:
        """The receiver wants no more, ever."""
        return self.http_status == GONE


class ForbiddenAddress(httpcore.ConnectError):
    """None of the addresses of a receiver may be connected to."""


class Sender:
    """Delivers to one receiver at a time, and keeps the connection. Not thread-safe.

    `resolve` is `socket.getaddrinfo`, or for a test what answers like it.
    """

    def __init__(self, *, allow_private: bool, deadline_s: float = DEADLINE_S, resolve: Any = None) -> None:
        self._network = GuardedNetwork(allow_private, LookUps(resolve or socket.getaddrinfo))
        self._deadline_s = deadline_s
        self._pool = httpcore.ConnectionPool(
            max_connections=1, keepalive_expiry=30.0, network_backend=self._network
        )

    def send(self, url: str, secret: str, message_id: str, at: datetime, body: str) -> Outcome:
        """POST a message, signed at the time `at`. Never raises for what a receiver or a network does."""
        headers: dict[bytes | str, bytes | str] = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(message_id, at, body),
        }
        self._network.deadline = time.monotonic() + self._deadline_s
        try:
            with self._pool.stream("POST", url, headers=headers, content=body.encode()) as answer:
                _read_some(answer)
        except ForbiddenAddress:
            return Outcome(error="its address is not a public one")
        except httpcore.TimeoutException:
            return Outcome(error=f"no answer within {self._deadline_s:g} s")
        except httpcore.ConnectError:
            return Outcome(error="no connection")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError):
            return Outcome(error="the connection broke, or the answer was no HTTP")
        if 200 <= answer.status < 300:
            return Outcome(answer.status)
        return Outcome(answer.status, f"answered {answer.status}")

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


def _read_some(answer: httpcore.Response) -> None:
    """Read an answer that is short, so that its connection can be kept. What is longer is cut off."""
    size = 0
    try:
        for part in answer.iter_stream():
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                return
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        return  # the status is there, and is all that matters


class LookUps:
    """Looks up one name at a time, in a thread of its own. Not thread-safe.

    A name server that does not answer holds a thread for some 30 s. So there is one at most: whoever asks meanwhile
    waits for it too. It is a daemon, for which no end of the process waits.
    """

    def __init__(self, resolve: Any) -> None:
        self._resolve = resolve
        self._asked: tuple[str, int] | None = None
        self._answer: Future[list[str]] = Future()
        self._answer.set_result([])

    def addresses(self, host: str, port: int, within_s: float) -> list[str]:
        """The addresses of `host`, each once. Raises what `resolve` raises, and TimeoutError when time is over."""
        until_s = time.monotonic() + within_s
        if self._asked != (host, port):
            wait([self._answer], within_s)
        if self._answer.done():
            self._ask(host, port)
        elif self._asked != (host, port):
            raise TimeoutError
        return self._answer.result(max(0.0, until_s - time.monotonic()))

    def _ask(self, host: str, port: int) -> None:
        answer: Future[list[str]] = Future()

        def look_up() -> None:
            try:
                found = self._resolve(host, port, type=socket.SOCK_STREAM)
                answer.set_result(list(dict.fromkeys(str(each[4][0]) for each in found)))
            except Exception as error:
                answer.set_exception(error)

        threading.Thread(target=look_up, name="webhooks-look-up", daemon=True).start()
        self._asked, self._answer = (host, port), answer


class GuardedNetwork(httpcore.NetworkBackend):
    """Connects to addresses that it has checked, and lets nothing go on past `deadline` (`time.monotonic()`)."""

    def __init__(self, allow_private: bool, look_ups: LookUps) -> None:
        self.deadline = 0.0
        self._allow_private = allow_private
        self._look_ups = look_ups
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of `host` that can be reached. Raises httpcore's errors."""
        try:
            addresses = self._look_ups.addresses(host, port, self.left_s())
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        allowed = [each for each in addresses if self._allow_private or is_public(each)]
        if not allowed:
            raise ForbiddenAddress(host)
        for number, address in enumerate(allowed):
            try:
                stream = self._real.connect_tcp(
                    address, port, self.left_s(), local_address, socket_options
                )
                return BoundedStream(stream, self)
            except httpcore.ConnectError:
                if number == len(allowed) - 1:
                    raise
        raise AssertionError("unreachable")

    def left_s(self) -> float:
        """Seconds until the deadline. Raises `httpcore.TimeoutException` when it has passed."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout
        return left_s


class BoundedStream(httpcore.NetworkStream):
    """A connection whose every step ends with the deadline: an answer that drips cannot hold anybody up."""

    def __init__(self, stream: httpcore.NetworkStream, network: GuardedNetwork) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes."""
        return self._stream.read(max_bytes, self._network.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of the bytes."""
        self._stream.write(buffer, self._network.left_s())

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same under TLS, for the name of the receiver."""
        stream = self._stream.start_tls(ssl_context, server_hostname, self._network.left_s())
        return BoundedStream(stream, self._network)

    def get_extra_info(self, info: str) -> Any:
        """As httpcore asks for it."""
        return self._stream.get_extra_info(info)
