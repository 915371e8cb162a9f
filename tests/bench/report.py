"""What was measured, as a table, a plot and a comparison."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .stack import BASELINE, SAME_WORKER, SERVICE, Outcome, Usage
from .subjects import SUBJECTS, USUAL_CONNECTIONS

LOSS_MAX = 0.15
BEGIN, END = "<!-- written by make bench-record -->", "<!-- until here -->"


@dataclass(frozen=True)
class Run:
    """One run of wrk. Processor times are in milliseconds a request, and `cpu_ms` is gunicorn's with its workers.

    `busiest` is the part of the work that one worker did. `batch` is how many transitions a commit held; `lost` how
    many of the tried commits found their place taken; `reads` how often MongoDB was asked, a request. None where
    nothing was written.
    """

    round: int
    subject: str
    connections: int
    target: str
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_ms: float
    busiest: float
    mongod_cpu_ms: float
    wrk_cpu_ms: float
    reads: float
    batch: float | None
    lost: float | None
    peak_mb: float

    @classmethod
    def of(
        cls,
        number: int,
        subject: str,
        connections: int,
        target: str,
        outcome: Outcome,
        before: Usage,
        after: Usage,
        peak_mb: float,
    ) -> Run:
        """A run from what wrk said of it, and what had been used before and after it."""
        commits, lost = after.commits - before.commits, after.lost - before.lost
        transitions = after.transitions - before.transitions

        worked_s = [now - then for now, then in zip(after.workers_cpu_s, before.workers_cpu_s, strict=True)]

        def a_request(value: float) -> float:
            return round(value / outcome.requests, 3)

        return cls(
            round=number,
            subject=subject,
            connections=connections,
            target=target,
            requests=outcome.requests,
            requests_per_s=round(outcome.requests / outcome.seconds, 1),
            p50_ms=outcome.p50_ms,
            p99_ms=outcome.p99_ms,
            errors=outcome.errors,
            cpu_ms=a_request(1e3 * (after.server_cpu_s - before.server_cpu_s)),
            busiest=round(max(worked_s) / sum(worked_s), 2),
            mongod_cpu_ms=a_request(1e3 * (after.mongod_cpu_s - before.mongod_cpu_s)),
            wrk_cpu_ms=a_request(1e3 * outcome.wrk_cpu_s),
            reads=a_request(after.reads - before.reads),
            batch=round(transitions / commits, 1) if commits else None,
            lost=round(lost / (commits + lost), 3) if commits else None,
            peak_mb=peak_mb,
        )

    def __str__(self) -> str:
        return (
            f"{self.round} {self.subject:<12} {self.connections:>4} {self.target:<34} {self.requests_per_s:>8,.0f}/s "
            f"p50 {self.p50_ms:.1f} p99 {self.p99_ms:.1f} ms, CPU {self.cpu_ms:.3f} + {self.mongod_cpu_ms:.3f} + "
            f"{self.wrk_cpu_ms:.3f} ms, "
            f"busiest {self.busiest:.0%}, reads {self.reads}, batch {self.batch}, lost {self.lost}, {self.peak_mb} MB"
        )


@dataclass(frozen=True)
class Results:
    """All runs, and the machine."""

    machine: dict[str, Any]
    runs: list[Run]

    @classmethod
    def read(cls, path: Path) -> Results:
        """What `write` has written."""
        found = json.loads(path.read_text())
        return cls(found["machine"], [Run(**run) for run in found["runs"]])

    def write(self, path: Path) -> None:
        """Keep them as JSON, a run a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        runs = ",\n".join(json.dumps(asdict(run)) for run in self.runs)
        path.write_text(f'{{"machine": {json.dumps(self.machine)}, "runs": [\n{runs}\n]}}\n')

    def cases(self) -> list[tuple[str, int]]:
        """Subjects and connections, in the order of the subjects."""
        found = {(run.subject, run.connections) for run in self.runs}
        return sorted(found, key=lambda case: (list(SUBJECTS).index(case[0]), case[1]))

    def of(self, case: tuple[str, int], target: str = SERVICE) -> list[Run]:
        """The runs of a case, by round."""
        return [run for run in self.runs if (run.subject, run.connections) == case and run.target == target]

    def ratios(self, case: tuple[str, int], baseline: str = BASELINE) -> list[float]:
        """In each round: the throughput as a part of the baseline's."""
        pairs = zip(self.of(case), self.of(case, baseline), strict=True)
        return [run.requests_per_s / base.requests_per_s for run, base in pairs]


