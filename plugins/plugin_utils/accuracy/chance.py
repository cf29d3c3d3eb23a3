# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a share of right answers says of the share that would be right of endlessly many."""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
_STEPS = 40


def at_most(right: int, total: int, share: float) -> float:
    """Return how likely at most so many are right, where each is with a likelihood of share."""
    if right >= total:
        return 1.0
    if right < 0:
        return 0.0
    if share <= 0 or share >= 1:
        return 1.0 if share <= 0 else 0.0
    odds = share / (1 - share)
    if right <= total * share:
        return _tail(right, total, share, lambda k: k / (total - k + 1) / odds, -1)
    return 1 - _tail(right + 1, total, share, lambda k: (total - k) / (k + 1) * odds, 1)


def _tail(first: int, total: int, share: float, factor: Callable[[int], float], step: int) -> float:
    """Return the sum of likelihoods from first on, away from the likeliest number."""
    term = math.exp(
        math.lgamma(total + 1)
        - math.lgamma(first + 1)
        - math.lgamma(total - first + 1)
        + first * math.log(share)
        + (total - first) * math.log1p(-share)
    )
    found, number = 0.0, first
    while 0 <= number <= total and term > found * 1e-17:
        found += term
        term *= factor(number)
        number += step
    return found


def interval(right: int, total: int) -> tuple[float, float]:
    """Return the shares between which the true one lies, by Clopper and Pearson.

    It is exact: a true share lies outside of it in 5 % of runs at most, above in half of these.
    """
    rare = (1 - CONFIDENCE) / 2
    low = _where(lambda share: 1 - at_most(right - 1, total, share) >= rare) if right else 0.0
    high = _where(lambda share: at_most(right, total, share) < rare) if right < total else 1.0
    return low, high


def _where(holds: Callable[[float], bool]) -> float:
    """Return the share from which on something holds."""
    low, high = 0.0, 1.0
    for _step in range(_STEPS):
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2
