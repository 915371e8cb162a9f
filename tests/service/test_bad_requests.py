"""Bytes that are no request, or none that means one thing, over a real gunicorn: each is refused as a problem."""

from __future__ import annotations

import http.client
import json
import re
import socket

from tests.service.running import DEADLINE_S, Service

GET = b"GET /status/nowhere HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /book HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
BODY = b'{"event_id": "a", "user_id": "b"}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
END = b"\r\n"
BASIC = b"Authorization: Basic "

REFUSED: dict[str, tuple[int, bytes]] = {
    # Credentials.
    "8 KiB of Basic": (431, GET + BASIC + b"A" * 8_192 + END + END),
    "nearly 8 KiB of Basic": (401, GET + BASIC + b"A" * 8_000 + END + END),
    "two of them": (401, GET + (BASIC + b"YTpi" + END) * 2 + END),
    "Basic in Latin-1": (401, GET + BASIC + b"\xff\xfe" + END + END),
    "Basic with NUL": (400, GET + BASIC + b"\0" + END + END),
    # Headers.
    "NUL": (400, GET + b"X-A: a\0b" + END + END),
    "a folded line": (400, GET + b"X-A: a\r\n b" + END + END),
    "a name with a space": (400, GET + b"X-A : a" + END + END),
    "no name": (400, GET + b": a" + END + END),
    "two hosts": (400, GET + b"Host: y" + END + END),
    # Which body is meant? What two servers answer differently is how requests are smuggled.
    "a negative length": (400, POST + b"Content-Length: -1" + END + END + BODY),
    "a length with a sign": (400, POST + b"Content-Length: +33" + END + END + BODY),
    "no length": (400, POST + b"Content-Length: many" + END + END + BODY),
    "two lengths": (400, POST + LENGTH + b"Content-Length: 5" + END + END + BODY),
    "length and chunks": (400, CHUNKED + LENGTH + END + b"0\r\n\r\n"),
    "chunked twice": (400, CHUNKED + b"Transfer-Encoding: chunked" + END + END + b"0\r\n\r\n"),
    "a length without bound": (413, POST + b"Content-Length: " + b"9" * 30 + END + END + BODY),
    "chunks of no size": (400, CHUNKED + END + b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks of less than nothing": (400, CHUNKED + END + b"-1\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks of another size": (400, CHUNKED + END + b"21\r\n" + BODY + b"XX0\r\n\r\n"),
    "a broken trailer": (400, CHUNKED + END + b"21\r\n" + BODY + b"\r\n0\r\nx y: z\r\n\r\n"),
    "chunks without an end": (400, CHUNKED + END + b"21\r\n" + BODY + b"\r\n"),
    "a body without its end": (400, POST + b"Content-Length: 500" + END + END + BODY),
    "too many chunks": (413, CHUNKED + END + (b"2000\r\n" + b" " * 8_192 + b"\r\n") * 9 + b"0\r\n\r\n"),
    "an expectation": (417, POST + LENGTH + b"Expect: 200-ok" + END + END + BODY),
    # The request line.
    "a path of bytes": (400, b"GET /\xff HTTP/1.1\r\nHost: x" + END + END),
    "a query of bytes": (400, b"GET /status/a?\xff HTTP/1.1\r\nHost: x" + END + END),
    "a broken escape": (404, b"GET /status/%zz HTTP/1.1\r\nHost: x" + END + END),
    "an escaped NUL": (404, b"GET /status/%00%ff HTTP/1.1\r\nHost: x" + END + END),
    "the way out": (404, b"GET /docs/assets/%2e%2e/%2e%2e/auth.py HTTP/1.1\r\nHost: x" + END + END),
    "a lower-case method": (400, b"get /healthz HTTP/1.1\r\nHost: x" + END + END),
    "an unknown method": (405, b"FETCH /healthz HTTP/1.1\r\nHost: x" + END + END),
    "a tunnel": (404, b"CONNECT x:443 HTTP/1.1\r\nHost: x" + END + END),
    "HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "bare line feeds": (400, b"GET /healthz HTTP/1.1\nHost: x\n\n"),
}


def sent(service: Service, request: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """The answer to these very bytes, after which nothing more is sent, and its body."""
    with socket.create_connection(("127.0.0.1", service.port), DEADLINE_S) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer, answer.read()


def test_each_is_refused(lean_service: Service) -> None:
    """With the right status, a problem and an id; no 500, no trace in the log, and nothing is booked."""
    for name, (status, request) in REFUSED.items():
        answer, body = sent(lean_service, request)
        assert answer.status == status, (name, body)
        assert answer.headers["Content-Type"] == "application/problem+json", name
        assert json.loads(body)["status"] == status, name
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"]), name
    assert lean_service.get("/healthz").status_code == 200
    assert "Traceback" not in lean_service.output
    assert lean_service.stop() == 0


def test_what_follows_broken_chunks_is_no_request(lean_service: Service) -> None:
    """The connection ends: nobody can say where the next request would begin."""
    for name in ("chunks of no size", "chunks of another size", "a broken trailer"):
        _, request = REFUSED[name]
        with socket.create_connection(("127.0.0.1", lean_service.port), DEADLINE_S) as connection:
            connection.sendall(request + GET + END)
            answers = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert answers.count(b"HTTP/1.1 ") == 1 and answers.startswith(b"HTTP/1.1 400 "), name