def compare(results: Results, recorded: Results) -> list[str]:
    """The cases whose ratio has fallen behind the recorded one by more than `LOSS_MAX`."""
    losses = []
    for case in results.cases():
        if not recorded.of(case):
            continue
        now, then = median(results.ratios(case)), median(recorded.ratios(case))
        if now < (1 - LOSS_MAX) * then:
            losses.append(f"{case[0]}, {case[1]} connections: {now:.2f} of bare Flask, and {then:.2f} was recorded")
    return losses


def table(results: Results) -> str:
    """Medians over the rounds, and the extremes of what counts, as Markdown."""
    head = (
        "| Subject | Connections | Requests a second | Of bare Flask | On the same worker | p50, p99 (ms) | "
        "CPU a request: gunicorn, mongod, wrk (ms) | A commit holds, lost | Peak of a worker (MB) |"
    )
    return "\n".join([head, "| --- " * 9 + "|", *(_row(results, case) for case in results.cases())])


def record(results: Results, folder: Path) -> None:
    """Write performance.json and .png, and the table into performance.md, between its two marks."""
    results.write(folder / "performance.json")
    draw(results, folder / "performance.png")
    document = folder / "performance.md"
    before, _, rest = document.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    table_of_all = f"Measured on: {machine}.\n\n{table(results)}"
    document.write_text(f"{before}{BEGIN}\n{table_of_all}\n{END}{after}")


def _row(results: Results, case: tuple[str, int]) -> str:
    runs = results.of(case)

    def middle(name: str) -> float:
        return median(getattr(run, name) for run in runs)

    commits = f"{middle('batch'):.1f}, {middle('lost'):.0%}" if runs[0].batch is not None else ""
    cells = [
        SUBJECTS[case[0]].title,
        str(case[1]),
        f"{middle('requests_per_s'):,.0f}",
        _range(results.ratios(case)),
        _range(results.ratios(case, SAME_WORKER)),
        f"{middle('p50_ms'):.1f}, {middle('p99_ms'):.1f}",
        f"{middle('cpu_ms'):.2f}, {middle('mongod_cpu_ms'):.2f}, {middle('wrk_cpu_ms'):.2f}",
        commits,
        f"{max(run.peak_mb for run in runs):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _range(values: list[float]) -> str:
    return f"**{median(values):.2f}** ({min(values):.2f} to {max(values):.2f})"


def draw(results: Results, path: Path) -> None:
    """Draw the ratios by subject, and throughput and latency by connections, as a PNG."""
    # Here: it takes a second to import, and only those who draw need it.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 9), layout="constrained")
    ratio, rate, latency = figure.subplots(3, height_ratios=(3, 2, 2))
    cases = [case for case in results.cases() if case[1] == USUAL_CONNECTIONS][::-1]  # from below
    places = range(len(cases))
    middles = [median(results.ratios(case)) for case in cases]
    extremes = [(results.ratios(case), middle) for case, middle in zip(cases, middles, strict=True)]
    errors = [[middle - min(all_) for all_, middle in extremes], [max(all_) - middle for all_, middle in extremes]]
    ratio.barh(places, middles, xerr=errors, capsize=3)
    ratio.set_yticks(places, [SUBJECTS[name].title for name, _ in cases])
    ratio.set(xlabel="throughput as a part of bare Flask's, 32 connections", xlim=(0, None))
    for name in SUBJECTS:
        own = [case for case in results.cases() if case[0] == name]
        if len(own) > 1:
            connections = [case[1] for case in own]
            for axes, what in ((rate, "requests_per_s"), (latency, "p99_ms")):
                values = [median(getattr(run, what) for run in results.of(case)) for case in own]
                axes.plot(connections, values, marker="o", label=SUBJECTS[name].title)
    rate.set(ylabel="requests a second", ylim=(0, None), xscale="log")
    latency.set(ylabel="99th percentile (ms)", xlabel="connections", xscale="log", yscale="log")
    if len(cases) < len(results.cases()):
        figure.legend(*rate.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=100)
