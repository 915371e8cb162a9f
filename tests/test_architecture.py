"""Imports point inward, and the domain has no I/O, no clock and no randomness: read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ticketing

PACKAGE = Path(ticketing.__file__).parent

# Which parts of the package a part may import: api -> manager -> domain, storage -> domain.
INWARD: dict[str, set[str]] = {
    "domain": {"domain", "errors"},
    "storage": {"storage", "domain", "errors", "clock", "ids"},
    "manager": {"domain", "errors", "clock", "collector", "observer"},
    "observer": {"domain", "errors"},
    "feed": {"domain", "errors", "clock", "manager"},
    "compactor": {"errors", "clock"},
    "accounts": {"domain", "errors", "clock"},
    "erasure": {"accounts", "manager", "domain", "errors", "clock"},
    "turns": {"clock", "manager"},
    "passwords": set(),
    "delivery": {"delivery", "domain", "errors", "clock", "feed", "storage", "api", "addresses"},
    "errors": set(),
    "ids": set(),
    "clock": set(),
    "collector": set(),
    "addresses": set(),
}
# All that the domain needs from outside, and nothing of it reads a file, a socket, a clock or a dice.
DOMAIN_MODULES = {
    "__future__",
    "collections.abc",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "immutables",
    "itertools",
    "decimal",
    "heapq",
    "math",
    "operator",
    "types",
    "typing",
}
# `datetime` the type is welcome; these would ask the machine what time it is.
CLOCK_READINGS = {"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp"}
DRIVERS = {"pymongo", "bson", "gridfs"}
WEB = {"flask", "flask_smorest", "werkzeug", "marshmallow"}


def sources(part: str) -> list[Path]:
    """The files of a module or of a subpackage."""
    module = PACKAGE / f"{part}.py"
    files = [module] if module.exists() else sorted((PACKAGE / part).rglob("*.py"))
    assert files, f"there is no ticketing/{part}"
    return files


def imports(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, in functions and `TYPE_CHECKING` blocks too."""
    package = ("ticketing", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            # `from . import x` names a module of the package, `from .x import y` something in one.
            yield from ([f"{module}.{a.name}" for a in node.names] if module == "ticketing" else [module])


def parts_imported(path: Path) -> set[str]:
    """The parts of our own package that a file imports: `domain` for ticketing.domain.fold."""
    names = [name.split(".") for name in imports(path)]
    return {name[1] for name in names if name[0] == "ticketing" and len(name) > 1}


@pytest.mark.parametrize("part", INWARD)
def test_imports_point_inward(part: str) -> None:
    """Nobody knows who uses them."""
    for path in sources(part):
        assert parts_imported(path) <= INWARD[part], path


def test_the_domain_imports_nothing_that_does_anything() -> None:
    """No I/O, no clock, no randomness, no threads: values in, values out."""
    for path in sources("domain"):
        foreign = {name for name in imports(path) if not name.startswith("ticketing")}
        assert foreign <= DOMAIN_MODULES, path


def test_the_domain_never_asks_what_time_it_is() -> None:
    """Nor opens a file: what it does not import it might still find among the builtins."""
    for path in sources("domain"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in CLOCK_READINGS, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"open", "input", "print", "hash", "id"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("part", "outsiders"),
    [
        ("domain", DRIVERS | WEB),
        ("manager", DRIVERS | WEB | {"prometheus_client"}),
        ("observer", DRIVERS | WEB | {"prometheus_client"}),
        ("feed", DRIVERS | WEB),
        ("accounts", DRIVERS | WEB),
        ("erasure", DRIVERS | WEB),
        ("storage", WEB),
        ("errors", DRIVERS | WEB),
    ],
)
def test_the_web_and_the_driver_stay_outside(part: str, outsiders: set[str]) -> None:
    """Rules and manager know neither HTTP nor MongoDB, and the storage knows no HTTP."""
    for path in sources(part):
        assert not {name.split(".")[0] for name in imports(path)} & outsiders, path


def test_the_audit_shares_no_code_with_the_rules_it_checks() -> None:
    """A mistake in deciding or folding must not be able to hide itself."""
    for part in ("audit", "audit_segments"):
        (path,) = sources(part)
        assert parts_imported(path) <= {"audit_segments", "storage"}


def test_a_wrong_import_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control, for each way of importing."""
    monkeypatch.setattr("tests.test_architecture.PACKAGE", tmp_path)
    folder = tmp_path / "domain"
    folder.mkdir()
    bad = folder / "bad.py"
    bad.write_text(
        "import time\nfrom .. import manager\nfrom ..storage.ledger import Ledger\n"
        "def f():\n    from ticketing.api import auth\n    from . import fold\n    from .fold import fold\n"
    )
    assert set(imports(bad)) >= {"time", "ticketing.manager", "ticketing.storage.ledger", "ticketing.api"}
    assert parts_imported(bad) == {"manager", "storage", "api", "domain"}
