# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plot shows, for plots_io to draw. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# So many curves can be told apart in one plot.
CURVES = 5


class Series(NamedTuple):
    """Points in the order of x; those of a reference are drawn apart from what was measured."""

    name: str
    points: Sequence[tuple[float, float]]
    reference: bool = False


class Lines(NamedTuple):
    """Curves over a common x.

    Fields:
        title: What it is.
        says: The same in a sentence, for who does not see it.
        x: The name of x, with its unit.
        y: The name of y, with its unit.
        series: The curves.
        log_x: Whether x grows by factors.
        times: Whether x is seconds since 1970, UTC.
        bound: A height that is not to be passed, with its name.
    """

    title: str
    says: str
    x: str
    y: str
    series: Sequence[Series]
    log_x: bool = False
    times: bool = False
    bound: tuple[str, float] | None = None


class Bars(NamedTuple):
    """Named values, one below the other.

    Fields:
        title: What it is.
        says: The same in a sentence, for who does not see it.
        x: The name of the values, with their unit.
        bars: Name, value, and the text at its end.
        centre: Where a mark stands, and how wide the band around it is; None for bars from 0.
    """

    title: str
    says: str
    x: str
    bars: Sequence[tuple[str, float, str]]
    centre: tuple[float, float] | None = None
