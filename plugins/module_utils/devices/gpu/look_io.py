# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gpu_topology_check does on a node."""

from __future__ import annotations

import re
from typing import Any, Callable

from ansible_collections.muster.serving.plugins.module_utils.common.checks import (
    OptionError,
    chosen_devices,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.owners_io import read_owner
from ansible_collections.muster.serving.plugins.module_utils.devices.files_io import (
    driver_mount_checks,
    node_checks,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.checks import gpu_checks
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.driver import (
    driver_check,
    floor_alone,
)

# By vendor what looks at its GPUs. Code comes to the node without its compiled form: what is not
# asked for is not loaded.


def _nvidia() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia import look_io

    return look_io


def _amd() -> Any:
    from ansible_collections.muster.serving.plugins.module_utils.devices.amd import look_io

    return look_io


LOOKS: dict[str, Callable[[], Any]] = {"nvidia": _nvidia, "amd": _amd}

ARGUMENT_SPEC: dict[str, Any] = {
    "vendor": {"type": "str", "required": True},
    "device_count": {"type": "int", "required": True},
    "devices": {"type": "list", "elements": "int"},
    "device_names": {"type": "list", "elements": "str", "default": []},
    "min_driver": {"type": "str"},
    "driver": {
        "type": "dict",
        "options": {
            "floors": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "floor": {"type": "str", "required": True},
                    "reason": {"type": "str", "default": ""},
                    "sure": {"type": "bool", "default": True},
                    "of_cuda": {"type": "bool", "default": False},
                },
            },
            "cuda": {"type": "str"},
            "full": {"type": "str"},
            "compat": {
                "type": "str",
                "choices": ["none", "off", "on", "always"],
                "default": "none",
            },
            "compat_branches": {"type": "list", "elements": "int", "default": []},
            "compat_newest": {"type": "int"},
            "instead": {
                "type": "dict",
                "options": {
                    "cuda": {"type": "str", "required": True},
                    "floor": {"type": "str", "required": True},
                    "how": {"type": "str", "required": True},
                },
            },
        },
    },
    "own_units": {"type": "list", "elements": "str", "default": []},
    "memory_utilization": {"type": "float", "default": 0.92},
    "device_nodes": {"type": "list", "elements": "path", "default": []},
    "mounts": {"type": "list", "elements": "str", "default": []},
    "fabric_manager": {"type": "bool", "default": False},
    "multi_node": {"type": "bool", "default": False},
    "container_gpus": {"type": "bool", "default": False},
    "compiler": {"type": "str", "choices": ["required", "used"]},
    "cuda_home": {"type": "path"},
    "tool_path": {"type": "path"},
    "timeout": {"type": "float", "default": 30},
}


def look(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Check the GPUs of this node.

    Raises:
        OptionError: There is no such vendor, devices names another number of devices, or
            device_names no pattern.
    """
    if params["vendor"] not in LOOKS:
        raise OptionError(f"vendor: {params['vendor']} is none of {', '.join(LOOKS)}")
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
    vendor = LOOKS[params["vendor"]]()
    gpus = vendor.observe(params["tool_path"], params["timeout"])
    checks = gpu_checks(
        vendor.RULES,
        gpus,
        wanted,
        params["device_names"],
        params["own_units"],
        params["memory_utilization"],
        whole_fabric=params["fabric_manager"],
        owner_of=read_owner,
        loaded=any(files.exists(path) for path in vendor.RULES.driver.signs),
    )
    needs = params.get("driver") or floor_alone(params["min_driver"])
    if gpus.devices and needs:
        names = [device["name"] or "" for device in gpus.devices if device["device_id"] in wanted]
        checks.append(driver_check(vendor.RULES.tool, gpus.version, needs, names))
    checks += vendor.more_checks(params, gpus, wanted, files)
    checks += node_checks(files, params["device_nodes"])
    checks += driver_mount_checks(files, params["mounts"])
    return {"checks": checks, "facts": {"driver_version": gpus.version}}
