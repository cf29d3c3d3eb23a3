# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a text of JSON says, of a file that anybody may have broken."""

from __future__ import annotations

import json
import math
from typing import Any


def parse(text: str | None) -> Any:
    """Return what a text of JSON says.

    Raises:
        ValueError: It is none, has a number that is none to JSON, or is nested too deep to be read.
    """
    try:
        return json.loads(text or "", parse_constant=_number, parse_float=_number)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _number(text: str) -> float:
    """Return a number; NaN and Infinity, which Python reads too, count and compare as none."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number
