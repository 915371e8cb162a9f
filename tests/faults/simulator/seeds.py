"""Many seeds on all cores, or the story of one, told.

Not in `__main__.py`: a spawned process does not import that one, and would not find what it is to play.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from multiprocessing import get_context

from .. import checker
from . import world
from .controls import CONTROLS

CHUNK = 20
CONTROL_SEEDS_MAX = 1_000


def main() -> int:
    """Play many seeds, or tell one. The exit status is 1 if anything was violated."""
    logging.disable(logging.CRITICAL)  # the code under test complains a lot, and rightly
    if seed := os.environ.get("SEED"):
        return tell(int(seed))
    seeds, first = (int(argument) for argument in sys.argv[1:3])
    return play(seeds, first)


def tell(seed: int) -> int:
    """The whole story of one seed, step by step, and what was violated."""
    history = world.run(seed)
    found = checker.violations(history)
    print(*history.story, sep="\n")
    print(*(f"VIOLATION {sentence}" for sentence in found), sep="\n")
    print(f"seed {seed}: {history.steps} steps, {len(found)} violations")
    return 1 if found else 0


def play(seeds: int, first: int) -> int:
    """`seeds` stories from seed `first`, on all cores."""
    faults: Counter[str] = Counter()
    steps = done = 0
    failed: dict[int, list[str]] = {}
    numbers = range(first, first + seeds)
    # spawn: a forked child would inherit the parent's tasks.
    with get_context("spawn").Pool() as pool:
        for seed, its_steps, its_faults, found in pool.imap_unordered(play_one, numbers, CHUNK):
            done += 1
            steps += its_steps
            faults.update(its_faults)
            if found:
                failed[seed] = found
                print(f"seed {seed}: {found[0]}", flush=True)
            if done % 500 == 0:
                print(f"{done} of {seeds} seeds, {steps} steps, {len(failed)} failed", flush=True)
    print("faults:", ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items())))
    print(f"{seeds} seeds, {steps} steps, {sum(map(len, failed.values()))} violations in {len(failed)} seeds")
    if failed:
        print("failed:", *sorted(failed))
        print(f"replay one: SEED={min(failed)} python -m tests.faults.simulator")
    return 1 if failed else 0


def play_one(seed: int) -> tuple[int, int, dict[str, int], list[str]]:
    """One story: its seed, steps, faults and violations."""
    logging.disable(logging.CRITICAL)
    history = world.run(seed)
    return seed, history.steps, history.faults, checker.violations(history)


def noticed_at(name: str, seeds_max: int = CONTROL_SEEDS_MAX) -> int | None:
    """The first seed, from 1, at which the violation is found that a control is about."""
    logging.disable(logging.CRITICAL)
    control = CONTROLS[name]
    for seed in range(1, seeds_max + 1):
        if control.notices(checker.violations(world.run(seed, control.parts))):
            return seed
    return None
