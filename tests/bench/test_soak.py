"""`make soak` measures, judges and draws; a leak would be found."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.running import DEADLINE_S, ROOT

from . import soak
from .soak import Sample, judge
from .trend import trend_of

RUN_S = 3.0


def series(minutes: float, start_mb: float, warm_mb: float, mb_per_hour: float) -> list[tuple[float, float]]:
    """A sample every 5 s: memory that rises to `warm_mb` within some minutes, then grows steadily, with noise."""
    rng = random.Random(1)
    return [
        (
            at_s,
            warm_mb
            - (warm_mb - start_mb) * math.exp(-at_s / 60)
            + mb_per_hour * at_s / 3600
            + rng.uniform(-3, 3),
        )
        for at_s in range(0, round(minutes * 60), 5)
    ]


@pytest.mark.parametrize("minutes", [8, 30])
def test_memory_that_warms_up_and_stays_is_flat(minutes: float) -> None:
    """Also when it is noisy, and when it shrinks at last."""
    for mb_per_hour in (0, -20):
        trend = trend_of(series(minutes, 60, 110, mb_per_hour))
        assert trend is not None and trend.is_flat
        assert abs(trend.slope_mb_per_hour - mb_per_hour) < 40


@pytest.mark.parametrize(("minutes", "mb_per_hour"), [(8, 360), (30, 100)])
def test_a_leak_is_found(minutes: float, mb_per_hour: float) -> None:
    """The negative control: some 300 bytes a request at 300 a second, for as long as the run takes."""
    trend = trend_of(series(minutes, 60, 110, mb_per_hour))
    assert trend is not None and not trend.is_flat
    assert trend.slope_mb_per_hour == pytest.approx(mb_per_hour, rel=0.3)


def test_a_run_that_is_too_short_is_not_judged() -> None:
    """Of its few samples all are warm-up."""
    assert trend_of([]) is None
    assert trend_of(series(0.5, 60, 110, 0)) is None
    assert trend_of([(0, 60.0), (1_000, 60.0)]) is None


def sample(at_s: float, workers_mb: dict[int, float], **troubles: int) -> Sample:
    """One in which nothing else is of interest."""
    return Sample(at_s, 100, 10, {f"book: {what}": count for what, count in troubles.items()}, workers_mb, 100)


def test_what_was_not_well_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that leaks, one that was replaced, a request that failed. A 503 is counted, and is none of them."""
    leaking = series(8, 60, 110, 900)
    samples = [sample(at_s, {1: mb, 2: 80.0}) for at_s, mb in leaking]
    assert judge(samples) == ["the memory of worker 1 grows"]
    assert judge([*samples, sample(500, {1: 80.0, 3: 80.0})])[1:] == ["a worker was replaced"]
    still = [sample(at_s, {1: 80.0}) for at_s, _ in leaking]
    assert judge([*still, sample(500, {1: 80.0}, **{"500": 2, "503": 7})]) == ["2 times book: 500"]
    assert "7 requests refused with 503" in capsys.readouterr().out


def test_a_short_run_end_to_end(tmp_path: Path) -> None:
    """Service, clients, samples, audit and plot, for some seconds; the exit status says that all was well."""
    samples, plot = tmp_path / "samples.jsonl", tmp_path / "soak.png"
    command = ["-m", soak.__name__, str(RUN_S / 60), "--samples", str(samples), "--plot", str(plot)]
    run = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "too short a run to tell" in run.stdout
    assert "1 events" in run.stdout and "0 findings" in run.stdout
    assert run.stdout.splitlines()[-1] == "all is well"
    taken = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(taken) > 10
    assert sum(each["requests_per_s"] for each in taken) > 0
    assert all(len(each["workers_mb"]) == 2 and each["mongod_mb"] > 10 for each in taken)
    assert plot.read_bytes().startswith(b"\x89PNG")
