# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan needs of each of its hosts, and how preflight looks for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.paths import LOG_DIR
from ansible_collections.muster.serving.plugins.module_utils.devices.registry import VENDORS
from ansible_collections.muster.serving.plugins.plugin_utils.plan.cluster import Plan, units_by_host
from ansible_collections.muster.serving.plugins.plugin_utils.plan.placement import unique
from ansible_collections.muster.serving.plugins.plugin_utils.plan.units import hub_folder

# What a host must have at least, as estimates on the low side: memory for one process of an engine,
# shared memory as the guides give it to a container of its own, disk for an engine's image.
PROCESS_GB = 1
SHM_GB = 1
# Sizes of weights are in GiB, those of disks in GB.
GB_OF_GIB = 2**30 / 1e9
IMAGE_GB = 30

# What says where CUDA's toolkit is, the first that is set.
CUDA_HOMES = ("CUDA_HOME", "CUDA_PATH")

# Seconds that a port listens for the other nodes: until the slowest has been looked at, which takes
# long when it hashes its weights. Whoever starts units ends what is left of them.
LISTEN_S = 300
LISTEN_WHILE_HASHING_S = 7200


Needs = dict[str, Any]


def needs_of(plan: Plan) -> dict[str, Needs]:
    """Return by host the other hosts of its replica, and what its containers are given."""
    units = units_by_host(plan)
    return {
        host: {
            "peers": [other for other in replica["hosts"] if other != host],
            "device_nodes": unique(path for unit in units[host] for path in unit["device_nodes"]),
            "mounts": unique(mount for unit in units[host] for mount in unit["mounts"]),
            "images": unique(unit["image"] for unit in units[host] if unit["image"]),
            "container_gpus": any(unit["container"].get("gpus") for unit in units[host]),
        }
        for replica in plan["replicas"]
        for host in replica["hosts"]
    }


def checks_of(
    plan: Plan, needs_by_host: Mapping[str, Needs], weights_hashes: bool | None = None
) -> dict[str, dict[str, Any]]:
    """Return by host what node_checks is to make of it before anything starts.

    Args:
        plan: The plan of one cluster.
        needs_by_host: What needs_of returns of it.
        weights_hashes: Whether all files of the weights are hashed; None for what the plan says.
    """
    hashes = plan["preflight"]["weights_hashes"] if weights_hashes is None else weights_hashes
    units = units_by_host(plan)
    addresses = {unit["host"]: unit["address"] for unit in plan["units"]}
    checks = {}
    for host, needs in needs_by_host.items():
        peers = [addresses[other] for other in needs["peers"]]
        own = units[host]
        own_units = [
            *(unit["systemd_unit"] for unit in own),
            *(link["systemd_unit"] for link in plan["links"] if link["host"] == host),
        ]
        checks[host] = {
            "host_check": {
                **_host_options(plan, host, own),
                "address": addresses[host],
                "multi_node": bool(peers),
                "images": needs["images"],
                "own_units": own_units,
                "weights_hashes": hashes,
            },
            "nic_check": {
                "address": addresses[host],
                "interface": own[0]["interface"],
                "peers": peers,
                "prefix_match": any(_takes_prefix(unit["env"]) for unit in own),
            },
            **_device_options(plan, needs, own, own_units),
            "port_check": {
                "mode": "listen" if peers else "local",
                "ports": unique(str(port) for unit in own for port in unit["ports"].values()),
                "bind_address": addresses[host],
                "peers": peers,
                "reserve": plan["host_tuning"]["reserved_ports"],
                "lifetime": LISTEN_WHILE_HASHING_S if hashes else LISTEN_S,
                "own_units": own_units,
                "unit_ports": {
                    unit["systemd_unit"]: [str(port) for port in unit["ports"].values()]
                    for unit in own
                },
            },
        }
    return checks


def _takes_prefix(env: Mapping[str, str]) -> bool:
    """Return whether HCCL takes the interface for a prefix; =NIC is that interface alone."""
    value = env.get("HCCL_SOCKET_IFNAME", "")
    return bool(value) and not value.startswith("=")


def _device_options(
    plan: Plan,
    needs: Mapping[str, Any],
    own: Sequence[Mapping[str, Any]],
    own_units: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Return the options of the module that looks at a host's devices, by its name."""
    platform = plan["platform"]
    devices = sorted({device for unit in own for device in unit["devices"]})
    given = {
        "device_count": len(devices),
        "devices": devices,
        "min_driver": platform["min_driver"],
        "own_units": own_units,
        "memory_utilization": plan["engine"]["memory_utilization"],
        "device_nodes": needs["device_nodes"],
        "mounts": needs["mounts"],
    }
    # What only some vendors' modules take.
    more = {
        "vendor": platform["vendor"],
        "device_names": platform["device_names"],
        "driver": plan["driver"],
        "fabric_manager": platform["fabric_manager"],
        "container_gpus": needs["container_gpus"],
        "compiler": plan["engine"]["compiler"],
        "cuda_home": next(
            (unit["env"][name] for unit in own for name in CUDA_HOMES if name in unit["env"]), None
        ),
        "multi_node": bool(needs["peers"]),
        # More is asked of a device for a full ping.
        "pings": "full" if plan["preflight"]["npu_ping"] == "full" else "sampled",
    }
    vendor = VENDORS[platform["vendor"]]
    return {vendor.check_module: {**given, **{name: more[name] for name in vendor.options}}}


def _host_options(plan: Plan, host: str, own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a host must bring for its units besides its devices, as host_check takes it."""
    engines = [unit for unit in own if unit["role"] != "gateway"]
    processes = sum(len(unit["ranks"]) for unit in engines) * plan["engine"]["rank_devices"]
    shares = any(not unit["image"] or unit["container"]["ipc"] == "host" for unit in engines)
    model = plan["model"]
    disk = [
        {
            "what": f"weights of {unit['name']}",
            "path": hub_folder(unit, model["source"]),
            "need_gb": round(model["size_gb"] * GB_OF_GIB, 1),
        }
        for unit in engines
        if model["source"] != "local"
    ]
    return {
        "vendor": plan["platform"]["vendor"],
        "memory_gb": processes * PROCESS_GB,
        "shm_gb": SHM_GB if shares else 0,
        "image_gb": IMAGE_GB if any(unit["image"] for unit in engines) else 0,
        "disk": disk,
        "writes": unique([*_writes(plan, host, own), *(d["path"] for d in disk if d["path"])]),
        "key_files": unique(path for unit in own for path in unit["secret_files"].values()),
        "model_path": model["path"],
        "draft_path": model["draft_path"],
        "model_architecture": model["architecture"],
        "model_format": model["format"],
    }


def _writes(plan: Plan, host: str, own: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the folders of a host that prepare and serve write to."""
    tuning = plan["host_tuning"]
    sources = [mount.split(":")[0] for unit in own for mount in unit["mounts"]]
    in_venv = any(unit["install"] == "venv" for unit in own)
    logs = any(source.startswith(f"{LOG_DIR}/") for source in sources)
    programs = (
        logs
        or any(unit.get("floating") for unit in own)
        or any(link["host"] == host for link in plan["links"])
    )
    written = {
        "/etc/docker": any(unit["image"] for unit in own),
        "/etc/muster": True,
        "/etc/sysctl.d": bool(tuning["sysctl"] or tuning["reserved_ports"]),
        "/etc/systemd/system": True,
        "/opt/muster": in_venv,
        "/usr/local/lib/muster": programs,
        "/var/cache/muster": in_venv,
        "/var/lib/muster": True,
        LOG_DIR: logs,
    }
    return [folder for folder, needed in written.items() if needed]
