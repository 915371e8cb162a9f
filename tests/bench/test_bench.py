"""`make bench` measures what it says, and `make bench-check` notices a loss."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.service.running import DEADLINE_S, ROOT

from . import baseline, report, stack
from .__main__ import fair, main
from .report import Results, Run, compare, record, table
from .stack import BASELINE, SAME_WORKER, SERVICE, BenchError


def run_of(target: str, requests_per_s: float, number: int = 0, subject: str = "book") -> Run:
    """One in which nothing else is of interest."""
    return Run(
        round=number,
        subject=subject,
        connections=32,
        target=target,
        requests=100,
        requests_per_s=requests_per_s,
        p50_ms=10.0,
        p99_ms=20.0,
        errors=0,
        cpu_ms=0.5,
        busiest=0.5,
        mongod_cpu_ms=0.1,
        wrk_cpu_ms=0.02,
        reads=0.1,
        batch=10.0,
        lost=0.25,
        peak_mb=70.0,
    )


def results_of(*ratios: float, subject: str = "book") -> Results:
    """A round for each ratio, on a machine that is slower with each."""
    rounds = [(1_000.0 / (number + 1), ratio) for number, ratio in enumerate(ratios)]
    return Results(
        {"cores": 2},
        [
            run_of(target, speed * part, number, subject)
            for number, (speed, ratio) in enumerate(rounds)
            for target, part in ((BASELINE, 1.0), (SAME_WORKER, 1.25), (SERVICE, ratio))
        ],
    )


def test_the_ratio_is_that_of_a_round() -> None:
    """So a machine that becomes slower changes nothing; the table shows the middle and the extremes."""
    results = results_of(0.5, 0.4, 0.6)
    assert results.ratios(("book", 32)) == pytest.approx([0.5, 0.4, 0.6])
    (row,) = table(results).splitlines()[2:]
    assert "**0.50** (0.40 to 0.60) | **0.40** (0.32 to 0.48)" in row
    assert "| 200 |" in row and "10.0, 25%" in row


def names_in(answer: Any) -> Any:
    """What is named in JSON, without what it is."""
    if isinstance(answer, dict):
        return {name: names_in(value) for name, value in answer.items()}
    return [names_in(answer[0])] if isinstance(answer, list) and answer else type(answer).__name__


@pytest.mark.parametrize(
    ("method", "path", "filled", "status"),
    [
        ("post", "/book", "/book", "201"),
        ("post", "/cancel", "/cancel", "200"),
        ("get", "/status/{event_id}", "/status/concert", "200"),
        ("get", "/orders/{order_id}", "/orders/concert.1", "200"),
    ],
)
def test_the_baseline_answers_the_same_json(method: str, path: str, filled: str, status: str) -> None:
    """As the service, by the examples that were recorded of it."""
    operation = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"][path][method]
    examples = operation["responses"][status]["content"]["application/json"]["examples"].values()
    body = {"event_id": "concert", "user_id": "ada"} if method == "post" else None
    answer = baseline.app.test_client().open(filled, method=method.upper(), json=body)
    assert answer.status_code == int(status)
    assert names_in(answer.json) == names_in(next(iter(examples))["value"])


def test_a_baseline_on_one_core_is_measured_again() -> None:
    """It would flatter the service. Where it never shares its work it is taken at its best; one connection it cannot
    share, and the service is taken as it is."""
    runs = [run_of(BASELINE, 1_000.0), run_of(BASELINE, 3_000.0), run_of(BASELINE, 3_100.0)]
    lopsided = [replace(run, busiest=0.9) for run in runs]
    assert fair(iter([lopsided[0], runs[1], runs[2]]).__next__) == runs[1]
    assert fair(iter(lopsided * 10).__next__) == lopsided[2]
    alone = replace(lopsided[0], connections=1)
    assert fair(iter([alone, runs[1]]).__next__) == alone
    service = replace(lopsided[0], target=SERVICE)
    assert fair(iter([service, runs[1]]).__next__) == service


@pytest.mark.parametrize(("now", "losses"), [(0.5, 0), (0.43, 0), (0.42, 1), (0.9, 0)])
def test_a_loss_of_more_than_15_percent_is_named(now: float, losses: int) -> None:
    """And nothing else is: what was not recorded cannot be compared."""
    recorded = results_of(0.5)
    found = compare(Results({}, results_of(now).runs + results_of(0.1, subject="mix").runs), recorded)
    assert len(found) == losses
    assert all(loss.startswith(f"book, 32 connections: {now:.2f}") for loss in found)


def test_what_was_recorded_comes_back(tmp_path: Path) -> None:
    """The table stands between its marks, and nothing else of the document is touched; a plot stands beside it."""
    (tmp_path / "performance.md").write_text(f"Before.\n{report.BEGIN}\nstale\n{report.END}\nAfter.\n")
    results = results_of(0.5, 0.6)
    for _ in range(2):
        record(results, tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert text.startswith("Before.\n") and text.endswith("\nAfter.\n")
    assert text.count("book, one hot event") == 1 and "stale" not in text
    assert Results.read(tmp_path / "performance.json") == results
    assert (tmp_path / "performance.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_load_generator_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the command that installs it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="apt-get install wrk"):
        stack.require_wrk()


def test_nothing_is_compared_with_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a record the comparison ends before it measures, and says how to make one."""
    monkeypatch.setattr(sys, "argv", ["bench", "--recorded", str(tmp_path / "none.json")])
    assert main() == 2
    assert capsys.readouterr().err.endswith("none.json: make bench-record\n")


def test_a_short_run_end_to_end(tmp_path: Path) -> None:
    """One subject for a second on the whole service, its ledgers audited; then the comparison fails as it should."""
    recorded, results = tmp_path / "recorded.json", tmp_path / "results.json"
    results_of(1_000.0).write(recorded)
    command = ["-m", "tests.bench", "--rounds", "1", "--seconds", "1", "--subjects", "book", "--connections", "32"]
    run = subprocess.run(
        [sys.executable, *command, "--results", str(results), "--recorded", str(recorded)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "of bare Flask, and 1000.00 was recorded" in run.stdout.splitlines()[-1]
    runs = {each["target"]: each for each in json.loads(results.read_text())["runs"]}
    assert set(runs) == {BASELINE, SAME_WORKER, SERVICE}
    assert all(each["requests"] > 0 and each["errors"] == 0 and each["peak_mb"] > 10 for each in runs.values())
    assert runs[SERVICE]["batch"] >= 1 and 0 <= runs[SERVICE]["lost"] < 1 and runs[SERVICE]["cpu_ms"] > 0
