# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that do nothing here, or may not say what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Ports that others have, and that a service is meant for.
_FIRST_FREE_PORT = 1024
_MEANT = (80, 443)
# What an image sets, and what is looked for there.
_REPLACED = {
    "PATH": "the engine's command",
    "LD_LIBRARY_PATH": "every library that is not the system's",
}
# By vendor and by engine, with what the variables of others begin.
_FOREIGN: dict[str, tuple[str, ...]] = {
    "ascend": ("AITER_", "NVIDIA_"),
    "nvidia": ("AITER_", "ASCEND_", "HCCL_", "VLLM_ASCEND_", "VLLM_ROCM_"),
    "amd": ("ASCEND_", "HCCL_", "NVIDIA_", "VLLM_ASCEND_"),
    "vllm": ("SGLANG_", "SGL_"),
    "vllm-ascend": ("SGLANG_", "SGL_"),
    # On AMD's GPUs it takes kernels, and their switches, from vLLM.
    "sglang": (),
}


def warnings(
    said: Mapping[str, Any],
    recipe: Mapping[str, Any],
    *,
    install: str,
    ranks: int,
    nodes: int,
) -> list[str]:
    """Return what to know of a cluster's settings, a line each.

    Args:
        said: The settings.
        recipe: The recipe.
        install: container or venv.
        ranks: The data parallel ranks of a replica.
        nodes: The nodes of a replica.
    """
    idle = [
        f"{name} ({why})"
        for name, why in _conditions(recipe, said, install, ranks, nodes).items()
        if name in said and why
    ]
    found = [f"without effect here: {', '.join(idle)}"] if idle else []
    found += [
        f"{name} is {port}, a port below {_FIRST_FREE_PORT}: YAML reads 8:30 as 510 and 0600 as "
        "384; is it the port that was meant?"
        for name, port in said.items()
        if name.endswith("_port") and port < _FIRST_FREE_PORT and port not in _MEANT
    ]
    env = {name for name, value in (said.get("muster_engine_env") or {}).items() if value}
    if install == "container":
        found += [
            f"muster_engine_env: {name} replaces the image's own: {needed} has to be found in it"
            for name, needed in _REPLACED.items()
            if name in env
        ]
    ours = (recipe["platform"]["vendor"], recipe["engine"]["name"])
    others = tuple(prefix for one in ours for prefix in _FOREIGN.get(one, ()))
    foreign = sorted(name for name in env if name.startswith(others))
    if foreign:
        found.append(f"muster_engine_env: nothing here reads {', '.join(foreign)}")
    return found


def _conditions(
    recipe: Mapping[str, Any], said: Mapping[str, Any], install: str, ranks: int, nodes: int
) -> dict[str, str | None]:
    """Return by setting why it does nothing, None where it does something."""
    switches = recipe["engine"].get("switches", {})
    engine = recipe["engine"]["name"]
    ascend = None if recipe["platform"]["vendor"] == "ascend" else "for Ascend NPUs"
    container = None if install == "container" else "for containers"
    wheels = None if install == "venv" else "without a container alone"
    gateway = None if said.get("muster_gateway_hosts") else "muster_gateway_hosts is not set"
    floating = gateway or (
        None if "muster_gateway_address" in said else "muster_gateway_address is not set"
    )
    external = said.get("muster_data_parallel") == "external" and ranks > 1
    joined = None if nodes > 1 or external else "a replica is one process"
    local = said.get("muster_model_source", "local") == "local"
    docker = container if gateway else None
    no_switch = f"{recipe['name']} has no such switch"
    one_rank = "a replica has one data parallel rank"
    return {
        "muster_npu_ping": ascend,
        "muster_hccl_base_port": ascend,
        "muster_deep_gemm": None if "deep_gemm" in switches else no_switch,
        "muster_tool_calling": None if "tool_calling" in switches else no_switch,
        "muster_profiler_dir": None if "profiler" in switches else f"{engine} has no profiler here",
        "muster_draft_model_path": None if "speculative" in recipe else "the recipe has no draft",
        "muster_model_path": None if local else "the weights come from a hub",
        "muster_model_revision": "the weights are on the nodes" if local else None,
        "muster_wheel_channel": wheels,
        "muster_wheel_requirements": wheels,
        "muster_wheel_index_urls": wheels,
        "muster_wheel_dir": wheels,
        "muster_image": container,
        "muster_extra_mounts": container,
        "muster_privileged": container,
        "muster_registry_mirrors": docker,
        "muster_insecure_registries": docker,
        "muster_registry_ca": docker,
        "muster_proxy": docker,
        "muster_data_parallel": None if ranks > 1 else one_rank,
        "muster_dp_rpc_port": joined,
        "muster_link_port": joined,
        "muster_gateway_port": gateway,
        "muster_gateway_balance": gateway,
        "muster_gateway_address": gateway,
        "muster_gateway_image": gateway,
        "muster_gateway_keys": gateway,
        "muster_gateway_tls": gateway,
        "muster_gateway_router_id": floating,
    }
