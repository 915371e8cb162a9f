"""Many seeds on all cores, or the story of one, told; and at which seed each control is noticed.

Not in `__main__.py`: a spawned process does not import that one, and would not find what it is to play.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from functools import partial
from multiprocessing import get_context

from .. import checker
from . import world
from .controls import CONTROLS

CHUNK = 20
CONTROL_SEEDS_MAX = 1_000


def main() -> int:
    """Play many seeds, tell one, or try the controls. The exit status is 1 if anything is not as it should be."""
    logging.disable(logging.CRITICAL)  # the code under test complains a lot, and rightly
    control = os.environ.get("CONTROL")
    if seed := os.environ.get("SEED"):
        return tell(int(seed), control)
    if os.environ.get("CONTROLS"):
        return try_controls()
    seeds, first = (int(argument) for argument in sys.argv[1:3])
    return play(seeds, first, control)


def tell(seed: int, control: str | None = None) -> int:
    """The whole story of one seed, step by step, and what was violated."""
    history = world.run(seed, _parts(control))
    found = checker.violations(history)
    print(*history.story, sep="\n")
    print(*(f"VIOLATION {sentence}" for sentence in found), sep="\n")
    print(f"seed {seed}: {history.steps} steps, {len(found)} violations")
    return 1 if found else 0


def play(seeds: int, first: int, control: str | None = None) -> int:
    """`seeds` stories from seed `first`, on all cores; all that was counted stands in the last line."""
    faults: Counter[str] = Counter()
    steps = done = 0
    failed: dict[int, list[str]] = {}
    numbers = range(first, first + seeds)
    # spawn: a forked child would inherit the parent's tasks.
    with get_context("spawn").Pool() as pool:
        stories = pool.imap_unordered(partial(play_one, control=control), numbers, CHUNK)
        for seed, its_steps, its_faults, found in stories:
            done += 1
            steps += its_steps
            faults.update(its_faults)
            if found:
                failed[seed] = found
                print(f"seed {seed}: {found[0]}", flush=True)
            if done % 500 == 0 and done < seeds:
                print(f"{done} of {seeds} seeds, {steps} steps, {len(failed)} failed", flush=True)
    if failed:
        print("failed seeds:", *sorted(failed))
        print(f"to be told one: make simulate SEED={min(failed)}" + (f" CONTROL='{control}'" if control else ""))
    kinds = ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items()))
    violations = sum(map(len, failed.values()))
    verdict = f"{violations} violations in {len(failed)} seeds"
    print(f"{seeds} seeds, {steps} steps, {faults.total()} faults ({kinds}), {verdict}")
    return 1 if failed else 0


def play_one(seed: int, control: str | None = None) -> tuple[int, int, dict[str, int], list[str]]:
    """One story: its seed, steps, faults and violations."""
    logging.disable(logging.CRITICAL)
    try:
        history = world.run(seed, _parts(control))
        return seed, history.steps, history.faults, checker.violations(history)
    except Exception as error:  # the others are played all the same, and this one is named
        return seed, 0, {}, [f"the story breaks off: {error!r}"]


def _parts(control: str | None) -> world.Parts | None:
    return CONTROLS[control].parts if control else None


# Controls.


def try_controls(seeds_max: int = CONTROL_SEEDS_MAX) -> int:
    """At which seed each control is noticed, by the violation that it is about. The exit status is 1 if one is not."""
    with get_context("spawn").Pool() as pool:
        fallen = list(pool.imap(partial(noticed_at, seeds_max=seeds_max), CONTROLS, chunksize=1))
    for seed, (name, control) in zip(fallen, CONTROLS.items(), strict=True):
        print(f"{seed or 'never':>5}  {name} ({control.noticed_by})")
    noticed = [seed for seed in fallen if seed is not None]
    print(f"{len(noticed)} of {len(CONTROLS)} controls noticed, the last at seed {max(noticed, default=0)}")
    return 0 if len(noticed) == len(CONTROLS) else 1


def noticed_at(name: str, seeds_max: int = CONTROL_SEEDS_MAX, tried_first: int = 1) -> int | None:
    """The first seed, of `tried_first` and then from 1, at which the violation is found that a control is about."""
    logging.disable(logging.CRITICAL)
    control = CONTROLS[name]
    for seed in (tried_first, *range(1, seeds_max + 1)):
        if control.notices(checker.violations(world.run(seed, control.parts))):
            return seed
    return None
