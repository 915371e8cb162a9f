"""gunicorn's gevent worker, with the manners of an on-sale: patience with thousands, and nobody cut off at the end.

A connection costs a green thread, some 17 KB, so clients that are slow, idle or gone cost memory and nobody's
turn. Import this before anything that opens sockets or makes locks: importing it makes threads green.
"""

from gevent import monkey

# Not what gunicorn's master works with: its signals, its queue of them, and its children.
monkey.patch_all(os=False, signal=False, subprocess=False, queue=False)

import hashlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial, wraps
from types import SimpleNamespace
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http import message, wsgi
from gunicorn.workers.ggevent import GeventWorker

from . import succession
from .listeners import HANDSHAKE_S
from .services import services

LAST_REQUEST_S = 1.0
"""How long a worker that stops still reads from a connection on which nothing is under way."""

FOLLOWERS_S = 10.0
"""How long a worker that a reload has told to stop goes on where no new one begins to serve."""

POLL_S = 0.1


class Worker(GeventWorker):
    """A worker process. When it is told to stop it answers whatever its clients have sent by then."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The connection that each green thread serves, and those which are between two requests.
        self._connections: dict[gevent.Greenlet, socket.socket] = {}
        self._idle: set[socket.socket] = set()

    def patch(self) -> None:
        """In this process: the rest of what gunicorn would patch, and what gevent cannot know."""
        monkey.patch_queue()
        self.sockets: list[Any] = [
            gevent.socket.socket(listener.FAMILY, socket.SOCK_STREAM, fileno=listener.sock.detach())
            for listener in self.sockets
        ]
        # 0.1 s of computing, with the GIL released: everybody else goes on meanwhile.
        hashlib.scrypt = _in_real_thread(hashlib.scrypt)
        # gunicorn looks each setting up by `__getattr__`, some twenty with each request: here they are attributes.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        # It also makes these anew with each request: a stream, a date, and the client's address as an object, to look
        # for it among the proxies that it believes, which are none.
        wsgi.WSGIErrorsWrapper = cache(wsgi.WSGIErrorsWrapper)
        util.http_date = _http_date
        message._ip_in_allow_list = _ip_in_allow_list

    def run(self) -> None:
        """Serve until told to stop."""
        gevent.get_hub().threadpool.maxsize = self.cfg.threads
        with self.wsgi.app_context():
            parts = services()
        servers = [self._serve(listener) for listener in self.sockets]
        parts.begin()
        succession.note_serving()
        while self.alive:
            self.notify()
            gevent.sleep(POLL_S)
        self._wait_for_followers()
        gevent.sleep(HANDSHAKE_S)  # at a stop nobody new is let in by now: these are the last ones
        for server in servers:
            _accept_the_rest(server)
        parts.end()
        self._finish([server.pool for server in servers])

    def _wait_for_followers(self) -> None:
        """After a reload, serve until one of the new workers does; not for ever, for they may never get there."""
        ends_s = time.monotonic() + FOLLOWERS_S
        if succession.is_followed():
            self.log.info("a new worker is not serving yet: this one goes on until it does")
        while succession.is_followed() and time.monotonic() < ends_s:
            self.notify()
            gevent.sleep(POLL_S)

    def _serve(self, listener: socket.socket) -> StreamServer:
        # gunicorn asks it for its name with each connection: also with the last ones, when it is closed.
        name = listener.getsockname()
        named = SimpleNamespace(getsockname=lambda: name)
        server = _Server(listener, partial(self.handle, named), spawn=Pool(self.worker_connections))
        server.start()
        return server

    def _finish(self, pools: list[Pool]) -> None:
        """Wait for the answers under way. Idle connections may send one more request, for a moment."""
        began_s = time.monotonic()
        while any(pools) and time.monotonic() < began_s + self.cfg.graceful_timeout:
            if time.monotonic() > began_s + LAST_REQUEST_S:
                for connection in self._idle:
                    _read_no_more(connection)
            self.notify()
            gevent.sleep(POLL_S)
        for pool in pools:
            pool.kill(timeout=1)

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        """Serve a connection. A client that neither sends nor takes anything is let go like an idle one."""
        client.settimeout(self.cfg.keepalive)
        self._connections[gevent.getcurrent()] = client
        try:
            # Not GeventWorker's, which only takes the timeout away.
            super(GeventWorker, self).handle(listener, client, addr)
        finally:
            del self._connections[gevent.getcurrent()]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer a request; the head of the answer goes out with the first piece of its body."""
        joining = _Joining(sock)
        try:
            super().handle_request(listener_name, req, joining, addr)
        except StopIteration:  # the connection is to be closed
            joining.flush()
            raise
        joining.flush()

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Where gunicorn waits for the next request of a connection, and reads its head."""
        client = self._connections[gevent.getcurrent()]
        self._idle.add(client)
        try:
            with super().timeout_ctx():
                yield
        finally:
            self._idle.discard(client)


class _Joining:
    """A connection while one request is answered: what is sent first waits for the second, and both go as one.

    gunicorn sends the head by itself, which costs a packet, a system call, and the client that it wakes up.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._first: bytes | None = None  # nothing yet; then what waits; then empty

    def sendall(self, data: bytes) -> None:
        """Send, or keep the first for a moment."""
        if self._first is None:
            self._first = data
        else:
            first, self._first = self._first, b""
            self._client.sendall(first + data)

    def flush(self) -> None:
        """There is nothing to wait for."""
        if self._first:
            first, self._first = self._first, b""
            self._client.sendall(first)

    def __getattr__(self, name: str) -> Any:
        self.flush()  # whatever else is done with the connection comes after it
        return getattr(self._client, name)


class _Server(StreamServer):
    """Takes few connections in a turn of the loop while it has few: the others are for the other workers.

    In a crowd it takes many, or newcomers would wait for seconds while others are served again and again.
    """

    @property
    def max_accept(self) -> int:
        """How many to take before others have their turn."""
        return 1 + len(self.pool) // 4

    @max_accept.setter
    def max_accept(self, value: int) -> None:
        pass  # gevent's own choice


_date_in_second = lru_cache(maxsize=1)(util.http_date)


def _http_date(timestamp: float | None = None) -> str:
    """gunicorn's, made once a second."""
    date: str = _date_in_second(int(time.time() if timestamp is None else timestamp))
    return date


_ip_among_some = message._ip_in_allow_list


def _ip_in_allow_list(address: str, allowed: Sequence[str], networks: Sequence[Any]) -> bool:
    """gunicorn's, where there is anything to look for."""
    return bool(allowed) and bool(_ip_among_some(address, allowed, networks))


def _accept_the_rest(server: StreamServer) -> None:
    """Take what waits in the kernel's queue, which closing the listener would reset, then close it."""
    server.stop_accepting()
    while accepted := server.do_read():
        server.do_handle(*accepted)
    server.close()


def _read_no_more(connection: Any) -> None:
    """What has come is still read and answered; then the connection looks as if its client had closed it."""
    try:
        # The socket below gevent's, whose own shutdown would interrupt the reader with an error.
        connection._sock.shutdown(socket.SHUT_RD)
    except OSError:
        pass  # it has gone by itself


def _in_real_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return gevent.get_hub().threadpool.apply(function, args, kwargs)

    return call
