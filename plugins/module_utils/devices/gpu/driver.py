# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a GPU driver is as new as the devices and the engine's libraries want it."""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.versions import leading_numbers

# What is asked of a driver, as `driver` of a plan has it (docs/plan.md).
Needs = Mapping[str, Any]
Floor = Mapping[str, Any]


def floor_alone(floor: str | None) -> Needs | None:
    """Return the needs of which only the oldest driver is said; null without one."""
    if floor is None:
        return None
    floors = [{"floor": floor, "reason": "", "sure": True, "of_cuda": False}]
    nothing = dict.fromkeys(("cuda", "full", "compat_newest", "instead"))
    return {**nothing, "floors": floors, "compat": "none", "compat_branches": []}


def driver_check(
    tool: str,
    seen: str | None,
    needs: Needs,
    names: Sequence[str] = (),
    check_id: str = "gpu-driver",
    subject: str = "driver",
) -> Check:
    """Return whether the driver is new enough.

    Below a floor that is only assumed it is a warning, and so it is where the engine was told to
    use forward compatibility: whether that is loaded is not seen before a start.

    Args:
        tool: The tool that told its version.
        seen: The driver's version, or null.
        needs: What is asked of it.
        names: The names of the GPUs.
        check_id: The check's id.
        subject: What is looked at.
    """
    version = leading_numbers(seen or "")
    if not version:
        remedy = f"look at what {tool} prints as the driver's version"
        status, floor = "unknown", next(iter(needs["floors"]), None)
    else:
        status, floor, remedy = _judge(version, needs, names)
    expected = "no oldest one is known"
    if floor:
        reason = f": {floor['reason']}" if floor["reason"] else ""
        expected = f"{floor['floor']} or later{reason}"
    return check(check_id, status, subject, seen or "no version told", expected, remedy)


def _judge(
    version: tuple[int, ...], needs: Needs, names: Sequence[str]
) -> tuple[str, Floor | None, str]:
    """Return status, the floor that decides, and the remedy."""
    if not needs["floors"]:
        return "unknown", None, "compare it with what the engine's CUDA wants"
    missed = [one for one in needs["floors"] if version < leading_numbers(one["floor"])]
    if missed:
        return _too_old(missed, version, needs, names)
    branch, newest, compat = version[0], needs["compat_newest"], needs["compat"]
    first = needs["floors"][0]
    if compat in ("on", "always") and newest and branch > newest:
        way = {
            "on": "take VLLM_ENABLE_CUDA_COMPATIBILITY out of muster_engine_env",
            "always": "take another version of the engine, whose image does not load it",
        }[compat]
        remedy = f"{way}: cuda-compat of branch {newest} before a later driver ends in error 803"
        reason = "the driver does without cuda-compat, whose libraries are older than it"
        return "warning", {"floor": first["floor"], "reason": reason}, remedy
    full = needs["full"]
    if not full or version >= leading_numbers(full):
        return "ok", first, ""
    if compat == "on" and _compat_is_for(branch, needs, names):
        return "ok", first, ""
    return (
        "warning",
        {"floor": full, "reason": f"it is the driver of CUDA {needs['cuda']}"},
        f"install driver {full} or later, and reboot: this one runs the libraries, but a kernel "
        "that comes as PTX alone, as some for quantised weights do, fails at its first launch "
        "(error 222, the provided PTX was compiled with an unsupported toolchain)",
    )


def _too_old(
    missed: Sequence[Floor], version: tuple[int, ...], needs: Needs, names: Sequence[str]
) -> tuple[str, Floor, str]:
    """Return what is to be said of a driver below these floors, the highest of them first."""
    install = f"install driver {missed[0]['floor']} or later, and reboot"
    branches = needs["compat_branches"]
    asked = needs["compat"] == "on" and branches and not _consumer(names)
    carried = asked and version[0] >= min(branches)
    left = [floor for floor in missed if not (floor["of_cuda"] and carried)]
    if not left:
        listed = ", ".join(map(str, branches))
        return (
            "warning",
            missed[0],
            f"{install}; without it the engine runs by cuda-compat alone, as "
            f"VLLM_ENABLE_CUDA_COMPATIBILITY asks for, and NVIDIA lists branches {listed} for it",
        )
    sure = [floor for floor in left if floor["sure"]]
    floor = (sure or left)[0]
    ways = [install]
    other = needs["instead"]
    if other and version >= leading_numbers(other["floor"]):
        ways.append(f"or take {other['how']}, built for CUDA {other['cuda']}")
    if floor["of_cuda"] and _compat_is_for(version[0], needs, names):
        switch = "see to it that the engine loads it, and waive this check"
        if needs["compat"] == "off":
            switch = 'VLLM_ENABLE_CUDA_COMPATIBILITY: "1" in muster_engine_env'
        ways.append(f"or, on data-centre GPUs, use forward compatibility (cuda-compat): {switch}")
    if not sure:
        ways.append(
            "or nothing, where it is built for an older CUDA: a tag with cu129 would say so"
        )
    return "failed" if sure else "warning", floor, "; ".join(ways)


def _compat_is_for(branch: int, needs: Needs, names: Sequence[str]) -> bool:
    """Return whether NVIDIA lists forward compatibility for this driver, on such GPUs."""
    return branch in needs["compat_branches"] and not _consumer(names)


def _consumer(names: Sequence[str]) -> bool:
    return any(re.search(r"GeForce|TITAN", name, re.IGNORECASE) for name in names)
