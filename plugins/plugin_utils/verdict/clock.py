# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a node's clock is off, by the controller's. Pure."""

from __future__ import annotations

from typing import Any


def clock_offset(sent: float, began: float, ended: float, received: float) -> list[float]:
    """Between which two values a node's clock is ahead of the controller's, in seconds.

    The node read its clock at C(began) and C(ended), both between the controller's C(sent) and
    C(received). However long the way took, the offset lies in between.
    """
    return [round(ended - received, 3), round(began - sent, 3)]


def note_clock_offset(result: dict[str, Any], sent: float, received: float) -> None:
    """Add C(clock_offset) to the facts of a result that has a C(clock).

    A node that did not answer has neither.
    """
    if "clock" in result and "facts" in result:
        clock = result["clock"]
        offset = clock_offset(sent, clock["began"], clock["ended"], received)
        result["facts"]["clock_offset"] = offset
