"""Start a program that ends when the process that started it ends, however that ends.

`start` runs this file as a script, which asks the kernel for a signal at its parent's death and then becomes
the program (execve keeps that wish, see prctl(2), PR_SET_PDEATHSIG). A fresh interpreter instead of
`preexec_fn`: code between fork and exec can deadlock when the parent has other threads, and the standard
library is about to drop it. It costs 15 ms.

The kernel means the *thread* that called fork, not the process: call `start` from the main thread. Where
there is no prctl (macOS) the program just runs on after a SIGKILL of its parent; who starts next finds it by
its lock.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def start(
    command: Sequence[str | Path],
    output: IO[bytes] | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, so that Ctrl-C in a terminal reaches only us.

    It gets SIGTERM when the calling thread ends. `output` takes what it prints, None: our own output does.
    `inherited` are file descriptors that it keeps.
    """
    tethered = [sys.executable, "-I", __file__, str(os.getpid()), *map(str, command)]
    return subprocess.Popen(
        tethered,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output and subprocess.STDOUT,
        start_new_session=True,
        pass_fds=inherited,
    )


def become(parent_pid: int, command: Sequence[str]) -> None:
    """Turn this process into `command`, bound to the life of its parent. Returns only if that is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before prctl took effect: then nobody would ever send that signal.
    if os.getppid() == parent_pid:
        os.execv(command[0], [*command])


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
