"""`python -m tests.bench`: how fast the service is, as a part of what bare Flask does on the same machine.

In each round each subject runs beside its baseline: bare Flask on 2 gthread workers of 16 threads, the same on
gunicorn as the service uses it, then the service, with the same requests over the same number of connections. What
counts is the ratio within a round; in the next one the machine may be slower.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.service.running import ROOT
from ticketing.audit import audit

from .report import Results, Run, compare, record, table
from .stack import BASELINE, SAME_WORKER, SERVICE, BenchError, Load, Stack, describe_machine, require_wrk
from .subjects import SUBJECTS, USUAL_CONNECTIONS, Subject

BUSIEST_MAX = 0.6
"""A baseline of which one worker did more than this part of the work is measured again: gunicorn's workers take the
connections that they get hold of, at times one of them nearly all, and the other core has a rest."""

FAIR_TRIES_MAX = 8
WARM_UP_S = 1
WARM_UPS_MAX = 120
LOOKS_AN_EVENT = 10
"""At each of many events, in any order, before a run: each of two workers has met all but 7 in 1,000 of them then."""
USUAL = [name for name, subject in SUBJECTS.items() if subject.is_usual]


def main() -> int:
    """Measure and write down, or compare with what was written down; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, help="the usual ones unless told")
    parser.add_argument("--connections", nargs="+", type=int, help="some numbers of connections for each")
    parser.add_argument("--results", type=Path, default=ROOT / "var" / "bench.json", help="the file they go to")
    parser.add_argument("--record", action="store_true", help="measure all, and write docs/performance.* anew")
    parser.add_argument("--recorded", type=Path, help="results that these ones must not fall behind")
    asked = parser.parse_args()
    subjects = asked.subjects or (list(SUBJECTS) if asked.record else USUAL)
    try:
        require_wrk()
        recorded = Results.read(asked.recorded) if asked.recorded else None
        results = measure(subjects, asked.connections, asked.rounds, asked.seconds)
    except FileNotFoundError as error:
        print(f"Nothing is recorded in {error.filename}: make bench-record", file=sys.stderr)
        return 2
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    results.write(asked.results)
    print(table(results))
    if asked.record:
        record(results, ROOT / "docs")
    if recorded:
        losses = compare(results, recorded)
        print(*(losses or ["no ratio has fallen behind"]), sep="\n")
        return 1 if losses else 0
    return 0


def measure(names: list[str], connections: list[int] | None, rounds: int, seconds: int) -> Results:
    """All rounds. Raises `BenchError` for requests that failed or a ledger that is not in order."""
    runs: list[Run] = []
    for place in dict.fromkeys(SUBJECTS[name].place for name in names):
        with (
            tempfile.TemporaryDirectory(prefix="ticketing-bench-") as folder,
            Stack(Path(folder), place.workers) as stack,
        ):
            machine = describe_machine(stack.database)
            bench = Bench(stack, seconds)
            for number in range(rounds):
                for name in (name for name in names if SUBJECTS[name].place == place):
                    for count in connections or numbers_of_connections(name, number):
                        runs += bench.turn(number, name, count)
    return Results(machine, runs)


def numbers_of_connections(name: str, number: int) -> tuple[int, ...]:
    """With how many connections a subject is measured in round `number`, unless told: the goals are for 32, which come
    in each round, and the others in every second one."""
    return SUBJECTS[name].connections if number % 2 == 0 else (USUAL_CONNECTIONS,)


class Bench:
    """Runs on one stack, each of `seconds`."""

    def __init__(self, stack: Stack, seconds: int) -> None:
        self._stack = stack
        self._seconds = seconds
        self._kept: dict[str, str] = {}  # the events of subjects that have the same ones in all rounds
        self._met: set[str] = set()  # of many events, those that the workers know

    def turn(self, number: int, name: str, connections: int) -> Iterator[Run]:
        """One subject beside its baselines, in round `number`."""
        subject = SUBJECTS[name]
        for target in (BASELINE, SAME_WORKER):
            yield fair(partial(self._run, target, number, name, connections, "none"))
        event_id = self._kept.get(name) or f"bench-{uuid.uuid4().hex[:8]}"
        if name not in self._kept:
            # One second more than a run takes: for the warm-up, which cancels too.
            subject.prepare(self._stack.database, event_id, self._seconds + 2 * WARM_UP_S)
        if subject.is_kept:
            self._kept[name] = event_id
        yield self._run(SERVICE, number, name, connections, event_id)
        for each in subject.event_ids(event_id):
            for report in audit(self._stack.database, each):
                if report.findings:
                    raise BenchError(f"the ledger of {each} is not in order: {report.findings[0]}")

    def _run(self, target: str, number: int, name: str, connections: int, event_id: str) -> Run:
        subject = SUBJECTS[name]
        events = event_id + subject.many
        first = self._warm_up(target, Load(subject.kind, events, f"warm-{uuid.uuid4().hex}"), connections)
        if target == SERVICE and not subject.many:
            self._stack.wait_until_known(event_id)
        elif target == SERVICE and event_id not in self._met:
            self._look_at_all(subject, event_id)
        self._stack.reset_peaks(target)
        before = self._stack.usage(target, event_id)
        outcome = self._stack.drive(
            target, Load(subject.kind, events, f"user-{uuid.uuid4().hex}", first), connections, self._seconds
        )
        after = self._stack.usage(target, event_id)
        if outcome.errors:
            raise BenchError(f"{target}, {name}, {connections} connections: {outcome.errors} errors")
        run = Run.of(number, name, connections, target, outcome, before, after, self._stack.peak_mb(target))
        print(run, flush=True)
        return run

    def _look_at_all(self, subject: Subject, event_id: str) -> None:
        """Let each worker meet each of many events: to read a ledger from its beginning is no part of a booking."""
        self._met.add(event_id)
        left = LOOKS_AN_EVENT * len(subject.event_ids(event_id))
        while left > 0:
            looks = Load("status", event_id + subject.many, "none", first=left)  # which is the seed of its dice, too
            left -= self._stack.drive(SERVICE, looks, USUAL_CONNECTIONS, WARM_UP_S).requests

    def _warm_up(self, target: str, load: Load, connections: int) -> int:
        """Send the load until each worker knows the events and answers all; return how much of it was sent."""
        sent = 0
        for turn in range(WARM_UPS_MAX):
            warming = replace(load, run=f"{load.run}-{turn}", first=sent)
            outcome = self._stack.drive(target, warming, connections, WARM_UP_S)
            sent += outcome.requests + connections
            if not outcome.errors:
                return sent
        raise BenchError(f"{target} does not answer {load} without errors")


def fair(measure: Callable[[], Run]) -> Run:
    """A run whose workers shared the work, or else the best of some. The service is taken as it is."""
    runs = [measure()]
    while runs[-1].busiest > BUSIEST_MAX and len(runs) < FAIR_TRIES_MAX:
        if runs[0].target == SERVICE or runs[0].connections == 1:
            break
        runs.append(measure())
    return runs[-1] if runs[-1].busiest <= BUSIEST_MAX else max(runs, key=lambda run: run.requests_per_s)


if __name__ == "__main__":
    sys.exit(main())
