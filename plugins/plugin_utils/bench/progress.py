# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a client is, from what it prints."""

from __future__ import annotations

import re
from typing import NamedTuple

# The progress bar of both engines' clients: 12/64 [00:31<02:05, ...
_BAR = re.compile(r"(\d+)/(\d+) \[([\d:]+)<([\d:]+|\?)")
# GuideLLM's lines: ... | elapsed=10.0s | successful=12 errored=0 incomplete=4 | ...
_COUNTS = re.compile(r"\| successful=(\d+) errored=(\d+) ")


class Progress(NamedTuple):
    """The requests that are done, of how many, and the seconds left, None where unknown."""

    done: int
    total: int
    left_s: int | None


def progress_of(printed: str, total: int) -> Progress | None:
    """Return what the last bar of so many requests shows; None before the first."""
    bars = [shown for shown in _BAR.finditer(printed) if int(shown[2]) == total]
    if not bars:
        counts = _COUNTS.findall(printed)
        done = sum(map(int, counts[-1])) if counts else 0
        return Progress(min(done, total), total, None) if done else None
    last = bars[-1]
    left = None if last[4] == "?" else _seconds(last[4])
    return Progress(min(int(last[1]), total), total, left)


def _seconds(clock: str) -> int:
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part or 0)
    return seconds


def duration(seconds: float) -> str:
    """Return a time as people read it: 45 s, 3 min, 1 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"
