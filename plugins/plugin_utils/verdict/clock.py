# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a node's clock is ahead of the controller's."""

from __future__ import annotations

from typing import Any


def clock_offset(sent: float, began: float, ended: float, received: float) -> list[float]:
    """Return the bounds, in seconds, of how far a node's clock is ahead of the controller's.

    The node read its clock when it began and when it ended, both between the moments at which the
    controller sent and received. So the bounds hold however long the network took.
    """
    return [round(ended - received, 3), round(began - sent, 3)]


def note_clock_offset(result: dict[str, Any], sent: float, received: float) -> None:
    """Add the fact clock_offset to a result with a clock; a node that did not answer has none."""
    if "clock" in result and "facts" in result:
        clock = result["clock"]
        offset = clock_offset(sent, clock["began"], clock["ended"], received)
        result["facts"]["clock_offset"] = offset
