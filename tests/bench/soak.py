"""`python -m tests.bench.soak MINUTES`: full load for a long time, and whether the memory stays flat.

Starts the service with two workers and a MongoDB of its own in a temporary folder, opens a new event every
15 s while clients book, cancel and look, and lets the workers keep so few orders that they forget events all
the time. Samples go to a file of JSON lines, a plot to docs/soak.png. At the end the ledgers are audited.
The exit status is 0 when the memory of each worker is flat, all was answered as it should be, and the ledgers are in
order. Requests that were refused with 503 are counted and shown.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from pymongo import MongoClient

from tests.service.running import ROOT, Service, children_of
from ticketing.audit import audit

from . import clients
from .trend import trend_of

CREDENTIALS = ("admin", "a password for the soak")
STATE_ORDERS_MAX = 100_000  # those of some events, reached within some minutes
EVENT_EVERY_S = 15.0  # some 15,000 transitions: enough for segments
TICKETS = 2_000  # fewer than are asked for: the line grows, and cancellations promote
CLIENT_PROCESSES, CLIENTS_EACH = 2, 12
SAMPLE_S = 5.0
SAMPLES_MIN = 40
START_DEADLINE_S = 60.0
SETTINGS: dict[str, Any] = {
    "BASIC_AUTH_USERNAME": CREDENTIALS[0],
    "BASIC_AUTH_PASSWORD": CREDENTIALS[1],
    "RATELIMIT_ENABLED": "false",
    "WEB_CONCURRENCY": "2",
    "STATE_ORDERS_MAX": str(STATE_ORDERS_MAX),
    "LOG_LEVEL": "warning",
}


@dataclass(frozen=True)
class Sample:
    """Some seconds of a run. `at_s` counts from its start; `workers_mb` is by process id."""

    at_s: float
    requests_per_s: float
    p99_ms: float
    troubles: dict[str, int]
    workers_mb: dict[int, float]
    mongod_mb: float


def main() -> int:
    """Run, judge, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("minutes", type=float)
    parser.add_argument("--samples", type=Path, default=ROOT / "var" / "soak.jsonl", help="the file they go to")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "soak.png")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the service ends with it
    with tempfile.TemporaryDirectory(prefix="ticketing-soak-") as folder:
        service = Service(Path(folder), **SETTINGS)
        try:
            service.start().wait_until_serving()
            samples = soak(service, 60 * asked.minutes, asked.samples)
            findings = [*judge(samples), *verify(service)]
            if service.stop() != 0:
                findings.append("the service did not stop as it should")
        finally:
            service.clean_up()
    draw(samples, asked.plot)
    print(*(f"NOT WELL: {finding}" for finding in findings) if findings else ["all is well"], sep="\n")
    return 1 if findings else 0


def soak(service: Service, duration_s: float, path: Path) -> list[Sample]:
    """Keep the service under load for so long, and write down a sample every few seconds."""
    context = multiprocessing.get_context("spawn")
    newest, reports, stop = context.Value("i", 0), context.Queue(), context.Event()
    open_event(service, 0)
    address = ("127.0.0.1", service.port)
    arguments = (address, CREDENTIALS, CLIENTS_EACH, newest, reports, stop)
    processes = [context.Process(target=clients.run, args=arguments) for _ in range(CLIENT_PROCESSES)]
    for process in processes:
        process.start()
    path.parent.mkdir(parents=True, exist_ok=True)
    reports.get(timeout=START_DEADLINE_S)  # the clients are at work: their start is no part of the run
    samples: list[Sample] = []
    every_s = min(SAMPLE_S, duration_s / SAMPLES_MIN)
    began_s = time.monotonic()
    try:
        with path.open("w") as file:
            while (now_s := time.monotonic() - began_s) < duration_s:
                if now_s > (newest.value + 1) * EVENT_EVERY_S:
                    open_event(service, newest.value + 1)
                    newest.value += 1
                samples.append(next_sample(service, reports, began_s, every_s))
                file.write(json.dumps(asdict(samples[-1])) + "\n")
                file.flush()
    finally:
        stop.set()
        while any(process.is_alive() for process in processes):
            take(reports, 0.1)  # a process ends when its last report has been taken
    return samples


def open_event(service: Service, number: int) -> None:
    """Open one more event."""
    body = {"event_id": clients.event_id(number), "name": "Soak", "total_tickets": TICKETS}
    httpx.post(
        f"{service.url}/initialize", json=body, auth=CREDENTIALS, timeout=clients.CLIENT_TIMEOUT_S
    ).raise_for_status()


