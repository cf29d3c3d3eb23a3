# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check is. Modules observe and return checks; the action cluster_verdict judges them."""

from __future__ import annotations

from typing import Dict

from ansible_collections.muster.serving.plugins.module_utils.common.check_table import CHECKS

STATUSES = ("ok", "failed", "warning", "waived", "pending", "unknown")
# How bad a status is. What is pending or unknown keeps nothing from starting, like a warning.
_SEVERITY = {"ok": 0, "waived": 0, "pending": 1, "unknown": 1, "warning": 1, "failed": 2}

Check = Dict[str, str]

# Stands in a remedy for the hosts to limit a playbook to. The verdict puts them in, since a node
# does not know them.
HOSTS = "<hosts>"


class OptionError(ValueError):
    """Options of a check that do not go together."""


def check(
    check_id: str,
    status: str,
    subject: str,
    observed: str = "",
    expected: str = "",
    remedy: str = "",
) -> Check:
    """Return one named verdict about one subject.

    Args:
        check_id: An id of CHECKS, which has its phase and its worst status.
        status: One of STATUSES. What is pending is repaired by prepare.
        subject: What was looked at, without the node: a device, a port, a file.
        observed: What was seen.
        expected: What would have been right.
        remedy: What the operator can do about it. Empty only when the status is ok.

    Raises:
        ValueError: The id or the status is unknown, or the status is above the worst of this id.
    """
    kind = CHECKS.get(check_id)
    if kind is None:
        raise ValueError(f"check {check_id} is not in the table of checks")
    if status not in STATUSES:
        raise ValueError(f"check {check_id}: unknown status {status!r}")
    if _SEVERITY[status] > _SEVERITY[kind.worst]:
        raise ValueError(f"check {check_id} is at worst {kind.worst}, not {status}")
    return {
        "id": check_id,
        "phase": kind.phase,
        "status": status,
        "subject": subject,
        "observed": observed,
        "expected": expected,
        "remedy": remedy,
    }


def chosen_devices(devices: list[int] | None, count: int) -> list[int]:
    """Return the devices that a deployment uses: those named, or else the first ones.

    Raises:
        OptionError: So many are not named.
    """
    if devices and len(set(devices)) != count:
        raise OptionError(f"devices names {len(set(devices))} devices, device_count is {count}")
    return devices or list(range(count))


def broken_check(module: str, problem: str) -> Check:
    """Return what stands for the checks of a module that ended without any."""
    return check(
        module.replace("_", "-"),
        "failed",
        module,
        problem,
        "the module's checks",
        "run again with -vvv to see what the module printed",
    )


def failure_message(checks: list[Check]) -> str:
    """Return one line a failed check, with what to do about it; empty when none failed."""
    lines = []
    for entry in checks:
        if entry["status"] == "failed":
            line = f"{entry['id']} {entry['subject']}: {entry['observed']}"
            if entry["expected"]:
                line += f"; expected {entry['expected']}"
            lines.append(f"{line}. {entry['remedy']}")
    return "\n".join(lines)
