# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a plan: one engine process each, as exec, Docker and systemd will have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.units import names, unit_files
from ansible_collections.muster.serving.plugins.plugin_utils.plan import rendering
from ansible_collections.muster.serving.plugins.plugin_utils.plan.engine import (
    Engine,
    served_name,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import Deployment
from ansible_collections.muster.serving.plugins.plugin_utils.plan.merging import computed_env
from ansible_collections.muster.serving.plugins.plugin_utils.plan.mounts import mounts_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.placement import (
    HCCL_BASE_PORT,
    Node,
    Shape,
    Slot,
    ports_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import Recipe

Unit = dict[str, Any]

# What {cache} stands for in a recipe's environment: a folder that a unit keeps between its starts.
_CACHE = {"container": "/root/.cache", "venv": "/var/cache/muster/{unit}/.cache"}
# How long an engine with work may yield nothing before a completion is tried.
STALL_PATIENCE_S = 120
# What says where a hub's downloads lie, when it is not below the cache.
_HUB_HOME = {"huggingface": "HF_HOME", "modelscope": "MODELSCOPE_CACHE"}


def engine_unit(
    recipe: Recipe,
    deployment: Deployment,
    engine: Engine,
    shape: Shape,
    index: int,
    head: Node,
    slot: Slot,
) -> Unit:
    """Return the unit of one slot of the replica with this index."""
    said, platform, node = deployment.settings, recipe["platform"], slot.node
    if shape.external:
        role = "rank"
    elif shape.nodes == 1:
        role = "single"
    else:
        role = "head" if node is head else "follower"
    name = names.rank_name(deployment.cluster, index, slot.ranks[0])
    container = dict(recipe["container"])
    container["privileged"] = said.get("muster_privileged", container["privileged"])
    if container["privileged"]:
        container["cap_drop"] = []
    in_container = engine.install == "container"
    by_toolkit = in_container and platform.get("container_gpus", False)
    container["gpus"] = slot.devices if by_toolkit else []
    serves = role != "follower"
    secrets = {}
    if serves and "muster_api_key_file" in said:
        secrets[recipe["engine"]["api_key_env"]] = said["muster_api_key_file"]
    planned = mounts_of(recipe, said, engine.model_path, engine.draft_path)
    mounts = [mount.text.replace("{unit}", name) for mount in planned]
    cache = _CACHE[engine.install].replace("{unit}", name)
    env = _env(recipe, engine, shape, slot, in_container, container["privileged"])
    return {
        "name": name,
        "host": node.host,
        "node": node.machine,
        "address": node.address,
        "interface": node.interface,
        "replica": index,
        "group": names.replica_group(index),
        "role": role,
        "ranks": slot.ranks,
        "devices": slot.devices,
        "device_nodes": [] if by_toolkit else _device_nodes(platform, slot.devices),
        "mounts": mounts if in_container else [],
        "env": {key: value.replace("{cache}", cache) for key, value in env.items()},
        "argv": _argv(recipe, deployment, engine, shape, head, slot),
        "ports": slot.ports,
        "image": engine.unit_image,
        "install": engine.install,
        "container": container,
        "files": {},
        "first_start": _first_start(recipe, engine, cache, mounts if in_container else []),
        "start_timeout_s": recipe["start_timeout_s"],
        "stop_timeout_s": unit_files.STOP_TIMEOUT_S + engine.drain_s,
        "restart": recipe["restart"],
        "secret_files": secrets,
        "api_key_env": next(iter(secrets), None),
        "systemd_unit": names.service(name),
        "api_url": api_url(node.address, slot.ports["api"]) if serves else None,
    }


def links_of(
    cluster: str, units: Sequence[Mapping[str, Any]], model: str, patience_s: int
) -> list[dict[str, Any]]:
    """Return the agents that restart the units of a replica as one: one a node and replica.

    Args:
        cluster: Its name.
        units: All engines of the plan.
        model: The name under which they serve.
        patience_s: How long an engine with work may yield nothing.
    """
    by_replica: dict[int, dict[str, list[Mapping[str, Any]]]] = {}
    for unit in units:
        by_replica.setdefault(unit["replica"], {}).setdefault(unit["host"], []).append(unit)
    links = []
    for replica, hosts in by_replica.items():
        name = names.link_name(cluster, replica)
        for host, own in hosts.items():
            links.append(
                {
                    "name": name,
                    "deployment": cluster,
                    "host": host,
                    "replica": replica,
                    "group": names.replica_group(replica),
                    "listen": own[0]["address"],
                    # A replica of one process has no other node to tell.
                    "port": own[0]["ports"].get("link"),
                    "peers": [
                        others[0]["address"] for other, others in hosts.items() if other != host
                    ],
                    "units": [unit["systemd_unit"] for unit in own],
                    "systemd_unit": names.link_service(name),
                    "restart": own[0]["restart"],
                    "stall": _stall(own, model, patience_s),
                }
            )
    return links


def _stall(units: Sequence[Mapping[str, Any]], model: str, patience_s: int) -> dict[str, Any]:
    """Return how a node's agent watches its engines of a replica.

    Before its first token an engine may still compile what its first request needs, so it then has
    as long as for its start. systemd's start limit holds for restarts of any kind; for stalls the
    same number of them counts for so long that it is reached, however slowly they come.
    """
    start_s = max(unit["start_timeout_s"] for unit in units)
    restart = units[0]["restart"]
    restarts = max(restart["count"] - 1, 1)
    first_s = max(patience_s, start_s)
    return {
        "patience_s": patience_s,
        "first_patience_s": first_s,
        "restarts": restarts,
        "window_s": max(restart["window_s"], (restarts + 1) * (first_s + start_s)),
        "apis": [
            {
                "systemd_unit": unit["systemd_unit"],
                "url": unit["api_url"],
                "model": model,
                "api_key_env": unit["api_key_env"],
                "install": unit["install"],
            }
            for unit in units
            if unit["api_url"]
        ],
    }


def api_url(address: str, port: int) -> str:
    """Return the URL of an API."""
    return f"http://[{address}]:{port}/v1" if ":" in address else f"http://{address}:{port}/v1"


def _argv(
    recipe: Recipe,
    deployment: Deployment,
    engine: Engine,
    shape: Shape,
    head: Node,
    slot: Slot,
) -> list[str]:
    dialect, node = engine.dialect, slot.node
    follows = node is not head and not shape.external
    flags: dict[str, Any] = {}
    command = list(recipe["engine"]["command"])
    if engine.venv:
        command[0] = f"{engine.venv['path']}/bin/{command[0]}"
    if dialect.model:
        flags[dialect.model] = engine.model
    else:
        command.append(engine.model)
    source = deployment.settings.get("muster_model_source", "local")
    if source != "local":
        found = recipe["model"]["sources"][source]
        flags["revision"] = deployment.settings.get("muster_model_revision", found["revision"])
    flags["served-model-name"] = served_name(recipe, deployment)
    flags["host"] = node.address
    # vLLM takes the port of a follower, too, and leaves it alone.
    flags["port"] = slot.ports.get("api", shape.ports["api"])
    if follows:
        flags["headless"] = True
    for kind, size in (
        ("tensor", engine.tensor),
        ("data", engine.data),
        ("prefill_context", engine.prefill),
    ):
        if kind in dialect.sizes and (kind != "prefill_context" or size > 1):
            flags[dialect.sizes[kind]] = size
    if shape.external:
        flags["data-parallel-rank"] = slot.ranks[0]
    elif shape.nodes > 1:
        flags["data-parallel-size-local"] = len(slot.ranks)
        # From vLLM 0.28 on, a head that names its start rank balances in another mode, in which
        # headless followers die. All versions take it from followers alone.
        if follows:
            flags["data-parallel-start-rank"] = slot.ranks[0]
    if shape.external or shape.nodes > 1:
        flags["data-parallel-address"] = head.address
        flags["data-parallel-rpc-port"] = shape.ports["dp_rpc"]
    shared = {
        name: value
        for name, value in engine.args.items()
        if not follows or name not in dialect.head_only
    }
    return [*command, *rendering.render_flags({**flags, **shared}, dialect.negates)]


def _device_nodes(platform: Mapping[str, Any], devices: Sequence[int]) -> list[str]:
    each = platform["device_node"]
    own = [each.replace("{device}", str(device)) for device in devices] if each else []
    return [*own, *platform["manager_nodes"]]


def _env(
    recipe: Recipe,
    engine: Engine,
    shape: Shape,
    slot: Slot,
    in_container: bool,
    privileged: bool,
) -> dict[str, str]:
    platform = recipe["platform"]
    # A container that is given single devices counts them from 0. Whoever sees all devices of the
    # node has to be told which are his.
    given = platform["device_node"] or platform.get("container_gpus")
    alone = in_container and given and not privileged
    visible = range(len(slot.devices)) if alone else slot.devices
    values = {"devices": ",".join(map(str, visible))}
    if shape.nodes > 1:
        values["address"] = slot.node.address
        values["interface"] = slot.node.interface
    if "hccl" in slot.ports and ports_of(slot.ports["hccl"])[0] != HCCL_BASE_PORT:
        values["hccl_base_port"] = str(ports_of(slot.ports["hccl"])[0])
    told = computed_env(recipe)
    computed = {env: value for kind, value in values.items() for env in told.get(kind, [])}
    exact = {
        name: engine.env[name]
        for name, value in computed.items()
        if engine.env.get(name) == f"={value}"
    }
    own_address = recipe["engine"].get("address_env")
    alone_on_node = shape.nodes == 1 and own_address
    named = {own_address: slot.node.address} if alone_on_node else {}
    return {**named, **engine.env, **computed, **exact}


def _first_start(
    recipe: Recipe, engine: Engine, cache: str, mounts: Sequence[str]
) -> dict[str, Any] | None:
    """Return what the first start does once, with the folder that keeps it as the node has it."""
    once = recipe["engine"].get("first_start")
    if not once or engine.install not in once.get("installs", [engine.install]):
        return None
    path = once["cache"].replace("{cache}", cache)
    told = {name: once[name] for name in ("extra_s", "reason")}
    return {**told, "cache": _on_node(path, mounts) or path}


def hub_folder(unit: Mapping[str, Any], source: str) -> str | None:
    """Return the folder of the node that takes a hub's downloads, None for the container's own."""
    cache = _CACHE[unit["install"]].replace("{unit}", unit["name"])
    folder: str = unit["env"].get(_HUB_HOME[source], f"{cache}/{source}")
    return folder if unit["install"] == "venv" else _on_node(folder, unit["mounts"])


def _on_node(path: str, mounts: Sequence[str]) -> str | None:
    """Return where a container's path lies on the node, None where no mount holds it."""
    pairs = [mount.split(":")[:2] for mount in mounts]
    holders = [pair for pair in pairs if f"{path}/".startswith(f"{pair[1]}/")]
    if not holders:
        return None
    source, target = max(holders, key=lambda pair: len(pair[1]))
    return source + path[len(target) :]
