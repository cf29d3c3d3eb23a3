# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a version of CUDA asks of NVIDIA's driver, from NVIDIA's own tables. Pure."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

# The oldest driver for libraries of a major version, by minor version compatibility.
LIBRARY_FLOORS = {11: "450", 12: "525.60.13", 13: "580.65.06"}

# The driver that came with a toolkit. An older one does not take the PTX that it makes.
TOOLKIT_DRIVERS = {
    "12.0": "525.60.13",
    "12.1": "530.30.02",
    "12.2": "535.54.03",
    "12.3": "545.23.06",
    "12.4": "550.54.14",
    "12.5": "555.42.02",
    "12.6": "560.28.03",
    "12.8": "570.26",
    "12.9": "575.51.03",
    "13.0": "580.65.06",
    "13.1": "590.44.01",
    "13.2": "595.45.04",
    "13.3": "610",
    "13.4": "615",
    "13.5": "620",
}

# The driver branches that forward compatibility (cuda-compat) of a toolkit is for, as NVIDIA lists
# them. Its libraries are no use to the branch that they come from, and break later ones.
COMPAT_BRANCHES = {
    "12.3": [535],
    "12.4": [535],
    "12.5": [535],
    "12.6": [535],
    "12.8": [535],
    "12.9": [535, 570],
    "13.0": [535, 570],
    "13.1": [535, 570, 580],
    "13.2": [535, 570, 580, 590],
    "13.3": [535, 570, 580, 590, 595],
    "13.4": [535, 570, 580, 590, 595, 610],
}

# What a plan or an image asks of a driver; `driver` in docs/plan.md says what the keys hold.
Needs = Dict[str, Any]


def cuda_of(text: str) -> str | None:
    """Return MAJOR.MINOR of a version of CUDA; null where the text is none."""
    match = re.match(r"([0-9]{1,3})\.([0-9]{1,3})(?![0-9])", text, re.ASCII)
    return f"{int(match[1])}.{int(match[2])}" if match else None


def library_floor(cuda: str) -> str | None:
    """Return the oldest driver for libraries of this CUDA; null where it is not known."""
    return LIBRARY_FLOORS.get(int(cuda.partition(".")[0]))


def driver_needs(
    cuda: str | None,
    why: str,
    sure: bool,
    compat: str = "none",
    instead: Mapping[str, str] | None = None,
) -> Needs:
    """Return what a build for this CUDA asks of the driver.

    Args:
        cuda: MAJOR.MINOR, or MAJOR alone; null where nothing is known of it.
        why: What is built for this CUDA, in words.
        sure: Whether that is known; otherwise it is assumed.
        compat: Whether forward compatibility is "on", "off" until it is asked for, or "always" on;
            "none" where the engine has no switch for it.
        instead: Another build of the engine for older drivers: cuda, its floor, and how to get it.
    """
    floor = library_floor(cuda) if cuda else None
    full = TOOLKIT_DRIVERS.get(cuda) if cuda else None
    reason = f"{why}, and CUDA {(cuda or '').partition('.')[0]} wants it"
    return {
        "floors": [{"floor": floor, "reason": reason, "sure": sure, "of_cuda": True}]
        if floor
        else [],
        "cuda": cuda,
        "full": full if floor and full != floor else None,
        "compat": compat,
        "compat_branches": COMPAT_BRANCHES.get(cuda or "", []),
        "compat_newest": int(full.split(".")[0]) if full else None,
        "instead": dict(instead) if instead else None,
    }
