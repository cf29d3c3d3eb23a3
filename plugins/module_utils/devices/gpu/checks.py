# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment needs of a node's GPUs, held against what was observed.

An observation is one dict, of the same shape whoever made the GPUs:

    devices: a list of dicts
        device_id            int, the index by which engine and container engine are given the
                             device: what nvidia-smi -i and docker --gpus count, or HIP
        name, bus_id, uuid   str or null
        health               "OK", or in a few words why not
        power_w, temperature_c, utilisation_percent, memory_used_mb, memory_total_mb
                             numbers or null
        processes            [{pid, name, memory_mb}], or null where the tool does not tell
        uncorrectable_errors int, the memory errors since the driver was loaded that ECC could not
                             correct, or null
        modes                [{check, status, observed, expected, remedy}], one for each setting of
                             the device that matters: persistence, MIG, partitions. check is the
                             id of the check that it becomes ("gpu-mig"); status is ok, warning,
                             failed or unknown; remedy is empty only when it is ok
        fabric               {state, status} of the NVLink fabric as NVIDIA tells it, or null
    version: the driver's version, or null
    topology: {ids: [device_id], matrix: [[word]]}, or null. matrix[i][j] is the link between
        ids[i] and ids[j]: X, NV18, SYS, NODE, PHB, PXB, PIX of NVIDIA; X, XGMI, PCIE of AMD
    problems: [str], what could not be had or understood
    failure: why nothing could be had at all (tool missing, hanging), or null
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any, Callable, Collection, Dict, NamedTuple, Sequence, TypedDict

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.owners import Owner
from ansible_collections.muster.serving.plugins.module_utils.common.versions import leading_numbers
from ansible_collections.muster.serving.plugins.module_utils.devices.checks import (
    Finding,
    devices_text,
    grouped,
    holders_of,
    memory_free,
    used_by_others,
)

Device = Dict[str, Any]


class Topology(TypedDict):
    ids: list[int]
    matrix: list[list[str]]


class Observation(TypedDict):
    devices: list[Device]
    version: str | None
    topology: Topology | None
    problems: list[str]
    failure: str | None


class FabricManager(NamedTuple):
    """NVIDIA's fabric manager on a node. Values are null where they could not be had."""

    service: str | None
    version: str | None


class Vendor(NamedTuple):
    """How to speak of one vendor's GPUs."""

    tool: str
    listing: str
    link: str
    link_pattern: str
    reset: str
    ecc: str


VENDORS = {
    "nvidia": Vendor(
        tool="nvidia-smi",
        listing="nvidia-smi",
        link="NVLink",
        link_pattern=r"NV\d+",
        reset="see nvidia-smi -q -i N and dmesg (Xid); reset the idle GPU (nvidia-smi -r -i N), "
        "reboot the node",
        ecc="turn ECC on where the GPU has it: nvidia-smi -i N -e 1, then reboot",
    ),
    "amd": Vendor(
        tool="amd-smi",
        listing="amd-smi process",
        link="XGMI",
        link_pattern=r"XGMI",
        # By bus id: amd-smi numbers GPUs in another order than the engine.
        reset="see amd-smi metric -g BUS_ID, with the bus id that amd_info tells, and dmesg "
        "(amdgpu); reset the idle GPU (amd-smi reset -g BUS_ID -G), reboot the node",
        ecc="see amd-smi metric -g BUS_ID --ecc, with the bus id that amd_info tells",
    ),
}

LEAVE_OUT = "or leave the device out of muster_devices"
FABRIC_MANAGER_UNIT = "nvidia-fabricmanager.service"