def next_sample(service: Service, reports: Any, began_s: float, every_s: float) -> Sample:
    """What happens in the next `every_s` seconds."""
    start_s = time.monotonic()
    latencies_s: list[float] = []
    troubles: Counter[str] = Counter()
    while (left_s := start_s + every_s - time.monotonic()) > 0:
        for report in take(reports, left_s):
            latencies_s += report.latencies_s
            troubles.update(report.troubles)
    latencies_s.sort()
    mongod, gunicorn = sorted(children_of(service.pid), key=lambda pid: program_of(pid) != "mongod")
    return Sample(
        at_s=round(time.monotonic() - began_s, 1),
        requests_per_s=round(len(latencies_s) / (time.monotonic() - start_s), 1),
        p99_ms=round(1e3 * latencies_s[int(len(latencies_s) * 0.99)], 1) if latencies_s else 0.0,
        troubles=dict(troubles),
        workers_mb={pid: resident_mb(pid) for pid in children_of(gunicorn)},
        mongod_mb=resident_mb(mongod),
    )


def take(reports: Any, patience_s: float) -> list[clients.Report]:
    """The next report of the clients, if there is one in time."""
    try:
        return [reports.get(timeout=patience_s)]
    except queue.Empty:
        return []


def judge(samples: list[Sample]) -> list[str]:
    """Print how it went, and return what was not well."""
    findings = []
    seconds = samples[-1].at_s
    troubles = sum((Counter(sample.troubles) for sample in samples), Counter[str]())
    refused = sum(count for trouble, count in troubles.items() if trouble.endswith(": 503"))
    rates = sorted(sample.requests_per_s for sample in samples)
    p99s = sorted(sample.p99_ms for sample in samples)
    middle = len(samples) // 2
    print(f"{seconds:.0f} s, {rates[middle]:.0f} requests a second, p99 {p99s[middle]:.0f} ms (medians)")
    print(f"{refused} requests refused with 503")
    for trouble, count in sorted(troubles.items()):
        if not trouble.endswith(": 503"):
            findings.append(f"{count} times {trouble}")
    pids = sorted({pid for sample in samples for pid in sample.workers_mb})
    for pid in pids:
        series = [(each.at_s, each.workers_mb[pid]) for each in samples if pid in each.workers_mb]
        trend = trend_of(series)
        if trend is None:
            print(f"worker {pid}: {series[-1][1]:.0f} MB; too short a run to tell whether that is flat")
            continue
        verdict = "flat" if trend.is_flat else "growing"
        print(
            f"worker {pid}: {trend.middle_mb:.0f} MB in the middle third, {trend.last_mb:.0f} MB in the last, "
            f"{trend.slope_mb_per_hour:+.1f} MB an hour after warm-up: {verdict}"
        )
        if not trend.is_flat:
            findings.append(f"the memory of worker {pid} grows")
    if len(samples[-1].workers_mb) != len(pids):
        findings.append("a worker was replaced")
    return findings


def verify(service: Service) -> list[str]:
    """Audit all ledgers, print the totals, and return the findings."""
    uri = json.loads((service.folder / "var" / "embedded.json").read_text())["uri"]
    with MongoClient[dict[str, Any]](uri) as client:
        reports = list(audit(client["ticketing"]))
        segments = client["ticketing"]["segments"].estimated_document_count()
    findings = [f"{report.event_id}: {finding}" for report in reports for finding in report.findings]
    transitions = sum(report.transitions for report in reports)
    print(f"{len(reports)} events, {transitions} transitions in their ledgers: {len(findings)} findings")
    print(f"{segments} segments of them")
    print(f"a worker keeps {STATE_ORDERS_MAX} orders in memory; {sum(each.orders for each in reports)} were made")
    return findings


def draw(samples: list[Sample], path: Path) -> None:
    """Draw the run as a PNG: memory, requests a second, latency."""
    # Here: it takes a second to import, and only those who draw need it.
    from matplotlib.figure import Figure

    minutes = [sample.at_s / 60 for sample in samples]
    figure = Figure(figsize=(8, 8), layout="constrained")
    memory, rate, latency = figure.subplots(3, sharex=True)
    for pid in samples[-1].workers_mb:
        memory.plot(minutes, [sample.workers_mb.get(pid) for sample in samples], label=f"worker {pid}")
    memory.plot(minutes, [sample.mongod_mb for sample in samples], label="mongod", linestyle=":")
    memory.set(ylabel="memory in use (MB)", ylim=(0, None))
    memory.legend()
    rate.plot(minutes, [sample.requests_per_s for sample in samples])
    rate.set(ylabel="requests a second", ylim=(0, None))
    latency.plot(minutes, [sample.p99_ms for sample in samples])
    latency.set(ylabel="99th percentile (ms)", xlabel="minutes", ylim=(0, None))
    figure.savefig(path, dpi=100)


def resident_mb(pid: int) -> float:
    """The memory that a process has in use, in MB."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def program_of(pid: int) -> str:
    """The name of the program that a process runs."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


if __name__ == "__main__":
    sys.exit(main())
