"""What is said when a listener is there, and how it ends without a reset.

The kernel completes connections by itself, and their clients send at once; whoever has not been accepted when the last
process closes the listener is reset, his request lost. To accept until nobody waits is not enough: the next may come
between the last look and the closing. So nobody new is let in first.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

HANDSHAKE_S = 0.5
"""How long whoever has begun a connection has to complete it: longer than the way around the world and back takes."""

WORD_FD = "TICKETING_WORD_FD"
"""In the environment of gunicorn, the descriptor of a pipe for `say_it_listens`, if somebody wants to hear it."""

_WORD = b"\n"

SO_ATTACH_FILTER = 26  # asm-generic/socket.h of Linux; Python does not name it

# A filter for the kernel (classic BPF, filter.rst of Linux): each instruction is code, jump if true, jump if false,
# operand. A listener's filter sees a packet from its TCP header on; the header's byte 13 holds the flags.
_INSTRUCTION = struct.Struct("HBBI")
_DROP_THOSE_WITH_SYN = b"".join(
    _INSTRUCTION.pack(*each)
    for each in (
        (0x30, 0, 0, 13),  # load the byte at 13
        (0x45, 0, 1, 0x02),  # is SYN among its bits? if not, leave the next out
        (0x06, 0, 0, 0),  # keep nothing of the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
    )
)


def say_it_listens() -> None:
    """In gunicorn: it does, and not somebody else at its address."""
    word = os.environ.pop(WORD_FD, None)
    if word is not None:
        os.write(int(word), _WORD)
        os.close(int(word))


def it_listens(heard: int) -> bool:
    """What the other end of the pipe says. Wait for nothing: it does not block."""
    try:
        return os.read(heard, 1) == _WORD
    except BlockingIOError:
        return False


def let_nobody_in(listener: socket.socket) -> None:
    """Begin no connection any more; those that have begun can still be completed, and accepted.

    It holds for all processes that share the listener. A client that comes hears nothing, asks again after a second
    (tcp(7)), and is refused if the listener is closed by then. Where there is no such filter, on other systems than
    Linux, newcomers are let in until the end.
    """
    program = ctypes.create_string_buffer(_DROP_THOSE_WITH_SYN, len(_DROP_THOSE_WITH_SYN))
    instructions = len(_DROP_THOSE_WITH_SYN) // _INSTRUCTION.size
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", instructions, ctypes.addressof(program))
        )
    except OSError:
        pass  # nothing is worse for it than without
