# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks on devices that hold for every vendor's: the driver, who uses them, free memory."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Callable, Collection, Hashable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import (
    Owner,
    held_by,
    way_to_end,
)
from ansible_collections.muster.serving.plugins.module_utils.common.tool_text import excerpt
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    Device,
    Observation,
    devices_text,
    number_of,
)


class Complaint(NamedTuple):
    """Words by which a driver's tool says why it can do nothing.

    Attributes:
        words: A regular expression of them.
        meaning: What they mean.
        remedy: What to do about it.
        of_driver: Whether the driver itself is not as it should be. Where it is well, a device or
            who asks is not; null where only the kernel tells which.
    """

    words: str
    meaning: str
    remedy: str
    of_driver: bool | None = True


class Driver(NamedTuple):
    """How to speak of a vendor's driver, and what its tool says when it can do nothing.

    Attributes:
        name: What to call it.
        install: What to do where it is not there.
        bring_tool: What to do where it is loaded and only the tool is missing.
        signs: Files of which a loaded driver shows one at least.
        complaints: The most telling one first.
    """

    name: str = "driver"
    install: str = "install the driver, and reboot"
    bring_tool: str = "the driver is loaded: install the tool that belongs to it"
    signs: Sequence[str] = ()
    complaints: Sequence[Complaint] = ()

    def complaint(self, text: str) -> Complaint | None:
        """Return what the tool complains of, None where it does not in words that are known."""
        return next((one for one in self.complaints if re.search(one.words, text, re.I)), None)


def _reason(tool: str, seen: Observation[Any]) -> str:
    """Say why there are no devices, in the tool's own words or for want of them."""
    if seen.printed:
        return f"{tool} says: {excerpt(seen.printed, 160)}"
    return seen.failure or "; ".join(seen.problems) or f"{tool} lists no device"


def driver_loaded_check(
    check_id: str, tool: str, driver: Driver, seen: Observation[Any], loaded: bool | None
) -> Check:
    """Return whether the driver is installed and loaded, as far as its tool and the kernel tell.

    Args:
        check_id: The vendor's id of it.
        tool: The tool that was asked.
        driver: How to speak of the driver.
        seen: What the tool told.
        loaded: Whether the kernel shows a driver; null where nobody looked.
    """

    def verdict(status: str, observed: str, remedy: str = "") -> Check:
        expected = "installed, loaded, and of one version with its libraries"
        return check(check_id, status, driver.name, observed, expected, remedy)

    if seen.devices:
        return verdict("ok", f"{tool} lists devices")
    complaint = driver.complaint(seen.printed)
    if complaint and complaint.of_driver:
        observed = f"{complaint.meaning} ({_reason(tool, seen)})"
        return verdict("failed", observed, complaint.remedy)
    if loaded or (complaint and complaint.of_driver is False):
        return verdict("ok", "loaded")
    if complaint and loaded is False:
        return verdict("failed", f"not loaded ({_reason(tool, seen)})", complaint.remedy)
    if seen.absent and loaded is False:
        observed = f"not installed: no {tool}, and the kernel has no such driver"
        return verdict("failed", observed, driver.install)
    return verdict("unknown", "nothing tells of it", "look for it with lsmod and dmesg on the node")


def silence(
    tool: str, driver: Driver, seen: Observation[Any], loaded: bool | None
) -> tuple[str, str]:
    """Return what was seen of a tool that lists no device, and what to do."""
    complaint = driver.complaint(seen.printed)
    reason = _reason(tool, seen)
    if complaint:
        return f"{complaint.meaning} ({reason})", complaint.remedy
    if seen.absent:
        return reason, driver.bring_tool if loaded else driver.install
    return reason, f"look at what {tool} prints and at dmesg"


def odd_ones(values: Mapping[int, Hashable]) -> set[int]:
    """Return the devices whose value is not that of most; all where most have none in common."""
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
    """Return one check for each thing wrong with some devices, or one that all are well."""
    bad = [finding for finding in findings if finding.status != "ok"]
    groups: dict[tuple[str, str, str], list[int]] = {}
    for device, *said in bad or findings:
        groups.setdefault((said[0], said[1], said[2]), []).append(device)
    return [
        check(check_id, status, devices_text(devices), observed, expected, remedy)
        for (status, observed, remedy), devices in groups.items()
    ]


def holders_of(device: Device, owner_of: Callable[[int], Owner]) -> list[Owner] | None:
    """Return who holds the device; null when its tool does not tell."""
    if device["processes"] is None:
        return None
    owners = []
    for process in device["processes"]:
        owner = owner_of(process["pid"])
        owners.append(owner if owner.name else owner._replace(name=process["name"]))
    return owners


def _hidden(listing: str) -> str:
    """Say what to do about memory that no listed process holds."""
    return (
        f"its holder is in another PID namespace (run {listing} on the host of this container, and "
        "in every other), or has died: then reset the idle device, or reboot"
    )


def used_by_others(
    device: Device,
    holders: list[Owner] | None,
    own_units: Collection[str],
    listing: str,
    idle_mb: int | None = None,
) -> Finding:
    """Check whether a process that is not Muster's holds the device.

    Args:
        device: The device.
        holders: Who holds it.
        own_units: The systemd units of Muster; what they hold is no obstacle.
        listing: The command that lists the device's processes.
        idle_mb: The most memory that an idle device shows as used; without it none is too much.
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
            f"{_end(foreign)}, or leave the device out of muster_devices",
        )
    used = device["memory_used_mb"]
    if not holders and idle_mb is not None and (used or 0) > idle_mb:
        seen = f"{used} MB used, and {listing.split()[0]} lists no process"
        return Finding(number, "unknown", seen, _hidden(listing))
    return Finding(number, "ok", held_by(holders) if holders else "none")


def _end(foreign: Sequence[Owner]) -> str:
    """Say how to end them: of several that are not Muster's, none may be right."""
    return way_to_end(foreign) if any(one.deployment for one in foreign) else "stop it"


def memory_free(
    device: Device,
    holders: list[Owner] | None,
    own_units: Collection[str],
    needed: float,
    listing: str,
) -> Finding:
    """Check whether this share of the memory is free, or Muster's own already."""
    number, used, total = number_of(device), device["memory_used_mb"], device["memory_total_mb"]
    if used is None or total is None:
        return Finding(
            number, "unknown", "memory not told", f"look at what {listing} prints for the device"
        )
    own = [owner for owner in holders or [] if owner.belongs_to(own_units)]
    if own:
        return Finding(number, "ok", held_by(own))
    if total - used < needed * total:
        if holders == []:
            seen = f"{used} of {total} MB used, by no process that {listing.split()[0]} lists"
            remedy = f"{_hidden(listing)}; or lower gpu-memory-utilization"
            return Finding(number, "failed", seen, remedy)
        return Finding(
            number,
            "failed",
            f"{used} of {total} MB used",
            f"end what holds the memory ({listing} lists processes, also of containers), or "
            "lower gpu-memory-utilization",
        )
    return Finding(number, "ok", "enough free")
