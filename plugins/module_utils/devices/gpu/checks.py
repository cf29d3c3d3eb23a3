# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of a node's GPUs, whoever made them, held against what was observed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import Callable, Collection, Generic, Mapping, NamedTuple, Sequence, TypeVar

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import (
    Driver,
    Finding,
    driver_loaded_check,
    grouped,
    holders_of,
    memory_free,
    silence,
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
        driver: How to speak of the driver, and what its tool says without one.
        slower_kin: By a word of a GPU's name, that of the GPU which it is but for slower links.
    """

    tool: str
    listing: str
    link: str
    link_pattern: str
    reset: str
    ecc: str
    health: Callable[[G], str]
    modes: Callable[[G], Sequence[Mode]]
    driver: Driver = field(default_factory=Driver)
    slower_kin: Mapping[str, str] = field(default_factory=dict)


# What stands for a name where the tool's tables are older than the GPU: its id on the PCI bus, or a
# word that every GPU may have.
NO_NAME = re.compile(
    r"(?:(?:NVIDIA|AMD|Advanced Micro Devices\b.*|ATI) )?(?:Graphics )?Device(?: [0-9a-f]{4})?"
    r"|\[?(?:0x)?[0-9a-f]{4}(?::(?:0x)?[0-9a-f]{4})?\]?",
    re.IGNORECASE,
)
# More than the driver holds of an idle GPU's memory: MI300X shows 285 MB, H200 none.
IDLE_MB = 1024
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
    loaded: bool | None = None,
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
        loaded: Whether the kernel shows a driver; null where nobody looked.
    """
    checks = [
        driver_loaded_check("gpu-driver-loaded", rules.tool, rules.driver, gpus, loaded),
        _tool(rules, gpus, loaded),
    ]
    if not gpus.devices:
        return checks
    by_id = {device["device_id"]: device for device in gpus.devices}
    there = [by_id[number] for number in wanted if number in by_id]
    checks += _count(rules, by_id, wanted)
    if device_names:
        checks += grouped(
            "gpu-name",
            [_name(rules, device, device_names) for device in there],
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
    memory = [
        memory_free(device, holders, own_units, memory_utilization, rules.listing)
        for device, holders in held
    ]
    # Where too little is free, that says it already.
    processes = [
        used_by_others(
            device, holders, own_units, rules.listing, None if free.status == "failed" else IDLE_MB
        )
        for (device, holders), free in zip(held, memory)
    ]
    checks += grouped("gpu-processes", processes, "no process but Muster's own")
    checks += grouped(
        "gpu-memory",
        memory,
        f"{memory_utilization:.0%} of the memory free, as the engine claims it",
    )
    checks += _modes(rules, telling)
    devices = [number_of(device) for device in there]
    return checks + _topology(rules, gpus.topology, devices, whole_fabric=whole_fabric)


def _tool(rules: Rules[G], gpus: Observation[G], loaded: bool | None) -> Check:
    def verdict(status: str, observed: str, remedy: str = "") -> Check:
        return check("gpu-tool", status, rules.tool, observed, "a list of devices", remedy)

    if not gpus.devices:
        return verdict("failed", *silence(rules.tool, rules.driver, gpus, loaded))
    if gpus.problems:
        observed = "; ".join(gpus.problems)
        complaint = rules.driver.complaint(observed)
        told = f"look at what {rules.tool} prints; it was not understood in full"
        return verdict("warning", observed, complaint.remedy if complaint else told)
    return verdict("ok", f"{len(gpus.devices)} devices, driver {gpus.version}")


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


def _name(rules: Rules[G], device: G, patterns: Sequence[str]) -> Finding:
    number, name = number_of(device), device["name"]
    if name is None or NO_NAME.fullmatch(name):
        observed = "no name told" if name is None else f"no name told, only {name}"
        return Finding(number, "unknown", observed, "look at what the driver says of it")

    def fits(text: str) -> bool:
        return any(re.search(pattern, text) for pattern in patterns)

    if fits(name):
        return Finding(number, "ok", name)
    for slow, kin in rules.slower_kin.items():
        if fits(re.sub(rf"\b{slow}\b", kin, name)):
            return Finding(
                number,
                "warning",
                f"{name}, which is an {kin} with slower links",
                f"expect less than the figures published for the {kin}, above all across GPUs",
            )
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
