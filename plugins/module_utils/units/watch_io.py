# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a node's units for a while: their memory, that of their devices, and their restarts."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.devices.memory_io import memory_used
from ansible_collections.muster.serving.plugins.module_utils.programs.stall_evidence import (
    descendants,
    entries,
    parents,
    read_text,
    roots,
)
from ansible_collections.muster.serving.plugins.module_utils.units import (
    log_io,
    memory,
    unit_files,
    unit_io,
)
from ansible_collections.muster.serving.plugins.module_utils.units.unit_io import UnitError

_STEP_S = 0.5
_TOOL_S = 20.0
_LOG_BYTES = 1 << 20
_LOG_LINES = 25


def sample(units: Sequence[str], vendor: str) -> dict[str, Any]:
    """Return {at, units, devices} of this moment.

    at is in seconds since 1970; a unit has state, restarts, invocation and memory_mb, which is null
    where it cannot be told, and devices has the MiB in use by device.

    Raises:
        UnitError: systemctl does not answer.
    """
    shown = unit_io.show(units)
    first = roots(units)
    return {
        "at": time.time(),
        "units": {
            unit: {
                "state": shown.get(unit, {}).get("ActiveState", "unknown"),
                "restarts": unit_files.restarts(shown.get(unit, {})),
                "invocation": shown.get(unit, {}).get("InvocationID", ""),
                "memory_mb": _memory_mb(first[unit]),
            }
            for unit in units
        },
        "devices": memory_used(vendor, _TOOL_S),
    }


def _memory_mb(pids: Sequence[int]) -> float | None:
    """Return the MiB of the control groups that processes are in, each counted once.

    Where those cannot be read, it is the anonymous memory of the processes and their children.
    """
    mounts = read_text("/proc/self/mountinfo")
    paths = {memory.memory_stat_path(read_text(f"/proc/{pid}/cgroup"), mounts) for pid in pids}
    found = [memory.memory_bytes(read_text(path)) for path in paths if path]
    held = sum(value for value in found if value is not None)
    if not held:
        own = descendants(parents(read_text, entries("/proc")), pids)
        held = sum(memory.resident_bytes(read_text(f"/proc/{pid}/status")) for pid in own)
    return round(held / (1 << 20), 1) if held else None


def watch(
    units: Sequence[str], vendor: str, every: float, duration: float, ends: str
) -> list[dict[str, Any]]:
    """Return samples of so many seconds, fewer where the file ends appears, or is there already.

    Raises:
        UnitError: systemctl does not answer at the first one.
    """
    samples = [sample(units, vendor)]
    deadline = time.monotonic() + duration
    due = time.monotonic() + every
    while time.monotonic() < deadline and not os.path.exists(ends):
        time.sleep(_STEP_S)
        if time.monotonic() >= due:
            due = time.monotonic() + every
            # A node under load may be late once; the next look tells.
            with contextlib.suppress(UnitError):
                samples.append(sample(units, vendor))
    with contextlib.suppress(UnitError):
        samples.append(sample(units, vendor))
    return samples


def last_words(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return by unit the last lines of the run that it had at first, where that has ended.

    They are without secrets and prompts.
    """
    told = {}
    for unit, before in samples[0]["units"].items():
        after = samples[-1]["units"][unit]
        ended = before["invocation"] != after["invocation"] or after["state"] != "active"
        if ended and before["invocation"]:
            try:
                lines = log_io.read([before["invocation"]], _LOG_BYTES)
            except UnitError as error:
                lines = [str(error)]
            told[unit] = redaction.lines("\n".join(lines[-_LOG_LINES:])).splitlines()
    return told
