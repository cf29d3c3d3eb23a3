# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a value grows over time: a leak, or answers that take longer and longer."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

# (seconds, value), in the order of time.
Points = Sequence[tuple[float, float]]

# Caches fill and allocators settle at first: that share of the time tells nothing.
_SETTLING = 0.2
# Fewer points cannot show a trend against noise.
FEWEST = 10
# Slopes of all pairs are taken: more points than these are put together to medians first.
_MOST = 120
# How many standard deviations of Mann and Kendall's statistic noise stays below: one series of
# noise in 4000 does not.
_SIGNIFICANT = 3.5
# What levels off is no leak: the last half has to grow at this share of the whole's rate.
_GOING_ON = 0.4


class Drift(NamedTuple):
    """A growth that is more than noise.

    Fields:
        per_hour: How much the value grows in an hour.
        growth: How much it grew in the time that was looked at.
        percent: That in percent of its median.
    """

    per_hour: float
    growth: float
    percent: float


def drift_of(points: Points, least: float, least_percent: float) -> Drift | None:
    """Return how a value grows; None where it does not, or where that cannot be told from noise.

    The slope is the median of those of all pairs (Theil, Sen), which single outliers do not move;
    it counts where the pairs agree on a trend (Mann, Kendall) that goes on to the end.

    Args:
        points: What was seen.
        least: A smaller growth is none.
        least_percent: Nor is one of a smaller share of the median.
    """
    settled = settled_points(points)
    if len(settled) < FEWEST:
        return None
    slope = _slope(settled)
    growth = slope * (settled[-1][0] - settled[0][0])
    middle = statistics.median(value for _at, value in settled)
    percent = 100 * growth / middle if middle > 0 else 0.0
    if growth < least or percent < least_percent or _trend(settled) < _SIGNIFICANT:
        return None
    if _slope(settled[len(settled) // 2 :]) < _GOING_ON * slope:
        return None
    return Drift(slope * 3600, growth, percent)


def settled_points(points: Points) -> list[tuple[float, float]]:
    """Return the points after the first part of the time, not too many of them."""
    if not points:
        return []
    begin, end = points[0][0], points[-1][0]
    settled = [one for one in points if one[0] >= begin + _SETTLING * (end - begin)]
    size = math.ceil(len(settled) / _MOST)
    groups = [settled[at : at + size] for at in range(0, len(settled), size)]
    return [
        (
            statistics.median(at for at, _value in group),
            statistics.median(value for _at, value in group),
        )
        for group in groups
    ]


def _slope(points: Points) -> float:
    slopes = [
        (value - before) / (at - then)
        for (then, before), (at, value) in itertools.combinations(points, 2)
        if at > then
    ]
    return statistics.median(slopes) if slopes else 0.0


def _trend(points: Points) -> float:
    """Return Mann and Kendall's statistic in standard deviations, ties accounted for."""
    values = [value for _at, value in points]
    pairs = itertools.combinations(values, 2)
    score = sum((later > before) - (later < before) for before, later in pairs)
    count = len(values)
    ties = [values.count(value) for value in set(values)]
    variance = (
        count * (count - 1) * (2 * count + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)
    ) / 18
    if variance <= 0 or score == 0:
        return 0.0
    return (score - math.copysign(1, score)) / math.sqrt(variance)
