"""docs/operations/nginx.conf in a running nginx, in front of the service. Only ports and certificate are others."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port
from tests.service.conftest import Start
from tests.service.running import DEADLINE_S, ROOT, eventually

SITE = ROOT / "docs" / "operations" / "nginx.conf"
CREDENTIALS = ("admin", "a password for the tests")
MAIN = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    {temp_paths}
    include {folder}/site.conf;
}}
"""
TEMP_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """nginx with our site, on a free port of 127.0.0.1, in front of what listens at `upstream_port`."""

    def __init__(self, folder: Path, upstream_port: int, **replaced: str) -> None:
        self.port, self.plain_port = free_port(), free_port()
        site = SITE.read_text()
        for old, new in {
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream_port};",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl;",
            "/etc/ssl/ticketing/": f"{folder}/",
            **replaced,
        }.items():
            assert old in site
            site = site.replace(old, new)
        (folder / "site.conf").write_text(site)
        temp_paths = "\n    ".join(f"{name}_temp_path {folder}/{name};" for name in TEMP_PATHS)
        # Its worker must be able to enter the folder of the test, which is its owner's alone.
        user = "user root;" if folder.owner() == "root" else ""
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, temp_paths=temp_paths, user=user))
        self.url = f"https://127.0.0.1:{self.port}"
        command = ["nginx", "-e", "stderr", "-c", str(folder / "nginx.conf")]
        subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=DEADLINE_S)
        self._process = subprocess.Popen(command)
        eventually(self._listens)

    def client(self, address: str = "127.0.0.1") -> httpx.Client:
        """A client that comes from another address of this machine."""
        transport = httpx.HTTPTransport(local_address=address, verify=_unverified())
        return httpx.Client(base_url=self.url, transport=transport, timeout=DEADLINE_S)

    def send(self, text: bytes) -> ssl.SSLSocket:
        """A connection on which so much was sent."""
        plain = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        connection = _unverified().wrap_socket(plain)
        connection.sendall(text)
        return connection

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def _listens(self) -> bool:
        assert self._process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Upstream(ThreadingHTTPServer):
    """In the place of the service: notes who asks, as soon as the head of a request is there."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Upstream)
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quietly."""


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def nginx_before(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """Starts nginx in front of a port, with other lines in its configuration where told."""
    folder, started = tmp_path / "nginx", []
    folder.mkdir()
    certificate = ["-keyout", f"{folder}/privkey.pem", "-out", f"{folder}/fullchain.pem"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(["openssl", "req", *kind, *certificate], check=True, capture_output=True, timeout=DEADLINE_S)

    def start(port: int, **replaced: str) -> Nginx:
        started.append(Nginx(folder, port, **replaced))
        return started[-1]

    yield start
    for nginx in started:
        nginx.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """One that ends with the test."""
    upstream = Upstream()
    yield upstream
    upstream.close()


SLOW = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n12345"


def test_a_slow_sender_is_waited_for_by_nginx(nginx_before: Callable[..., Nginx], upstream: Upstream) -> None:
    """The service hears of it when its request is complete; who came later and was quicker is served first."""
    nginx = nginx_before(upstream.server_port)
    with nginx.send(SLOW) as slow, nginx.client() as quick:
        assert quick.post("/quick").status_code == 200
        assert upstream.asked == ["/quick"]
        slow.sendall(b"67890")
        assert slow.recv(12) == b"HTTP/1.1 200"
    assert upstream.asked == ["/quick", "/slow"]


def test_without_buffering_the_service_would_wait(nginx_before: Callable[..., Nginx], upstream: Upstream) -> None:
    """The control: half of a request is enough to keep the service busy."""
    nginx = nginx_before(upstream.server_port, **{"proxy_request_buffering on;": "proxy_request_buffering off;"})
    with nginx.send(SLOW):
        eventually(lambda: upstream.asked == ["/slow"])


def test_the_service_behind_nginx(make_lean_service: Start, nginx_before: Callable[..., Nginx]) -> None:
    """TLS only; a client is its own address, whatever it says of itself; /metrics is not for the world; and when the
    service is gone its clients are told what it would say itself."""
    service = make_lean_service(
        TRUSTED_PROXIES="1",
        RATELIMIT_BOOK="2/minute",
        BASIC_AUTH_USERNAME=CREDENTIALS[0],
        BASIC_AUTH_PASSWORD=CREDENTIALS[1],
    )
    service.start().wait_until_serving()
    nginx = nginx_before(service.port)
    moved = httpx.get(f"http://127.0.0.1:{nginx.plain_port}/docs")
    assert (moved.status_code, moved.headers["Location"]) == (308, "https://tickets.example.com/docs")

    with nginx.client() as one, nginx.client("127.0.0.2") as other:
        event = {"event_id": "concert", "name": "Concert", "total_tickets": 9}
        opened = one.post("/initialize", json=event, auth=CREDENTIALS)
        assert (opened.status_code, opened.headers["Location"]) == (201, "/events/concert")
        assert opened.headers["Strict-Transport-Security"]

        def book(client: httpx.Client, name: str, forged: str) -> int:
            order = {"event_id": "concert", "user_id": name}
            return client.post("/book", json=order, headers={"X-Forwarded-For": forged}).status_code

        assert [book(one, f"one-{n}", f"203.0.113.{n}") for n in range(3)] == [201, 201, 429]
        assert book(other, "other", "127.0.0.1") == 201
        assert other.post("/book", json={"event_id": "x" * 100_000}).json()["code"] == "body_too_large"
        assert (one.get("/metrics").status_code, other.get("/metrics").status_code) == (200, 403)

        assert service.stop() == 0
        gone = one.get("/status/concert")
        assert (gone.status_code, gone.json()["code"]) == (503, "storage_unavailable")
        assert gone.headers["Content-Type"] == "application/problem+json"
        assert gone.headers["Retry-After"] == "1"
