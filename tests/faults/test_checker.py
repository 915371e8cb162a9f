"""The checker judges by itself, and takes no more for an answer than what may be one."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

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
