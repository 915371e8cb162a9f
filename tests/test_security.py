"""SECURITY.md names tests that there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import pytest

from tests.test_readme import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)+)`", PAGE)
RISKS = re.findall(r"(?m)^\| (API\d+)", PAGE)


def is_there(path: str, names: Sequence[str]) -> bool:
    """Whether a file has a function, or a class with one, of these names."""
    nodes: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body if (ROOT / path).exists() else []
    for name in names:
        found = [each for each in nodes if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name == name]
        if not found:
            return False
        nodes = found[0].body
    return bool(names)


@pytest.mark.parametrize(("path", "names"), NAMED)
def test_each_test_that_is_named_is_there(path: str, names: str) -> None:
    """A protection whose test is gone is none."""
    assert is_there(path, names.split("::")[1:])


def test_every_risk_has_a_row_and_every_row_a_test() -> None:
    """The ten of OWASP, in their order."""
    assert RISKS == [f"API{number}" for number in range(1, 11)]
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert all(re.search(r"`tests/[\w/]+\.py::", row) for row in rows)
    assert len(NAMED) == PAGE.count("::test_")


def test_a_name_that_is_not_there_is_seen() -> None:
    """The control."""
    assert is_there("tests/test_security.py", ["test_a_name_that_is_not_there_is_seen"])
    assert not is_there("tests/test_security.py", ["test_of_nothing"])
    assert not is_there("tests/api/test_bookings.py", ["test_refuses_a_second_order_of_a_user"])
    assert not is_there("tests/test_nowhere.py", ["test_of_nothing"])
