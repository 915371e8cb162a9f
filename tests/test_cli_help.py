"""What the commands say of themselves, and docs/operations/cli.md of them."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from flask import Flask

from ticketing.cli import register_cli, terminal
from ticketing.clock import SystemClock

PAGE = Path(__file__).parents[1] / "docs" / "operations" / "cli.md"
ROW = re.compile(r"(?m)^\| `([a-z -]+)` \|(.*)\|(.*)\|(.*)\|$")
SHORT_LENGTH_MAX = 58  # what a terminal of 80 columns has room for, beside the longest name
EXIT = re.compile(r"\b([012]) when ")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Each command of ours by the words that call it."""
    app = Flask(__name__)
    before = set(app.cli.commands)
    register_cli(app)
    for name in app.cli.commands.keys() - before:
        command = app.cli.commands[name]
        if isinstance(command, click.Group):
            yield from ((f"{name} {each}", command.commands[each]) for each in command.commands)
        else:
            yield name, command


def test_the_page_has_every_command_and_its_exit_statuses() -> None:
    """Those that its help names, and no others."""
    rows = {name: statuses for name, *statuses in ROW.findall(PAGE.read_text())}
    helped = {name: EXIT.findall((command.help or "").replace("\n", " ")) for name, command in commands()}
    listed = {
        name: [status for status, cell in zip("012", cells, strict=True) if cell.strip()]
        for name, cells in rows.items()
    }
    assert listed == helped
    assert all({"0", "2"} <= set(statuses) for statuses in listed.values())


def test_every_command_and_option_has_a_help() -> None:
    """And what a command does can be read in the list of its group, not cut off."""
    for name, command in commands():
        assert not command.get_short_help_str(SHORT_LENGTH_MAX).endswith("..."), name
        for option in command.params:
            assert isinstance(option, click.Argument) or getattr(option, "help", None), (name, option.name)


class Terminal(io.StringIO):
    """Standard error of somebody who sits there."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And lines on standard output do not run into it."""
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    for item in terminal.progress([1, 2], "verified", 2):
        terminal.say(f"line {item}")
    shown = screen.getvalue()
    assert "verified" in shown and "2/2" in shown
    assert shown.count("\r\033[K") == 2
    assert capsys.readouterr().out == "line 1\nline 2\n"


class SteppingClock(SystemClock):
    """A clock on which the items of a list come two seconds after each other."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic(self) -> float:
        self._now_s += 2.0
        return self._now_s


def test_elsewhere_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """After five seconds, however few items there were; after many items, however fast they came."""
    assert list(terminal.progress(range(8), "booked", 8, clock=SteppingClock())) == list(range(8))
    assert capsys.readouterr().err.splitlines() == ["booked: 3", "booked: 6"]
    list(terminal.progress(range(20_000), "booked", 20_000))
    assert {"booked: 10000", "booked: 20000"} <= set(capsys.readouterr().err.splitlines())


def test_what_has_no_items_says_for_how_long_it_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again until it is done, or fails."""
    lines: list[str] = []
    said_twice = threading.Event()

    def echo(line: str, *, err: bool) -> None:
        lines.append(line)
        if len(lines) == 2:
            said_twice.set()

    monkeypatch.setattr(terminal, "PROGRESS_EVERY_S", 0.5)
    monkeypatch.setattr(click, "echo", echo)
    with pytest.raises(OSError), terminal.under_way("making indexes"):
        assert said_twice.wait(20)
        raise OSError
    assert lines[:2] == ["making indexes: 0.5 s", "making indexes: 1 s"]
