"""Ports for the servers that tests start."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Below those that Linux gives away by itself (ip(7): from 32768 on, unless told), so that between the choice and the
# start of the server nobody gets the port by chance; and a part for each process of the suite, from some place on, for
# there may be another suite.
_FIRST, _LAST, _PROCESSES = 12_000, 32_000, 20
_OF_EACH = (_LAST - _FIRST) // _PROCESSES
_mine = _FIRST + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES * _OF_EACH
_begin = random.SystemRandom().randrange(_OF_EACH)
_numbers = itertools.cycle(_mine + (_begin + number) % _OF_EACH for number in range(_OF_EACH))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, and that no other test is given soon."""
    for port in itertools.islice(_numbers, _OF_EACH):
        with socket.socket() as probe:
            # As servers do: connections of before that linger in TIME_WAIT do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
