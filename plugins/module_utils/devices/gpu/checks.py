# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of a node's GPUs, whoever made them, held against what was observed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from typing import Callable, Collection, Generic, Mapping, NamedTuple, Sequence, TypeVar

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import (
    Finding,
    grouped,
    holders_of,
    memory_free,
    used_by_others,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import (
    Gpu,
    Observation,
    Topology,
    devices_text,
    link_between,
    number_of,
)


class Mode(NamedTuple):
    """What is to be said of one setting of a device: persistence, MIG, a partition."""

    check_id: str
    status: str
    observed: str
    expected: str
    remedy: str


G = TypeVar("G", bound=Gpu)


@dataclass(frozen=True)
class Rules(Generic[G]):
    """How to judge one vendor's GPUs, and to speak of them.

    Attributes:
        tool: The tool that was asked.
        listing: The command that lists the processes on a GPU.
        link: What joins its GPUs.
        link_pattern: A regular expression of the words for it in a topology.
        reset: What to do about a GPU that is not well.
        ecc: What to do about one that counts no memory errors.
        health: OK, or in a few words what is wrong with a GPU.
        modes: What is to be said of its settings.
    """

    tool: str
    listing: str
    link: str
    link_pattern: str
    reset: str
    ecc: str
    health: Callable[[G], str]
    modes: Callable[[G], Sequence[Mode]]


LEAVE_OUT = "or leave the device out of muster_devices"


def gpu_checks(
    rules: Rules[G],
    gpus: Observation[G],
    wanted: list[int],
    device_names: Sequence[str],
    own_units: Collection[str],
    memory_utilization: float,
    whole_fabric: bool,
    owner_of: Callable[[int], Owner],
) -> list[Check]:
    """Return all checks on what the vendor's tool told.

    Args:
        rules: How this vendor's GPUs are judged.
        gpus: What was observed.
        wanted: The devices that the deployment uses on this node.
        device_names: Regular expressions; a device's name has to match one. None match all.
        own_units: The systemd units of Muster; what they hold is no obstacle.
        memory_utilization: The share of a device's memory that the engine will claim.
        whole_fabric: Whether switches join every GPU of such a server with every other.
        owner_of: Finds who owns a process.
    """
    checks = [_tool(rules, gpus)]
    if not gpus.devices:
        return checks
    by_id = {device["device_id"]: device for device in gpus.devices}
    there = [by_id[number] for number in wanted if number in by_id]
    checks += _count(rules, by_id, wanted)
    if device_names:
        checks += grouped(
            "gpu-name",
            [_name(device, device_names) for device in there],
            f"a name like {' or '.join(device_names)}",
        )
    checks += grouped("gpu-health", [_health(rules, device) for device in there], "OK")
    # A lost GPU tells nothing more; that it is lost has been said.
    telling = [
        device
        for device in there
        if rules.health(device) == "OK" or device["memory_total_mb"] is not None
    ]
    checks += grouped(
        "gpu-ecc",
        [_ecc(rules, device) for device in telling],
        "no uncorrectable memory errors since the driver was loaded",
    )
    held = [(device, holders_of(device, owner_of)) for device in telling]
    checks += grouped(
        "gpu-processes",
        [used_by_others(device, holders, own_units, rules.listing) for device, holders in held],
        "no process but Muster's own",
    )
    checks += grouped(
        "gpu-memory",
        [
            memory_free(device, holders, own_units, memory_utilization, rules.listing)
            for device, holders in held
        ],
        f"{memory_utilization:.0%} of the memory free, as the engine claims it",
    )
    checks += _modes(rules, telling)
    devices = [number_of(device) for device in there]
    return checks + _topology(rules, gpus.topology, devices, whole_fabric=whole_fabric)


def _tool(rules: Rules[G], gpus: Observation[G]) -> Check:
    if not gpus.devices:
        status = "failed"
        remedy = f"install the GPU driver, or look at what {rules.tool} prints and at dmesg"
    elif gpus.problems:
        status = "warning"
        remedy = f"look at what {rules.tool} prints; it was not understood in full"
    else:
        status, remedy = "ok", ""
    told = f"{len(gpus.devices)} devices, driver {gpus.version}"
    observed = gpus.failure or "; ".join(gpus.problems) or told
    return check("gpu-tool", status, rules.tool, observed, "a list of devices", remedy)


def _count(rules: Rules[G], by_id: Mapping[int | None, G], wanted: list[int]) -> list[Check]:
    remedy = f"look for the GPU with lspci and dmesg; reset or reseat it, {LEAVE_OUT}"
    return grouped(
        "gpu-count",
        [
            Finding(number, "ok", "listed")
            if number in by_id
            else Finding(number, "failed", f"not listed by {rules.tool}", remedy)
            for number in wanted
        ],
        f"{devices_text(wanted)} listed by {rules.tool}",
    )


def _name(device: Gpu, patterns: Sequence[str]) -> Finding:
    number, name = number_of(device), device["name"]
    if name is None:
        return Finding(number, "unknown", "no name told", "look at what the driver says of it")
    if any(re.search(pattern, name) for pattern in patterns):
        return Finding(number, "ok", name)
    return Finding(
        number, "failed", name, "choose the recipe (muster_recipe) that is made for this GPU"
    )


def _health(rules: Rules[G], device: G) -> Finding:
    number, health = number_of(device), rules.health(device)
    if health == "OK":
        return Finding(number, "ok", "OK")
    return Finding(number, "failed", health, f"{rules.reset}, {LEAVE_OUT}")


def _ecc(rules: Rules[G], device: G) -> Finding:
    number, errors = number_of(device), device["uncorrectable_errors"]
    if errors is None:
        return Finding(number, "warning", "no error counters", rules.ecc)
    if errors:
        return Finding(number, "failed", f"{errors} errors", f"{rules.reset}, {LEAVE_OUT}")
    return Finding(number, "ok", "none")


def _modes(rules: Rules[G], devices: list[G]) -> list[Check]:
    findings: dict[tuple[str, str], list[Finding]] = {}
    for device in devices:
        for mode in rules.modes(device):
            remedy = "" if mode.status == "ok" else mode.remedy
            findings.setdefault((mode.check_id, mode.expected), []).append(
                Finding(number_of(device), mode.status, mode.observed, remedy)
            )
    return [
        one
        for (check_id, expected), of in findings.items()
        for one in grouped(check_id, of, expected)
    ]


def _topology(
    rules: Rules[G], topology: Topology | None, devices: list[int], *, whole_fabric: bool
) -> list[Check]:
    if len(devices) < 2:
        return []
    expected = f"every pair joined by {rules.link}"

    def verdict(status: str, observed: str, remedy: str = "") -> list[Check]:
        subject = devices_text(devices)
        return [check("gpu-topology", status, subject, observed, expected, remedy)]

    if topology is None:
        remedy = f"look at what {rules.tool} prints of the topology"
        return verdict("unknown", f"{rules.tool} tells no topology", remedy)
    joined = re.compile(rules.link_pattern)
    apart: dict[str, list[str]] = {}
    partners = dict.fromkeys(devices, 0)
    for one, other in combinations(devices, 2):
        link = link_between(topology, one, other) or "no entry"
        if joined.fullmatch(link):
            partners[one] += 1
            partners[other] += 1
        else:
            apart.setdefault(link, []).append(f"{one}-{other}")
    if not apart:
        return verdict("ok", "all joined")
    observed = "; ".join(
        f"{link} between {', '.join(pairs[:4])}"
        + (f" and {len(pairs) - 4} more pairs" if len(pairs) > 4 else "")
        for link, pairs in apart.items()
    )
    # A GPU with two partners stands in a mesh, or at a switch, of which a link is missing. Bridges
    # join no more than pairs, and PCIe cards nobody: such servers work, slowly.
    if whole_fabric or max(partners.values()) > 1:
        return verdict(
            "failed",
            observed,
            f"use devices that are joined (muster_devices), or have the server's {rules.link} "
            "looked at: tensor parallelism over PCIe is slow or fails",
        )
    return verdict(
        "warning",
        observed,
        f"expect less than the published figures, or use a server whose GPUs {rules.link} joins",
    )
