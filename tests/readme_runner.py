"""Follows a document as its reader would: runs its commands, in order, and compares what they print.

A block fenced as `sh` is a command. A block fenced as `json` or `text` is the answer of the command before
it; a command without one only has to succeed. A block of another language whose first line is a comment with a
file's name is that file, and is written. Ids, times, random bytes, the folder and the port differ from
run to run, so they are compared as placeholders: the first order id that is shown is `<order 1>` on both
sides, and so on.

`perform` runs, `mistakes` compares: so a test can also compare an altered document with a true run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_port

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
ORDER_ID = re.compile(r"(?<![\w-])(?P<event>[A-Za-z0-9][\w-]{0,63})\.[\w-]{22}(?![\w-])")
FILE = re.compile(r"(?:#|//) (?P<name>[\w-]+\.\w+)\n")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
BYTES = re.compile(r'(?P<before>"base64": *")[A-Za-z0-9+/=]+')

SHOWN_FOLDER = "/home/you/ticketing"
SHOWN_ADDRESS = "127.0.0.1:8000"
SHOWN_RECEIVER = "127.0.0.1:9000"

SERVERS = {
    "make run": "ticketing:   curl",
    ".venv/bin/gunicorn -c python:ticketing.gunicorn_conf wsgi:app": "",
}
"""Commands that go on until they are stopped, and how the last line that they print at their start begins. A
reader starts one after Ctrl-C has ended the other."""

COMMAND_DEADLINE_S = 60.0
SERVER_DEADLINE_S = 90.0

COPIED = ("Makefile", "requirements.txt", ".env.example", "wsgi.py", "ticketing", "docs")
END_OF_FILE = "-- end of file --"
END_OF_OUTPUT = "-- end of output --"


class CommandFailed(Exception):
    """A command of a document did not succeed. The message names the document's line."""


@dataclass(frozen=True)
class Step:
    """One command of a document and the answer that is shown for it, if any. `line` is the command's."""

    line: int
    command: str
    answer: str | None = None
    language: str = ""


def steps_of(text: str, left_out: Iterable[str] = ()) -> list[Step]:
    """The steps of a document without the command lines `left_out`.

    Raises ValueError for an answer without a command.
    """
    steps: list[Step] = []
    answerable = False
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 2
        body = textwrap.dedent(fence["body"])
        if fence["language"] == "sh":
            lines = [each for each in body.splitlines() if plain(each) not in left_out]
            answerable = bool(lines)
            if lines:
                steps.append(Step(line, "\n".join(lines)))
        elif fence["language"] in ("json", "text"):
            if not answerable:
                raise ValueError(f"line {line}: an answer without a command")
            steps[-1] = Step(steps[-1].line, steps[-1].command, body, fence["language"])
            answerable = False
        elif file := FILE.match(body):
            steps.append(Step(line, f"cat > {file['name']} <<'{END_OF_FILE}'\n{body}{END_OF_FILE}"))
            answerable = False
    return steps


def plain(command: str) -> str:
    """A command line without its comment and its extra spaces."""
    with contextlib.suppress(ValueError):  # a quote that is closed on another line
        return shlex.join(shlex.split(command, comments=True))
    return command


def mistakes(steps: Sequence[Step], outputs: Sequence[str]) -> list[str]:
    """What the document says, and what was printed instead: a line for each answer that is wrong."""
    said_ids, printed_ids = _Ids(), _Ids()
    found = []
    for step, output in zip(steps, outputs, strict=True):
        if step.answer is None:
            continue
        read = _values if step.language == "json" else _lines
        printed = read(printed_ids.replaced(output))
        try:
            said: Any = read(said_ids.replaced(step.answer))
        except ValueError as error:
            said = f"something that is no JSON ({error})"
        if said != printed:
            found.append(f"line {step.line}: {step.command}\nsaid:    {said}\nprinted: {printed}")
    return found


