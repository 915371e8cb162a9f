"""What the commands share: how they end, how they count, where they write."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import click
import pymongo
from pymongo.errors import PyMongoError

from ..clock import Clock, SystemClock
from ..errors import StorageUnavailable, TicketingError
from ..services import services

Item = TypeVar("Item")

PING_DEADLINE_S = 10.0
PROGRESS_EVERY = 10_000  # items, between two lines where there is no terminal
PROGRESS_EVERY_S = 5.0  # the same, where the items come slowly
EXIT_FINDINGS = 1
EXIT_TROUBLE = 2

json_option = click.option("--json", "as_json", is_flag=True, help="For programs: a JSON object a line.")


def fail(message: str) -> NoReturn:
    """End the command with a sentence on standard error, and the status of trouble."""
    click.echo(message, err=True)
    sys.exit(EXIT_TROUBLE)


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the plural where it belongs."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def say(line: str) -> None:
    """A line on standard output, and not behind a progress bar that may stand in the last line of the terminal."""
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    click.echo(line)


def print_json(value: Any) -> None:
    """A value as one line."""
    say(json.dumps(value, ensure_ascii=False))


@contextmanager
def storage() -> Iterator[None]:
    """Ends the command with one sentence where MongoDB does not answer, or the rules say no.

    Reading ledgers may take its time.
    """
    try:
        with pymongo.timeout(PING_DEADLINE_S):
            services().database.command("ping")
        yield
    except (PyMongoError, StorageUnavailable) as error:
        # The type only: messages of the driver quote addresses, and may quote more.
        fail(f"MongoDB did not answer as it should ({type(error).__name__}). See MONGODB_URI.")
    except TicketingError as error:
        fail(error.message)


def progress(
    items: Iterable[Item], label: str, count: int | None = None, *, clock: Clock | None = None
) -> Iterator[Item]:
    """The items, while standard error tells how far they are: a bar on a terminal, elsewhere a line now and then.

    `count` is how many there will be, where that is known.
    """
    if sys.stderr.isatty():
        with click.progressbar(items, count, label, show_pos=True, file=sys.stderr) as bar:
            yield from bar
        return
    clock = clock or SystemClock()
    said_s = clock.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now_s = clock.monotonic()
        if number % PROGRESS_EVERY == 0 or now_s - said_s >= PROGRESS_EVERY_S:
            click.echo(f"{label}: {number}", err=True)
            said_s = now_s


@contextmanager
def under_way(label: str) -> Iterator[None]:
    """While what has no items to count takes its time, a line on standard error now and then."""
    is_done = threading.Event()

    def tell() -> None:
        times = 1
        while not is_done.wait(PROGRESS_EVERY_S):
            click.echo(f"{label}: {times * PROGRESS_EVERY_S:g} s", err=True)
            times += 1

    telling = threading.Thread(target=tell)
    telling.start()
    try:
        yield
    finally:
        is_done.set()
        telling.join()


@contextmanager
def whole_file(path: str) -> Iterator[IO[str]]:
    """A text file for its owner alone, which gets its name when all is in it and on disk; "-" is standard output.

    Ends the command with one sentence where it cannot be written.
    """
    if path == "-":
        try:
            yield sys.stdout
            sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere at the exit
            fail(f"Standard output cannot be written: {error.strerror}.")
        return
    if Path(path).exists() and not Path(path).is_file():
        fail(f"{path} is no file.")
    partial = Path(f"{path}.partial")
    try:
        with open(partial, "w", opener=lambda name, flags: os.open(name, flags, mode=0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        fail(f"The file {path} cannot be written: {error.strerror}.")
    finally:
        partial.unlink(missing_ok=True)
