# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What npu_topology_check does on a node."""

from __future__ import annotations

from itertools import chain
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.accelerator_files import (
    device_checks,
    is_driver,
    mount_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.checks import (
    OptionError,
    chosen_devices,
)
from ansible_collections.muster.serving.plugins.module_utils.hccn import is_address
from ansible_collections.muster.serving.plugins.module_utils.node_files import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.npu_checks import (
    fabric_checks,
    fabric_facts,
    npu_checks,
    npu_facts,
    ping_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.npu_observe import (
    HCCN_CONF,
    Fabric,
    Tool,
    device_numbers,
    find_npu_smi,
    observe_condition,
    observe_fabric,
    observe_npus,
    observe_pings,
    ping_pairs,
    read_text,
)
from ansible_collections.muster.serving.plugins.module_utils.owners import read_owner

ARGUMENT_SPEC: dict[str, Any] = {
    "mode": {"type": "str", "choices": ["check", "ping"], "default": "check"},
    "device_count": {"type": "int", "required": True},
    "devices": {"type": "list", "elements": "int"},
    "multi_node": {"type": "bool", "default": False},
    "min_driver": {"type": "str"},
    "ping_addresses": {"type": "list", "elements": "list"},
    "pings": {"type": "str", "choices": ["sampled", "full"], "default": "sampled"},
    "own_units": {"type": "list", "elements": "str", "default": []},
    "memory_utilization": {"type": "float", "default": 0.9},
    "device_nodes": {"type": "list", "elements": "path", "default": []},
    "mounts": {"type": "list", "elements": "str", "default": []},
    "npu_smi_path": {"type": "path"},
    "hccn_tool_path": {"type": "path", "default": "/usr/local/Ascend/driver/tools/hccn_tool"},
    "timeout": {"type": "float", "default": 30},
}
RULES: dict[str, Any] = {"required_if": [["mode", "ping", ["ping_addresses"]]]}


def look(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Check the NPUs of this node, or ping those of others.

    Raises:
        OptionError: C(devices) is not as long as C(device_count), or C(ping_addresses) holds
            something else than addresses.
    """
    devices = chosen_devices(params["devices"], params["device_count"])
    if params["mode"] == "check":
        return inspect(params, devices)
    for address in chain.from_iterable(params["ping_addresses"]):
        if not is_address(str(address)):
            raise OptionError(f"ping_addresses holds {address!r}, which is no address")
    return ping(params, devices)


def inspect(params: dict[str, Any], wanted: list[int]) -> dict[str, Any]:
    timeout = params["timeout"]
    tool = find_npu_smi(params["npu_smi_path"], timeout)
    npus = observe_npus(tool, device_numbers())
    super_pod = params["multi_node"] and npus.layout == "a3"
    observe_condition(tool, npus, wanted, super_pod=super_pod)
    checks = npu_checks(
        npus,
        wanted,
        params["own_units"],
        params["memory_utilization"],
        read_owner,
        params["min_driver"],
    )
    files = NodeFiles()
    checks += device_checks(files, params["device_nodes"])
    checks += mount_checks(files, [m for m in params["mounts"] if is_driver(m.split(":")[0])])
    fabric = Fabric()
    if params["multi_node"]:
        hccn_tool = Tool("hccn_tool", params["hccn_tool_path"], timeout)
        listed = {device["device_id"] for device in npus.devices}
        # A card that npu-smi has lost is one failure, not one a question.
        there = [number for number in wanted if number in listed] or wanted
        fabric = observe_fabric(hccn_tool, read_text(HCCN_CONF), there)
        checks += fabric_checks(fabric)
    return {"checks": checks, "facts": {**npu_facts(npus), **fabric_facts(fabric)}}


def ping(params: dict[str, Any], devices: list[int]) -> dict[str, Any]:
    pairs = ping_pairs(devices, params["ping_addresses"], full=params["pings"] == "full")
    tool = Tool("hccn_tool", params["hccn_tool_path"], params["timeout"])
    return {"checks": ping_checks(observe_pings(tool, pairs)), "facts": {}}