class _Ids:
    """Gives order ids, times and bytes the names under which they are compared."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def replaced(self, text: str) -> str:
        text = BYTES.sub(r"\g<before><bytes>", TIME.sub("<time>", text))
        return ORDER_ID.sub(self._name, text)

    def _name(self, match: re.Match[str]) -> str:
        number = self._numbers.setdefault(match[0], len(self._numbers) + 1)
        return f"{match['event']}.<order {number}>"


def _values(text: str) -> list[str]:
    """The JSON values that follow each other in a text, in one layout; the order of members counts."""
    decoder, values, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(json.dumps(value))
        text = text[end:].lstrip()
    return values


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


class Workplace:
    """What a reader has: a folder with the project in it, a shell, and a terminal for the service.

    The environment of the running tests stands in for the one that `make run` would install first.
    """

    def __init__(self, folder: Path, project: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.receiver = f"127.0.0.1:{free_port()}"
        self._copy(project)
        self._environment = {
            # What the tests brought with them, such as node and http.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PORT": str(self.port),
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _copy(self, project: Path) -> None:
        for name in COPIED:
            source = project / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, self.folder / name)
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, start in {"python": "", "flask": "-m flask ", "gunicorn": "-m gunicorn "}.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {start}"$@"\n')
            program.chmod(0o755)
        for stamp in (".made", ".installed"):
            (self.folder / ".venv" / stamp).touch()

    def perform(self, step: Step) -> str:
        """Run the command of a step; return what it printed, as if in the folder and at the port shown."""
        command = step.command.replace(SHOWN_ADDRESS, f"127.0.0.1:{self.port}").replace(SHOWN_RECEIVER, self.receiver)
        try:
            output = self._serve(plain(command)) if plain(command) in SERVERS else self._run(command)
        except CommandFailed as error:
            raise CommandFailed(f"line {step.line}: {step.command}\n{error}") from error
        shown = output.replace(str(self.folder.resolve()), SHOWN_FOLDER).replace(
            str(self.folder), SHOWN_FOLDER
        )
        return shown.replace(f"127.0.0.1:{self.port}", SHOWN_ADDRESS)

    def close(self) -> None:
        """Stop the service and the shell."""
        self.stop_server()
        self._shell.communicate(timeout=COMMAND_DEADLINE_S)

    def stop_server(self) -> None:
        """Press Ctrl-C in the terminal of the service and wait for its end, unless it was killed already."""
        if self._server is None:
            return
        if self._server.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGINT)
        self._server.wait(SERVER_DEADLINE_S)
        self._server = None

    def _run(self, command: str) -> str:
        assert self._shell.stdin is not None and self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\nprintf '\\n{END_OF_OUTPUT}%s\\n' $?\n")
        self._shell.stdin.flush()
        output = ""
        with _killed_after(self._shell, COMMAND_DEADLINE_S):
            for line in self._shell.stdout:
                if line.startswith(END_OF_OUTPUT):
                    status = line.removeprefix(END_OF_OUTPUT).strip()
                    if status != "0":
                        raise CommandFailed(f"ended with status {status} and printed:\n{output}")
                    return output
                output += line
        raise CommandFailed(f"did not end, and printed:\n{output}")

    def _serve(self, command: str) -> str:
        """Start the service in its terminal, and return what it has printed there once it answers."""
        self.stop_server()
        log, errors = self.folder / "server.out", self.folder / "server.err"
        with log.open("wb") as out, errors.open("wb") as err:
            self._server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        end_s = time.monotonic() + SERVER_DEADLINE_S
        while self._server.poll() is None and time.monotonic() < end_s:
            output = log.read_text()
            if (
                SERVERS[command] in output
                and output.endswith("\n" * bool(SERVERS[command]))
                and self._answers()
            ):
                return output
            time.sleep(0.05)
        raise CommandFailed(f"does not serve. It printed:\n{log.read_text()}{errors.read_text()}")

    def _answers(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5):
                return True
        return False


@contextlib.contextmanager
def _killed_after(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
