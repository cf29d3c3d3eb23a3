# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and ranges of numbers as text: ports, devices, ranks."""

from __future__ import annotations

import re
from typing import Iterable

MAX_PORT = 65535

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def ranges_text(numbers: Iterable[int], separator: str = ",") -> str:
    """Return numbers sorted, neighbours as a range: 0-2,5."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return separator.join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def port_range(text: str, least: int = 1) -> range | None:
    """Return the ports of a number or of FIRST-LAST; None when the text is neither.

    Args:
        text: What was given.
        least: The smallest number that is a port.
    """
    match = _RANGE.fullmatch(text)
    if not match:
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    return range(first, last + 1) if least <= first <= last <= MAX_PORT else None
