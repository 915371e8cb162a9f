"""gunicorn's settings, from ours: `gunicorn -c python:ticketing.gunicorn_conf wsgi:app`.

Each name that gunicorn knows is one of its settings; the others begin with `_`. Its gthread worker accepts in
its main thread and hands each request to one of its threads. A wrong setting of ours raises ConfigError here:
gunicorn prints its message without a traceback, and ends.
"""

import gc
import os
import socket
import struct
import sys
from pathlib import Path as _Path
from typing import Any

from gunicorn.glogging import Logger as _GunicornLogger

from ticketing import http_errors as _http_errors
from ticketing.config import Config as _Config
from ticketing.embedded import EmbeddedError, connect_or_start
from ticketing.logs import configure_logging

_config = _Config.from_env()

# The workers inherit both. prometheus_client looks for its folder when it is imported: not before this line.
_http_errors.install()
_metrics_folder = _Path(_config.data_dir, "metrics").absolute()
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_folder)

_SLOW_CLIENT_S = 5
"""How long a thread waits for the next bytes of a request, or for a client to take its answer."""


class _Logger(_GunicornLogger):
    """gunicorn's log through the service's own handler: lines of the same form, without secrets."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        configure_logging(_config)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        # The kernel's patience with a client has ended, see `when_ready`: that is worth no traceback.
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.info("a client was too slow: its connection was closed")
        else:
            super().exception(msg, *args, **kwargs)


bind = _config.bind_address
proc_name = "ticketing"

# Many threads in few processes: threads share commits, processes race each other for a ledger's next place.
workers = _config.web_concurrency
threads = _config.web_threads
worker_class = "gthread"

# Each worker makes its own MongoClient, threads and locks, after the fork: none of them survives one.
preload_app = False

# A worker keeps the state of its events in memory; its replacement would have to fold them all again.
max_requests = 0

# Open connections a worker keeps; between two requests they cost no thread. Who comes on top of that waits in
# the kernel's queue: a rush of thousands in one second is served late, not refused.
worker_connections = 1000
backlog = 2048

# Longer than proxies keep their idle connections (60 s is usual). If ours were the side that closes first, a
# proxy would send a request into a connection that is just being closed.
keepalive = 75

# The heartbeat of a worker's main thread. It does not bound a request: REQUEST_DEADLINE_S does.
timeout = 30

# A stopping worker answers what it has accepted. Each of those requests has its answer within 10 s.
graceful_timeout = 15

# The heartbeat is a file's time: on a disk, a busy disk would look like a dead worker.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None

# gunicorn's own bounds of a request's head, repeated because the service may stand without a proxy.
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190

# gunicorn believes no forwarded header. The app does, for exactly TRUSTED_PROXIES proxies.
forwarded_allow_ips = ""

# The app logs each request, with its id.
accesslog = None
errorlog = "-"
loglevel = _config.log_level
logger_class = _Logger

# Signals are enough to control it. This would be a second way, through a socket in the home folder.
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Log once what each worker would log again, and start the embedded mongod if nobody else did."""
    for note in _config.notes():
        server.log.warning(note)
    try:
        # The workers are forked from this process and read it as their setting; mongod ends with this process.
        os.environ["MONGODB_URI"] = connect_or_start(_config)
    except EmbeddedError as error:
        sys.exit(f"Error: {error}")
    try:
        # Counting begins anew with each start: files of the last one would add up for ever.
        _metrics_folder.mkdir(parents=True, exist_ok=True)
        for file in _metrics_folder.glob("*.db"):
            file.unlink()
    except OSError as error:
        sys.exit(f"Error: The folder {_metrics_folder}, below DATA_DIR, cannot be used: {error.strerror}.")


def child_exit(server: Any, worker: Any) -> None:
    """A worker is gone: what it counted stays, what only a living one can tell goes."""
    # Here, because it looks for its folder: see above.
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def post_worker_init(worker: Any) -> None:
    """Let the garbage collector look less often. What a worker keeps is immutable and has no cycles.

    Folding 100,000 transitions took 2.6 s with Python's own thresholds and 1.1 s with these.
    """
    gc.set_threshold(100_000, 50, 1_000)


def when_ready(server: Any) -> None:
    """Keep slow clients from occupying threads: options which their connections inherit from the listener.

    gthread gives a thread to a connection that has sent nothing yet, and then reads without a limit of time.
    As many clients as there are threads, each sending half a request, would stop a worker for good.
    Who goes on sending a byte now and then still holds a thread: against that, a proxy that buffers.
    """
    patience = struct.pack("ll", _SLOW_CLIENT_S, 0)
    for listener in server.LISTENERS:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        if sys.platform == "linux":
            # tcp(7): a connection is handed over when its first bytes are there, not before.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SLOW_CLIENT_S)
