# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gpu_topology_check does on a node."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    OptionError,
    chosen_devices,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.owners_io import read_owner
from ansible_collections.muster.serving.plugins.module_utils.devices.amd import (
    observe_io as amd_observe,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.files_io import (
    device_checks,
    is_driver,
    mount_checks,
    toolkit_check,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.checks import (
    VENDORS,
    driver_check,
    fabric_manager_checks,
    gpu_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.observe_io import (
    observe_fabric_manager,
    observe_nvidia,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "vendor": {"type": "str", "choices": ["nvidia", "amd"], "required": True},
    "device_count": {"type": "int", "required": True},
    "devices": {"type": "list", "elements": "int"},
    "device_names": {"type": "list", "elements": "str", "default": []},
    "min_driver": {"type": "str"},
    "own_units": {"type": "list", "elements": "str", "default": []},
    "memory_utilization": {"type": "float", "default": 0.9},
    "device_nodes": {"type": "list", "elements": "path", "default": []},
    "mounts": {"type": "list", "elements": "str", "default": []},
    "fabric_manager": {"type": "bool", "default": False},
    "container_gpus": {"type": "bool", "default": False},
    "tool_path": {"type": "path"},
    "timeout": {"type": "float", "default": 30},
}


def look(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Check the GPUs of this node.

    Raises:
        OptionError: devices names another number of devices, or device_names no pattern.
    """
    for pattern in params["device_names"]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise OptionError(
                f"device_names: {pattern!r} is no regular expression: {error}"
            ) from error
    return inspect(params, NodeFiles())


def inspect(params: dict[str, Any], files: NodeFiles) -> dict[str, Any]:
    wanted = chosen_devices(params["devices"], params["device_count"])
    nvidia, timeout = params["vendor"] == "nvidia", params["timeout"]
    if nvidia:
        gpus, _cuda = observe_nvidia(params["tool_path"], timeout)
    else:
        gpus = amd_observe.observe_amd(params["tool_path"], timeout)
    checks = gpu_checks(
        VENDORS[params["vendor"]],
        gpus,
        wanted,
        params["device_names"],
        params["own_units"],
        params["memory_utilization"],
        whole_fabric=params["fabric_manager"],
        owner_of=read_owner,
    )
    if gpus["devices"] and params["min_driver"]:
        vendor = VENDORS[params["vendor"]]
        checks.append(driver_check(vendor, gpus["version"], params["min_driver"]))
    if nvidia and params["fabric_manager"]:
        checks += fabric_manager_checks(observe_fabric_manager(timeout), gpus, wanted)
    if nvidia and params["container_gpus"]:
        checks.append(toolkit_check(files))
    if not nvidia:
        checks += amd_observe.node_checks(files, len(gpus["devices"]))
    checks += device_checks(files, params["device_nodes"])
    checks += mount_checks(files, [m for m in params["mounts"] if is_driver(m.split(":")[0])])
    return {"checks": checks, "facts": {"driver_version": gpus["version"]}}