def gpu_checks(
    vendor: Vendor,
    gpus: Observation,
    wanted: list[int],
    device_names: Sequence[str],
    own_units: Collection[str],
    memory_utilization: float,
    whole_fabric: bool,
    owner_of: Callable[[int], Owner],
) -> list[Check]:
    """All checks on what the vendor's tool told.

    Args:
        vendor: Whose GPUs they are.
        gpus: What was observed.
        wanted: The devices that the deployment uses on this node.
        device_names: Regular expressions; a device's name has to match one. None match all.
        own_units: The systemd units of Muster; what they hold is no obstacle.
        memory_utilization: The share of a device's memory that the engine will claim.
        whole_fabric: Whether switches join every GPU of such a server with every other.
        owner_of: Finds who owns a process.
    """
    checks = [_tool(vendor, gpus)]
    if not gpus["devices"]:
        return checks
    by_id = {device["device_id"]: device for device in gpus["devices"]}
    there = [by_id[number] for number in wanted if number in by_id]
    checks += _count(vendor, by_id, wanted)
    if device_names:
        checks += grouped(
            "gpu-name",
            [_name(device, device_names) for device in there],
            f"a name like {' or '.join(device_names)}",
        )
    checks += grouped("gpu-health", [_health(vendor, device) for device in there], "OK")
    # A lost GPU tells nothing more; that it is lost has been said.
    telling = [
        device
        for device in there
        if device["health"] == "OK" or device["memory_total_mb"] is not None
    ]
    checks += grouped(
        "gpu-ecc",
        [_ecc(vendor, device) for device in telling],
        "no uncorrectable memory errors since the driver was loaded",
    )
    held = [(device, holders_of(device, owner_of)) for device in telling]
    checks += grouped(
        "gpu-processes",
        [used_by_others(device, holders, own_units, vendor.listing) for device, holders in held],
        "no process but Muster's own",
    )
    checks += grouped(
        "gpu-memory",
        [
            memory_free(device, holders, own_units, memory_utilization, vendor.listing)
            for device, holders in held
        ],
        f"{memory_utilization:.0%} of the memory free, as the engine claims it",
    )
    checks += _modes(telling)
    devices = [device["device_id"] for device in there]
    return checks + _topology(vendor, gpus["topology"], devices, whole_fabric=whole_fabric)


def _tool(vendor: Vendor, gpus: Observation) -> Check:
    if not gpus["devices"]:
        status = "failed"
        remedy = f"install the GPU driver, or look at what {vendor.tool} prints and at dmesg"
    elif gpus["problems"]:
        status = "warning"
        remedy = f"look at what {vendor.tool} prints; it was not understood in full"
    else:
        status, remedy = "ok", ""
    told = f"{len(gpus['devices'])} devices, driver {gpus['version']}"
    observed = gpus["failure"] or "; ".join(gpus["problems"]) or told
    return check("gpu-tool", status, vendor.tool, observed, "a list of devices", remedy)


def _count(vendor: Vendor, by_id: dict[Any, Device], wanted: list[int]) -> list[Check]:
    remedy = f"look for the GPU with lspci and dmesg; reset or reseat it, {LEAVE_OUT}"
    return grouped(
        "gpu-count",
        [
            Finding(number, "ok", "listed")
            if number in by_id
            else Finding(number, "failed", f"not listed by {vendor.tool}", remedy)
            for number in wanted
        ],
        f"{devices_text(wanted)} listed by {vendor.tool}",
    )


def driver_check(vendor: Vendor, seen: str | None, floor: str) -> Check:
    """Whether the driver is as new as the engine's libraries want it.

    Args:
        vendor: Whose GPUs they are.
        seen: The driver's version, or null.
        floor: The oldest that will do, numbers joined by dots.
    """
    expected = f"{floor} or later"
    if not leading_numbers(seen or ""):
        remedy = f"look at what {vendor.tool} prints as the driver's version"
        observed = seen or "no version told"
        return check("gpu-driver", "unknown", "driver", observed, expected, remedy)
    if leading_numbers(seen or "") < leading_numbers(floor):
        remedy = f"install driver {floor} or later, and reboot"
        return check("gpu-driver", "failed", "driver", seen or "", expected, remedy)
    return check("gpu-driver", "ok", "driver", seen or "", expected)


def _name(device: Device, patterns: Sequence[str]) -> Finding:
    number, name = device["device_id"], device["name"]
    if name is None:
        return Finding(number, "unknown", "no name told", "look at what the driver says of it")
    if any(re.search(pattern, name) for pattern in patterns):
        return Finding(number, "ok", name)
    return Finding(
        number, "failed", name, "choose the recipe (muster_recipe) that is made for this GPU"
    )


def _health(vendor: Vendor, device: Device) -> Finding:
    number, health = device["device_id"], device["health"]
    if health == "OK":
        return Finding(number, "ok", "OK")
    return Finding(number, "failed", health or "no health told", f"{vendor.reset}, {LEAVE_OUT}")


