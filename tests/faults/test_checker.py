"""The checker judges by itself, and takes no more for an answer than what may be one."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.domain import rehearsal
from tests.domain.rehearsal import EVENT_ID
from ticketing.storage.documents import commit_document

from .replay import Replay

FOLDER = Path(__file__).parent
CHECKER = ("checker", "replay", "truths", "history")
"""Its modules: beside Python's own they import nothing but one another."""


@pytest.mark.parametrize("module", CHECKER)
def test_the_checker_shares_no_code_with_the_domain(module: str) -> None:
    """A rule that is wrong in the domain must not be as wrong in what checks it."""
    assert _imports((FOLDER / f"{module}.py").read_text()) <= set(CHECKER)


def test_an_import_of_the_domain_is_noticed() -> None:
    """The negative control: in whatever form, and inside a function too."""
    code = """
import json, ticketing.domain.fold
from collections import Counter
from ticketing.domain import decide
from . import load
from .replay import Replay
from ..faults import world
def late():
    from tests.model import rules
"""
    assert _imports(code) == {"ticketing", "load", "replay", "..faults", "tests"}


def test_a_change_may_serve_as_much_of_the_line_as_one_transition_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one goes on."""
    assert _wrong_in(_reopened(monkeypatch)) == []


def test_a_part_of_the_line_that_is_none_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that moves fewer up than it could; and something else that comes before the rest of the line."""
    too_few, overtaken = _reopened(monkeypatch), _reopened(monkeypatch)
    too_few[-2]["orders"].pop()
    assert "at 8: " in _wrong_in(too_few[:-1])[0] and "still waits" in _wrong_in(too_few[:-1])[0]
    late = {"order_id": f"{EVENT_ID}.late", "user_id": "zoe", "quantity": 1, "status": "waiting"}
    overtaken[-1].update(type="waitlisted", orders=[late])
    assert "at 9: " in _wrong_in(overtaken)[0] and "still waits" in _wrong_in(overtaken)[0]


def _reopened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Transitions: the last but one opens sales over a line of three, and two move up by it; then the third does."""
    monkeypatch.setattr("ticketing.domain.decide.PROMOTIONS_MAX", 2)
    monkeypatch.setattr("tests.faults.replay.PROMOTED_AT_ONCE", 2)
    parts = rehearsal.reopened("bob", "cyd", "dan")
    transitions: list[dict[str, Any]] = commit_document(EVENT_ID, parts, b"n" * 16)["transitions"]
    return transitions


def _wrong_in(transitions: list[dict[str, Any]]) -> list[str]:
    found: list[str] = []
    replay = Replay(EVENT_ID, {}, found)
    for transition in transitions:
        replay.add(transition)
    return found


def _imports(code: str) -> set[str]:
    """What a module imports, but for Python's own: of its folder each module, of others the first name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names
