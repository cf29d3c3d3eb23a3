# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check is. Modules observe and return checks; the action cluster_verdict judges them."""

from __future__ import annotations

from typing import Dict

STATUSES = ("ok", "failed", "warning", "waived", "pending", "unknown")
PHASES = ("bare", "ready")

Check = Dict[str, str]


class OptionError(ValueError):
    """Options of a check that do not go together."""


def check(
    check_id: str,
    phase: str,
    status: str,
    subject: str,
    observed: str = "",
    expected: str = "",
    remedy: str = "",
) -> Check:
    """One named verdict about one subject.

    Args:
        check_id: Stable kebab-case name, for instance C(npu-health).
        phase: C(bare), true before prepare, or C(ready), true after it.
        status: One of STATUSES. C(pending) is what prepare will repair.
        subject: What was looked at, without the node: a device, a port, a file.
        observed: What was seen.
        expected: What would have been right.
        remedy: What the operator can do about it. Empty only when status is C(ok).

    Raises:
        ValueError: Phase or status is not a known word.
    """
    if phase not in PHASES:
        raise ValueError(f"check {check_id}: unknown phase {phase!r}")
    if status not in STATUSES:
        raise ValueError(f"check {check_id}: unknown status {status!r}")
    return {
        "id": check_id,
        "phase": phase,
        "status": status,
        "subject": subject,
        "observed": observed,
        "expected": expected,
        "remedy": remedy,
    }


def chosen_devices(devices: list[int] | None, count: int) -> list[int]:
    """The devices that a deployment uses: those named, or else the first ones.

    Raises:
        OptionError: So many are not named.
    """
    if devices and len(set(devices)) != count:
        raise OptionError(f"devices names {len(set(devices))} devices, device_count is {count}")
    return devices or list(range(count))


def broken_check(module: str, phase: str, problem: str) -> Check:
    """What stands for the checks of a module that ended without any."""
    return check(
        module.replace("_", "-"),
        phase,
        "failed",
        module,
        problem,
        "the module's checks",
        "run again with -vvv to see what the module printed",
    )


def failure_message(checks: list[Check]) -> str:
    """One line a failed check, with what to do about it; empty when none failed."""
    lines = []
    for entry in checks:
        if entry["status"] == "failed":
            line = f"{entry['id']} {entry['subject']}: {entry['observed']}"
            if entry["expected"]:
                line += f"; expected {entry['expected']}"
            lines.append(f"{line}. {entry['remedy']}")
    return "\n".join(lines)
