"""gunicorn's settings, from ours: `gunicorn -c python:ticketing.gunicorn_conf wsgi:app`.

Each name that gunicorn knows is one of its settings; the others begin with `_`. A wrong setting of ours raises
ConfigError here: gunicorn prints its message without a traceback, and ends.
"""

from ticketing import worker as _worker  # before all others: it makes threads green

import gc
import os
import resource
import sys
from collections.abc import Callable as _Callable
from pathlib import Path as _Path
from typing import Any

from gunicorn.glogging import Logger as _GunicornLogger

from ticketing import http_errors as _http_errors
from ticketing import listeners as _listeners
from ticketing import succession as _succession
from ticketing.config import Config as _Config
from ticketing.embedded import EmbeddedError, connect_or_start
from ticketing.event_table import SUFFIX as _EVENTS_SUFFIX
from ticketing.logs import configure_logging
from ticketing.storage.recent import share as _share_commits
from ticketing.turns import share as _share_turns

_config = _Config.from_env()

# The workers inherit all of this. prometheus_client looks for its folder when it is imported: not before this line.
_http_errors.install()
_share_turns()
_share_commits()
_succession.share()
_metrics_folder = _Path(_config.data_dir, "metrics").absolute()
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_folder)

_CONNECTIONS_MAX = 10_000
"""Open connections of a worker. A green thread each, 17 KB where it was measured (docs/decisions/0010)."""

_FILES_BESIDE = 200
"""What a worker opens besides: its connections to MongoDB and Redis, logs, counters."""


class _Logger(_GunicornLogger):
    """gunicorn's log through the service's own handler: lines of the same form, without secrets."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        configure_logging(_config)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        # The worker's patience with a client has ended, see `keepalive`: that is worth no traceback.
        if isinstance(sys.exc_info()[1], TimeoutError):
            self.info("a client was too slow: its connection was closed")
        else:
            super().exception(msg, *args, **kwargs)


# 127.0.0.1 unless told: what listens for the world is the proxy in front, with TLS. In a container HOST is 0.0.0.0.
bind = _config.bind_address
proc_name = "ticketing"

# One for each core: requests in one process share commits, processes race each other for a ledger's next place.
workers = _config.web_concurrency
worker_class = _worker.Worker

# Requests need none of them: they run in green threads. To hash a password would stop all of those for as long as it
# takes (docs/decisions/0010), so it is given to these few; each holds 32 MiB meanwhile.
threads = _config.web_threads

# Each worker makes its own MongoClient, threads and locks, after the fork: none of them survives one.
preload_app = False

# A worker keeps the state of its events in memory; its replacement would have to fold them all again.
max_requests = 0

# The usual limit of 1,024 open files would allow far fewer: raise it as far as is needed and allowed.
_files, _files_allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
_files_wanted = _CONNECTIONS_MAX + _FILES_BESIDE
if _files != resource.RLIM_INFINITY and _files < _files_wanted:
    _files = _files_wanted if _files_allowed == resource.RLIM_INFINITY else min(_files_wanted, _files_allowed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_files, _files_allowed))

# Who comes on top of that waits in the kernel's queue: a rush of thousands in one second is served late, not refused.
_is_bounded = _files != resource.RLIM_INFINITY
worker_connections = min(_CONNECTIONS_MAX, _files - _FILES_BESIDE) if _is_bounded else _CONNECTIONS_MAX
backlog = 2048

# Longer than proxies keep their idle connections (60 s is usual). If ours were the side that closes first, a
# proxy would send a request into a connection that is just being closed.
# It is also how long a client may be silent in the middle of a request, or leave an answer unread.
keepalive = 75

# The heartbeat of a worker. It does not bound a request: REQUEST_DEADLINE_S does.
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
    server.stop = _last_call_before(server.stop, server)
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
        for file in (*_metrics_folder.glob("*.db"), *_metrics_folder.glob(f"*{_EVENTS_SUFFIX}")):
            file.unlink()
    except OSError as error:
        sys.exit(f"Error: The folder {_metrics_folder}, below DATA_DIR, cannot be used: {error.strerror}.")


def when_ready(server: Any) -> None:
    """Tell who started it."""
    _listeners.say_it_listens()


def _last_call_before(stop: _Callable[..., None], server: Any) -> _Callable[..., None]:
    """gunicorn's stop, which closes its listeners and then tells the workers: before that, nobody new comes in."""

    def stop_after_last_call(*args: Any, **kwargs: Any) -> None:
        # A listener of somebody else (systemd's, fd://), or of another gunicorn too (USR2), may go on.
        is_ours = all(isinstance(address, tuple) for address in server.cfg.address) and not server.systemd
        if is_ours and server.reexec_pid == server.master_pid == 0:
            for listener in server.LISTENERS:
                _listeners.let_nobody_in(listener.sock)
        _succession.end()
        stop(*args, **kwargs)

    return stop_after_last_call


def on_reload(server: Any) -> None:
    """The workers that are forked next follow those that serve, and share nothing that those know of ledgers.

    Whoever restores a database, or sets another one, reloads: the new workers must not go on from the old one.
    """
    _succession.begin_generation()
    _share_commits()


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
