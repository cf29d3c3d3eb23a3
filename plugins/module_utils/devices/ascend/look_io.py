# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What npu_topology_check does on a node."""

from __future__ import annotations

import posixpath
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    Check,
    OptionError,
    check,
    chosen_devices,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.owners_io import read_owner
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.checks import (
    fabric_checks,
    fabric_facts,
    lost_devices,
    npu_checks,
    npu_facts,
    ping_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.hccn import is_address
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.observation import (
    Fabric,
    Npus,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.ascend.observe_io import (
    HCCN_CONF,
    HccnTool,
    device_numbers,
    find_npu_smi,
    observe_condition,
    observe_fabric,
    observe_npus,
    observe_pings,
    ping_pairs,
    read_text,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import devices_text
from ansible_collections.muster.serving.plugins.module_utils.devices.files_io import (
    driver_mount_checks,
    node_checks,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "mode": {"type": "str", "choices": ["check", "ping"], "default": "check"},
    "device_count": {"type": "int"},
    "devices": {"type": "list", "elements": "int"},
    "multi_node": {"type": "bool", "default": False},
    "min_driver": {"type": "str"},
    "node_facts": {"type": "dict"},
    "peer_facts": {"type": "list", "elements": "dict"},
    "pings": {"type": "str", "choices": ["sampled", "full"], "default": "sampled"},
    "own_units": {"type": "list", "elements": "str", "default": []},
    "memory_utilization": {"type": "float", "default": 0.92},
    "device_nodes": {"type": "list", "elements": "path", "default": []},
    "mounts": {"type": "list", "elements": "str", "default": []},
    "npu_smi_path": {"type": "path"},
    "hccn_tool_path": {"type": "path", "default": "/usr/local/Ascend/driver/tools/hccn_tool"},
    "timeout": {"type": "float", "default": 30},
}
RULES: dict[str, Any] = {
    "required_if": [
        ["mode", "check", ["device_count"]],
        ["mode", "ping", ["node_facts", "peer_facts"]],
    ]
}


def look(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Check the NPUs of this node, or ping those of others.

    Raises:
        OptionError: devices is not as long as device_count, or the facts hold something else
            than the addresses of devices.
    """
    if params["mode"] == "ping":
        return ping(params)
    return inspect(params, chosen_devices(params["devices"], params["device_count"]))


def inspect(params: dict[str, Any], wanted: list[int]) -> dict[str, Any]:
    tool = find_npu_smi(params["npu_smi_path"], params["timeout"])
    npus = observe_npus(tool, device_numbers())
    lost = lost_devices(npus, wanted)
    super_pod = params["multi_node"] and npus.layout == "a3"
    full = params["pings"] == "full"
    hccs = hccs_devices(npus, wanted, full=full) if super_pod else []
    fabric = Fabric()
    # Two tools, which do not mind each other.
    with ThreadPoolExecutor(1) as beside:
        condition = beside.submit(observe_condition, tool, npus, wanted, super_pod=super_pod)
        if params["multi_node"]:
            hccn_tool = HccnTool(params["hccn_tool_path"], params["timeout"])
            there = [number for number in wanted if number not in lost]
            fabric = observe_fabric(hccn_tool, read_text(HCCN_CONF), there, hccs, full=full)
        condition.result()
    checks = npu_checks(
        npus,
        wanted,
        params["own_units"],
        params["memory_utilization"],
        read_owner,
        params["min_driver"],
        params["device_nodes"],
    )
    if fabric.net_health:
        checks += fabric_checks(fabric)
    absent = {"npu-smi": tool.absent, "hccn_tool": fabric.absent}
    checks += files_checks(params, lost, [name for name in absent if absent[name]])
    facts = {**npu_facts(npus), **fabric_facts(fabric, wanted, hccs)}
    return {"checks": checks, "facts": facts}


def hccs_devices(npus: Npus, wanted: list[int], *, full: bool) -> list[int]:
    """Return the devices reached through HCCS: all, or for a sample one chip of each card."""
    used = [one for one in npus.devices if one["device_id"] in wanted]
    cards = {one["npu_id"]: one["device_id"] for one in reversed(used)}
    return [number for number in wanted if full or number in cards.values()]


def files_checks(params: dict[str, Any], lost: list[int], absent: list[str]) -> list[Check]:
    """Check the device nodes and what the driver brings, without what a failed check has said.

    Args:
        params: The module's options.
        lost: The devices that are not there.
        absent: The tools that could not be started.
    """
    files = NodeFiles()
    checks = node_checks(files, params["device_nodes"])
    checks += driver_mount_checks(files, params["mounts"])
    said = {f"/dev/davinci{number}" for number in lost}
    return [
        one
        for one in checks
        if one["subject"] not in said and posixpath.basename(one["subject"]) not in absent
    ]


# The fact that tells where a node's devices are reached, by the command that pings them.
PINGS = {
    "npu-ping": ("ping", "npu_reachable"),
    "npu-hccs-ping": ("hccs_ping", "npu_vnic"),
}


def ping(params: dict[str, Any]) -> dict[str, Any]:
    tool = HccnTool(params["hccn_tool_path"], params["timeout"])
    node, peers = params["node_facts"], params["peer_facts"]
    # HCCS joins the servers of one super pod; that there are two, the verdict over all nodes finds.
    pod = node.get("super_pod_id")
    neighbours = [one for one in peers if pod and one.get("super_pod_id") == pod]
    checks = []
    for check_id, (command, fact) in PINGS.items():
        own = _addresses(node, fact)
        others = [_addresses(one, fact) for one in (neighbours if fact == "npu_vnic" else peers)]
        pairs = ping_pairs(own, others, full=params["pings"] == "full")
        known = [int(device) for device, address in own.items() if address]
        if len(known) == 1 and not pairs and any(any(one.values()) for one in others):
            # Of two nodes each asks for every other pair, and here there is one.
            expected = "an answer to every packet"
            seen = "asked for from the other node"
            checks.append(check(check_id, "ok", devices_text(known), seen, expected))
        checks += ping_checks(check_id, observe_pings(tool, command, pairs, own.values()))
    return {"checks": checks, "facts": {}}


def _addresses(facts: dict[str, Any], fact: str) -> dict[str, str | None]:
    """Return the addresses of a node's devices.

    Raises:
        OptionError: They are not by device, or are none.
    """
    addresses = facts.get(fact) or {}
    for device, address in addresses.items():
        if not str(device).isdecimal() or not (address is None or is_address(str(address))):
            raise OptionError(f"{fact} holds {device}: {address!r}, which is no device's address")
    return {str(device): address for device, address in addresses.items()}
