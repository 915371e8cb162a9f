"""Whether a process's memory stays where it is: the criterion of `make soak`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

GROWTH_MAX = 1.1
"""The last third of a run may have a tenth more than the middle third. The first third is for warming up."""

JUDGED_FROM_S = 60.0
"""A shorter run ends before it is warm."""


@dataclass(frozen=True)
class Trend:
    """How much memory a process had: the medians of the middle and of the last third, and where it tended."""

    middle_mb: float
    last_mb: float
    slope_mb_per_hour: float

    @property
    def is_flat(self) -> bool:
        """It has stopped growing."""
        return self.last_mb <= self.middle_mb * GROWTH_MAX


def trend_of(samples: Sequence[tuple[float, float]]) -> Trend | None:
    """The trend of (second, MB) in order of time; the slope is that of the last two thirds.

    None where there is too little to tell: less than `JUDGED_FROM_S` seconds, or fewer than 12 samples.
    """
    if len(samples) < 12 or samples[-1][0] - samples[0][0] < JUDGED_FROM_S:
        return None
    third = len(samples) // 3
    warm = samples[-2 * third :]
    return Trend(
        middle_mb=statistics.median(mb for _, mb in warm[:third]),
        last_mb=statistics.median(mb for _, mb in warm[third:]),
        slope_mb_per_hour=3600 * statistics.linear_regression(*zip(*warm, strict=True)).slope,
    )
