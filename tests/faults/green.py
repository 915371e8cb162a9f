"""How many green threads a worker has. Nothing outside of it can see them: to the system they are one thread.

A worker that counts them (counted.py) tells whoever connects to a socket of its own, which has a name and no file, see
unix(7). So each worker can be asked, whichever of them takes the connections of clients.
"""

from __future__ import annotations

import gc
import socket
from typing import Any

import gevent
from gevent.server import StreamServer
from greenlet import greenlet

ANSWER_WITHIN_S = 5.0


def green_threads_of(pid: int) -> int:
    """What a worker says. Raises OSError when it has ended, or says nothing."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(ANSWER_WITHIN_S)
        asking.connect(_address_of(pid))
        with asking.makefile() as answer:
            return int(answer.read() or 0)  # to the end: then the worker has let go of this connection


def tell(pid: int) -> None:
    """In the worker `pid`, from now on."""
    listener = gevent.socket.socket(socket.AF_UNIX)
    listener.bind(_address_of(pid))
    listener.listen()
    StreamServer(listener, _tell).start()


def _tell(connection: Any, address: Any) -> None:
    with connection:
        connection.sendall(str(_alive()).encode())


def _alive() -> int:
    """Those that this thread's hub runs or will run, but for who asks. Other threads of the system have other hubs."""
    hub, this = gevent.get_hub(), gevent.getcurrent()
    # By its type: an object may pretend to be of another class, and do much to find out of which.
    found = [each for each in gc.get_objects() if issubclass(type(each), greenlet)]
    return sum(each.parent is hub and not each.dead and each is not this for each in found)


def _address_of(pid: int) -> str:
    return f"\0ticketing-green-threads-{pid}"
