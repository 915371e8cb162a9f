"""A proxy between the service and mongod: what a network can do to a request, and to its answer.

It reads whole messages of MongoDB's wire protocol, so that it knows what it cuts, and counts it: a fault that
never happened shows nothing.
"""

from __future__ import annotations

import random
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import Enum

from pymongo.uri_parser import parse_uri

OP_MSG = 2013  # what everything but a connection's first `hello` is sent as
MORE_TO_COME = 2  # a flag of OP_MSG: another answer follows without being asked for


class Cut(Enum):
    """Where a connection ends."""

    BEFORE_THE_REQUEST = "mongod never hears of it"
    BEFORE_THE_ANSWER = "mongod has done it, and nobody hears of that"
    IN_THE_ANSWER = "half of the answer arrives"


class Proxy:
    """Listens on a port of its own, and passes everything on to the mongod of `target_uri`, until told otherwise.

    `cuts` counts the connections that were cut, by where and by the command; `held` the messages, by command, that
    had to wait in `holding`.
    """

    def __init__(self, target_uri: str, *, seed: int = 1) -> None:
        self.cuts: Counter[tuple[Cut, str]] = Counter()
        self.held: Counter[str] = Counter()
        self._target = parse_uri(target_uri)["nodelist"][0]
        self._rng = random.Random(seed)
        self._cut_chance = 0.0
        self._cut_kinds: tuple[Cut, ...] = ()
        self._delay_s = 0.0
        self._hold_from: str | None = None
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._is_closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="proxy")]

    @property
    def uri(self) -> str:
        """Where clients reach mongod through it. directConnection: they must not be told of the way around it."""
        return f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"

    @property
    def connections(self) -> int:
        """How many clients have made."""
        return len(self._threads) - 1

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_closing.set()
        self._may_pass.set()
        _shut_down(self._listener)
        self._threads[0].join()  # from here on no connection is added
        for end in self._sockets:
            _shut_down(end)
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    @contextmanager
    def cutting(self, chance: float, *kinds: Cut) -> Iterator[None]:
        """Each request meets its connection's end with this chance, in one of these ways (all, if none is named)."""
        self._cut_chance, self._cut_kinds = chance, kinds or tuple(Cut)
        try:
            yield
        finally:
            self._cut_chance = 0.0

    @contextmanager
    def delaying(self, seconds: float) -> Iterator[None]:
        """Each message waits for so long, in either direction."""
        self._delay_s = seconds
        try:
            yield
        finally:
            self._delay_s = 0.0

    @contextmanager
    def holding(self, first: str) -> Iterator[None]:
        """From the next `first` (a command) on nothing passes, and nobody is told.

        Afterwards all of it arrives, like packets that are sent again: also what nobody waits for any more.
        """
        self._hold_from = first
        try:
            yield
        finally:
            self._hold_from = None
            self._may_pass.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # we are closing
            thread = threading.Thread(target=self._carry, args=(client,), name="proxy-connection")
            self._sockets.append(client)
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket) -> None:
        """Carry the messages of one connection: a request, its answers, the next request."""
        try:
            with closing(client), socket.create_connection(self._target) as server:
                self._sockets.append(server)
                while self._carry_one(client, server):
                    pass
        except OSError:
            pass  # either side has closed it; `with` closes the other

    def _carry_one(self, client: socket.socket, server: socket.socket) -> bool:
        """Carry one request and its answers. False: the connection ends here. Raises OSError, for that too."""
        request = _read_message(client)
        command = _command_of(request)
        cut = self._draw_cut(command)
        if cut is Cut.BEFORE_THE_REQUEST:
            return False
        if command == self._hold_from:
            self._may_pass.clear()
        self._pass(request, server, command)
        while True:
            # Who sends nothing while it waits for an answer, and yet can be read from, has gone.
            if server not in select.select([client, server], [], [])[0]:
                return False
            answer = _read_message(server)
            if cut is Cut.BEFORE_THE_ANSWER:
                return False
            if cut is Cut.IN_THE_ANSWER:
                client.sendall(answer[: len(answer) // 2])
                return False
            self._pass(answer, client, command)
            if not _is_followed(answer):
                return True

    def _draw_cut(self, command: str) -> Cut | None:
        if self._rng.random() >= self._cut_chance:
            return None
        cut = self._rng.choice(self._cut_kinds)
        self.cuts[cut, command] += 1
        return cut

    def _pass(self, message: bytes, target: socket.socket, command: str) -> None:
        self._is_closing.wait(self._delay_s)
        if not self._may_pass.is_set():
            self.held[command] += 1
            self._may_pass.wait()
        target.sendall(message)


def _read_message(source: socket.socket) -> bytes:
    """The next message. Raises OSError at the end of the connection."""
    size = _read(source, 4)
    return size + _read(source, int.from_bytes(size, "little") - len(size))


def _read(source: socket.socket, size: int) -> bytes:
    read = source.recv(size, socket.MSG_WAITALL)
    if len(read) < size:
        raise ConnectionError
    return read


def _command_of(request: bytes) -> str:
    """The name of a request's command: a head of 16 bytes, 4 of flags, 1 of kind, then BSON, whose first key it is."""
    if int.from_bytes(request[12:16], "little") != OP_MSG:
        return "hello"
    return request[26 : request.index(0, 26)].decode()


def _is_followed(answer: bytes) -> bool:
    return int.from_bytes(answer[12:16], "little") == OP_MSG and bool(answer[16] & MORE_TO_COME)


def _shut_down(end: socket.socket) -> None:
    """End its connection both ways, which wakes who reads from it."""
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended
