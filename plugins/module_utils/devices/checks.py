# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks on devices that hold for every vendor's: who uses them, and how much memory is free."""

from __future__ import annotations

from collections import Counter
from typing import Callable, Collection, Hashable, Mapping, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    Device,
    devices_text,
    number_of,
)


def odd_ones(values: Mapping[int, Hashable]) -> set[int]:
    """The devices whose value is not that of most; all of them where most have none in common."""
    counts = Counter(values.values()).most_common()
    if len(counts) < 2:
        return set()
    common, count = counts[0]
    majority = count * 2 > len(values)
    return {device for device, value in values.items() if not majority or value != common}


class Finding(NamedTuple):
    """What is to be said of one device."""

    device: int
    status: str
    observed: str
    remedy: str = ""


def grouped(check_id: str, findings: list[Finding], expected: str) -> list[Check]:
    """One check for each thing that is wrong with some devices, or one that all are well."""
    bad = [finding for finding in findings if finding.status != "ok"]
    groups: dict[tuple[str, str, str], list[int]] = {}
    for device, *said in bad or findings:
        groups.setdefault((said[0], said[1], said[2]), []).append(device)
    return [
        check(check_id, status, devices_text(devices), observed, expected, remedy)
        for (status, observed, remedy), devices in groups.items()
    ]


def holders_of(device: Device, owner_of: Callable[[int], Owner]) -> list[Owner] | None:
    """Who holds the device; null when its tool does not tell."""
    if device["processes"] is None:
        return None
    owners = []
    for process in device["processes"]:
        owner = owner_of(process["pid"])
        owners.append(owner if owner.name else owner._replace(name=process["name"]))
    return owners


def used_by_others(
    device: Device, holders: list[Owner] | None, own_units: Collection[str], listing: str
) -> Finding:
    """Whether a process that is not Muster's holds the device.

    Args:
        device: The device.
        holders: Who holds it.
        own_units: The systemd units of Muster; what they hold is no obstacle.
        listing: The command that lists the device's processes.
    """
    number = number_of(device)
    if holders is None:
        return Finding(
            number,
            "unknown",
            f"{listing.split()[0]} does not tell the processes",
            f"run {listing} as root on the host and see who uses the device",
        )
    foreign = [owner for owner in holders if not owner.belongs_to(own_units)]
    if foreign:
        return Finding(
            number,
            "failed",
            "used by " + ", ".join(str(owner) for owner in foreign),
            "stop it, or leave the device out of muster_devices",
        )
    return Finding(number, "ok", "held by Muster's own units" if holders else "none")


def memory_free(
    device: Device,
    holders: list[Owner] | None,
    own_units: Collection[str],
    needed: float,
    listing: str,
) -> Finding:
    """Whether this share of the memory is free, or Muster's own already."""
    number, used, total = number_of(device), device["memory_used_mb"], device["memory_total_mb"]
    if used is None or total is None:
        return Finding(
            number, "unknown", "memory not told", f"look at what {listing} prints for the device"
        )
    if any(owner.belongs_to(own_units) for owner in holders or []):
        return Finding(number, "ok", "held by Muster's own units")
    if total - used < needed * total:
        return Finding(
            number,
            "failed",
            f"{used} of {total} MB used",
            f"end what holds the memory ({listing} lists processes, also of containers), or "
            "lower gpu-memory-utilization",
        )
    return Finding(number, "ok", "enough free")
