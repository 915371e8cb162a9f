"""The promises hold under every fault that the simulator can make, and it notices when they do not."""

from __future__ import annotations

import gc
import itertools
import logging
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.running import ROOT
from ticketing.collector import objects_that_stay
from ticketing.manager import TicketManager
from ticketing.storage.ledger import Ledger
from ticketing.storage.segments import Segment, Segments

from . import checker
from .history import Attempt
from .simulator import seeds, world
from .simulator.controls import CONTROLS, Control
from .simulator.scheduler import Scheduler, forget_all
from .truths import MAY_BE_REFUSED, TRUTHS

# It would count little that other tests do not reach, and take twice as long.
pytestmark = pytest.mark.no_cover

SEEDS = 500
FIRST_SEED = 1
DEADLINE_S = 240.0  # 15 s are usual
FAULTS = {
    "answer lost",
    "copy torn",
    "crash",
    "failover",
    "full page",
    "invisible duplicate",
    "note lost",
    "primary lost with it",
    "read answer lost",
    "read lost",
    "request lost",
    "slow majority",
    "stall",
    "taken back",
    "zombie write",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The code under test complains of each fault, thousands of times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_promise_is_broken_under_500_seeds() -> None:
    """500 stories, as `make simulate` plays them, and the last line says so."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.simulator", str(SEEDS), str(FIRST_SEED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{SEEDS} seeds, ")
    assert done.stdout.splitlines()[-1].endswith(", 0 violations in 0 seeds")


# A seed at which a control is noticed, where it is none of the first: to try it before them saves minutes. Where the
# stories have changed since, it is one seed more.
NOTICED_AT = {
    "with read concern local": 19,
    "taking a full page for no news": 18,
    "not telling whose place was taken": 69,
    "leaving copies before a majority has the commit": 38,
    "segments of what no majority has": 121,
    "believing torn copies": 19,
    "keeping state after an unsettled write": 139,
    "one waiting list for all ticket types": 62,
    "a transfer that takes too few": 189,
    "a transfer at another price": 16,
    "a transfer that loses a ticket": 19,
    "floor without held": 30,
    "a transfer without the recipient's limits": 20,
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_missing_protection_is_noticed(name: str) -> None:
    """With one protection taken out, some of the first seeds violates the promise that it is there for."""
    noticed_at = seeds.noticed_at(name, tried_first=NOTICED_AT.get(name, 1))
    assert noticed_at is not None, f"{name}: not noticed in {seeds.CONTROL_SEEDS_MAX} seeds"


class _BreakingDown(TicketManager):
    def state_of(self, event_id: str, *, within_s: float | None = None) -> Any:
        raise AttributeError("told that nothing was done")


def test_a_control_that_only_breaks_down_is_not_noticed() -> None:
    """An error that nobody foresaw is a violation, but not the one that a control is about, whatever it says."""
    found = checker.violations(world.run(1, world.Parts(manager=_BreakingDown)))
    assert any("AttributeError" in sentence for sentence in found)
    assert [name for name, control in CONTROLS.items() if control.notices(found)] == []
    assert Control("told that nothing was done", world.Parts()).notices(found) is None


def test_a_seed_is_one_story() -> None:
    """The same seed tells the same story, step by step."""
    assert world.run(7).story == world.run(7).story
    assert world.run(7).story != world.run(8).story


def test_every_kind_of_fault_happens() -> None:
    """Each fault that the simulator knows comes up within a few seeds: none is dead code."""
    seen: set[str] = set()
    for seed in itertools.count(FIRST_SEED):
        seen |= {fault for fault, count in world.run(seed).faults.items() if count}
        if seen >= FAULTS or seed == FIRST_SEED + 100:
            break
    assert seen == FAULTS


def test_workers_read_segments() -> None:
    """And often; but at times one does not count any more."""
    ends: Counter[str] = Counter()

    class Counting(Segments):
        def _counts(self, *args: Any) -> bool:
            counts = super()._counts(*args)
            ends["counts" if counts else "does not count"] += 1
            return counts

        def _next(self, *args: Any) -> Segment | None:
            found = super()._next(*args)
            ends["read"] += found is not None
            return found

    for seed in range(FIRST_SEED, FIRST_SEED + 100):
        world.run(seed, world.Parts(segments=Counting))
    assert ends["read"] > 500
    assert ends["counts"] > 50 * ends["does not count"] > 0


def test_workers_go_on_from_copies_of_commits() -> None:
    """Those of their host, and often: what nobody uses shows nothing. But not always, for some are torn or missing."""
    ends: Counter[str] = Counter()

    class Counting(TicketManager):
        def _follow(self, queue: Any, version: int) -> None:
            was_settled = queue.is_settled
            super()._follow(queue, version)
            if was_settled:
                ends["has followed" if queue.is_settled else "has to read"] += 1

    for seed in range(FIRST_SEED, FIRST_SEED + 50):
        world.run(seed, world.Parts(manager=Counting))
        if min(ends["has followed"], ends["has to read"]) >= 20:
            break
    assert min(ends["has followed"], ends["has to read"]) >= 20


def test_what_a_host_shares_outlives_a_worker() -> None:
    """A worker that crashes finds the notes and copies of its host again; another host has others."""
    its_world = world.World(1, world.Parts())
    one, other = world.Host(its_world.replica_set, its_world.rng), its_world.workers[0]
    other.host.notes["event-1"] = 7
    other.crash()
    its_world.replica_set.calm_down()
    assert (one.note_of("event-1"), other.host.note_of("event-1")) == (0, 7)
    copies: Any = other.manager._ledger
    assert copies._recent_commits._memory is other.host.memory
    forget_all()


def test_every_refusal_that_the_checker_judges_comes_up() -> None:
    """A truth that is never asked for shows nothing: each refusal is told within the seeds of every run, or sooner."""
    seen: set[str] = set()
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        seen |= {code for attempt in world.run(seed).attempts for code in _refusals(attempt)}
        if seen >= TRUTHS.keys():
            break
    assert TRUTHS.keys() <= seen


def _refusals(attempt: Attempt) -> set[str]:
    """What this request was refused with: with `bulk` where each of many bookings was."""
    if attempt.outcome == "bulk":
        return {"bulk"} if attempt.version is None else set()
    code = attempt.outcome.removeprefix("refused:")
    return {code} if code != attempt.outcome else set()


def test_each_truth_is_that_of_a_refusal_that_may_come() -> None:
    """What no request may be refused with, nobody would look up; and what it may be, somebody must."""
    assert set().union(*MAY_BE_REFUSED.values()) == TRUTHS.keys()


def test_who_crashes_gives_back_what_he_held_of_this_process() -> None:
    """A thread that dies in the middle of a fold does not keep the garbage collector of the tests switched off."""
    scheduler = Scheduler(random.Random(1))

    def fold() -> None:
        with objects_that_stay():
            scheduler.sleep(1.0)

    crashing = scheduler.spawn("crashing", fold)
    scheduler.call_later(0.5, lambda: setattr(crashing, "is_dead", True))
    scheduler.run(until_s=2.0)
    assert not gc.isenabled()
    forget_all()
    assert gc.isenabled()


def test_a_crash_ends_what_was_begun_beside_a_request() -> None:
    """A process that crashes reads no page on, for requests that have died with it."""
    done: list[str] = []

    class Beside(Ledger):
        def __init__(self, collection: Any, clock: Any, *others: Any) -> None:
            super().__init__(collection, clock, *others)
            clock.start(self._work)

        def _work(self) -> None:
            self._clock.sleep(1.0)
            done.append("a page")

    its_world = world.World(1, world.Parts(ledger=Beside))
    worker = its_world.workers[0]
    its_world.scheduler.call_later(0.5, worker.crash)
    its_world.scheduler.run(until_s=2.0)
    assert len(done) == len(its_world.workers), "what died, or what came after it, has read on"
    forget_all()


def test_failed_seeds_are_named_and_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1; which seeds have failed and how one of them is told; all totals in the last line."""
    control = "an ambiguous write taken for a failed one"
    assert seeds.play(20, 1, control) == 1
    *others, failed, hint, totals = capsys.readouterr().out.splitlines()
    numbers = failed.removeprefix("failed seeds: ").split()
    assert numbers
    assert sorted(f"seed {number}" for number in numbers) == sorted(line.partition(":")[0] for line in others)
    assert hint == f"to be told one: make simulate SEED={numbers[0]} CONTROL='{control}'"
    assert re.fullmatch(r"20 seeds, [1-9]\d* steps, [1-9]\d* faults \(.*[1-9]\d* crash, .*\), .*", totals)
    assert re.search(rf", [1-9]\d* violations in {len(numbers)} seeds$", totals)


def test_a_story_that_breaks_off_is_a_failed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised while a story is played or checked, the seed is named and the others go on."""
    monkeypatch.setattr(checker, "violations", lambda history: [][1])
    seed, steps, faults, found = seeds.play_one(3)
    assert (seed, steps, faults) == (3, 0, {})
    assert found == ["the story breaks off: IndexError('list index out of range')"]


def test_controls_tell_at_which_seed_they_fall(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CONTROLS=1 prints the seed of each control, and fails when one is not noticed."""
    names = {"hanging now and then": "no answer within", "with read concern local": "stands at place"}
    monkeypatch.setenv("CONTROLS", "1")
    monkeypatch.setattr(seeds, "CONTROLS", {name: CONTROLS[name] for name in names})
    assert seeds.main() == 0
    *each, total = capsys.readouterr().out.splitlines()
    for line, (name, noticed_by) in zip(each, names.items(), strict=True):
        assert re.fullmatch(rf" +[1-9]\d*  {name} \({noticed_by}\)", line)
    assert total.startswith("2 of 2 controls noticed, the last at seed ")
    assert seeds.try_controls(seeds_max=1) == 1
    assert "never  with read concern local" in capsys.readouterr().out


def test_a_story_can_be_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """SEED=… prints every step of one story and its verdict."""
    monkeypatch.setenv("SEED", "3")
    assert seeds.main() == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("seed 3: ")
    assert printed[-1].endswith("0 violations")
    assert any("initialize event-1" in line for line in printed)