def _ecc(vendor: Vendor, device: Device) -> Finding:
    number, errors = device["device_id"], device["uncorrectable_errors"]
    if errors is None:
        return Finding(number, "warning", "no error counters", vendor.ecc)
    if errors:
        return Finding(number, "failed", f"{errors} errors", f"{vendor.reset}, {LEAVE_OUT}")
    return Finding(number, "ok", "none")


def _modes(devices: list[Device]) -> list[Check]:
    by_check: dict[str, list[Finding]] = {}
    expected: dict[str, str] = {}
    for device in devices:
        for mode in device["modes"]:
            finding = Finding(device["device_id"], *(mode[k] for k in _FINDING_KEYS))
            by_check.setdefault(mode["check"], []).append(finding)
            expected.setdefault(mode["check"], mode["expected"])
    return [
        one
        for check_id, findings in by_check.items()
        for one in grouped(check_id, findings, expected[check_id])
    ]


_FINDING_KEYS = ("status", "observed", "remedy")


def _topology(
    vendor: Vendor, topology: Topology | None, devices: list[int], *, whole_fabric: bool
) -> list[Check]:
    if len(devices) < 2:
        return []
    expected = f"every pair joined by {vendor.link}"

    def verdict(status: str, observed: str, remedy: str = "") -> list[Check]:
        subject = devices_text(devices)
        return [check("gpu-topology", status, subject, observed, expected, remedy)]

    if topology is None:
        remedy = f"look at what {vendor.tool} prints of the topology"
        return verdict("unknown", f"{vendor.tool} tells no topology", remedy)
    joined = re.compile(vendor.link_pattern)
    apart: dict[str, list[str]] = {}
    partners = dict.fromkeys(devices, 0)
    for one, other in combinations(devices, 2):
        link = _link(topology, one, other)
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
            f"use devices that are joined (muster_devices), or have the server's {vendor.link} "
            "looked at: tensor parallelism over PCIe is slow or fails",
        )
    return verdict(
        "warning",
        observed,
        f"expect less than the published figures, or use a server whose GPUs {vendor.link} joins",
    )


def _link(topology: Topology, one: int, other: int) -> str:
    ids = topology["ids"]
    if one not in ids or other not in ids:
        return "no entry"
    return topology["matrix"][ids.index(one)][ids.index(other)]


# --- NVIDIA's fabric manager ------------------------------------------------------------------


def fabric_manager_checks(
    manager: FabricManager, gpus: Observation, wanted: list[int]
) -> list[Check]:
    """Does the fabric manager run, is it the driver's, and has it joined the devices?"""
    checks = [_service(manager), _manager_version(manager, gpus["version"])]
    there = [device for device in gpus["devices"] if device["device_id"] in wanted]
    return checks + grouped(
        "gpu-fabric-manager",
        [_fabric(device) for device in there],
        "fabric Completed, status Success",
    )


def _service(manager: FabricManager) -> Check:
    status = {"active": "ok", None: "unknown"}.get(manager.service, "failed")
    return check(
        "gpu-fabric-manager",
        status,
        FABRIC_MANAGER_UNIT,
        manager.service or "systemctl does not tell",
        "active",
        ""
        if status == "ok"
        else "install the fabric manager of the driver's version and enable it: "
        f"systemctl enable --now {FABRIC_MANAGER_UNIT}",
    )


def _manager_version(manager: FabricManager, driver: str | None) -> Check:
    if manager.version is None or driver is None:
        status, remedy = "unknown", "compare nv-fabricmanager --version with the driver's version"
    elif manager.version == driver:
        status, remedy = "ok", ""
    else:
        status, remedy = "failed", f"install the fabric manager {driver}, and reboot"
    return check(
        "gpu-fabric-manager",
        status,
        "fabric manager version",
        manager.version or "not told",
        f"the driver's, {driver}",
        remedy,
    )


def _fabric(device: Device) -> Finding:
    number, fabric = device["device_id"], device["fabric"]
    if fabric is None:
        return Finding(
            number, "unknown", "no fabric state told", "look at nvidia-smi -q -i N (Fabric)"
        )
    observed = f"{fabric['state']}, status {fabric['status'] or 'not told'}"
    if (fabric["state"], fabric["status"]) == ("Completed", "Success"):
        return Finding(number, "ok", observed)
    return Finding(
        number,
        "failed",
        observed,
        f"see journalctl -u {FABRIC_MANAGER_UNIT}; restart it while the GPUs are idle",
    )
