# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: a pure function of recipes and an inventory."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.plugin_utils import rendering
from ansible_collections.muster.serving.plugins.plugin_utils.engine import (
    Engine,
    Recipe,
    build_engine,
    computed_env,
    served_name,
)
from ansible_collections.muster.serving.plugins.plugin_utils.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.inventory import (
    Deployment,
    View,
    find_clusters,
    hosts_text,
    machines,
    read_deployment,
    recipe_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.recipes import overlay, without_nulls

SCHEMA = 1
HCCL_BASE_PORT = 60000

Plan = dict[str, Any]
# Recipe, variant and folders of own recipes to a whole recipe.
Load = Callable[[str, "str | None", Sequence[str]], Recipe]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DOCUMENTATION = [
    ipaddress.ip_network(network)
    for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]
# Ports that are taken on every node of a replica, not on its head alone.
_EVERY_NODE = ("hccl", "link")
_PORT_SETTINGS = {
    "api": "muster_port",
    "dp_rpc": "muster_dp_rpc_port",
    "link": "muster_link_port",
    "hccl": "muster_hccl_base_port",
}


class Node(NamedTuple):
    """A host of the cluster, with what the inventory says of it."""

    host: str
    machine: str
    address: str
    interface: str
    devices: list[int]


def plan_clusters(
    view: View, limited: Iterable[str], verb: str, changes: bool, load: Load, release: str
) -> dict[str, Plan]:
    """Return the plans of all clusters that a verb's hosts belong to.

    Args:
        view: The whole inventory.
        limited: The hosts that the verb is limited to.
        verb: What the operator asked for.
        changes: Whether the verb changes nodes.
        load: Gives the recipe of a name, a variant and folders of own recipes.
        release: The version of Muster, for the plan's own record.

    Raises:
        PlanError: Whatever is wrong, all at once.
    """
    limited = list(limited)
    found = find_clusters(view)
    touched = [name for name, hosts in found.members.items() if set(hosts) & set(limited)]
    hosts = {host for name in touched for host in found.members[name]}
    misplaced = [text for host, text in found.misplaced.items() if host in hosts or host in limited]
    if misplaced:
        raise PlanError(misplaced)
    if not touched:
        raise PlanError(
            [
                f"none of the hosts {hosts_text(limited) or '(none)'} belongs to a cluster: set "
                "muster_recipe for the inventory group that is one"
            ]
        )
    if changes and len(touched) > 1:
        raise PlanError([f"{verb} takes one cluster: choose one of {', '.join(touched)} with -l"])
    plans = {}
    errors: list[str] = []
    busy = machines(view, hosts)
    for name, members in found.members.items():
        # A deployment that shares a machine counts, even outside the limit.
        if name not in touched and not busy & machines(view, members):
            continue
        try:
            plans[name] = build_plan(load(*recipe_of(view, name)), view, name, release)
        except PlanError as error:
            errors += error.messages
    errors += machine_conflicts(list(plans.values()))
    if changes:
        outside = [host for host in limited if host not in hosts]
        if outside:
            errors.append(
                f"{hosts_text(outside)}: no part of {touched[0]}, and {verb} changes nodes: choose "
                f"the cluster with -l {touched[0]}"
            )
        for name in touched:
            errors += limit_errors(plans[name], limited, verb) if name in plans else []
    if errors:
        raise PlanError(errors)
    return {name: plans[name] for name in touched}


def build_plan(recipe: Recipe, view: View, cluster: str, release: str) -> Plan:
    """Return the plan of one cluster.

    Raises:
        PlanError: Whatever is wrong, all at once.
    """
    deployment, errors = read_deployment(view, cluster)
    said, size = deployment.settings, recipe["nodes"]
    if not _NAME.fullmatch(cluster):
        errors.append(
            f"inventory group {cluster!r} cannot name units: use letters, digits, dots, hyphens "
            "and underscores"
        )
    engine, found = build_engine(recipe, deployment)
    errors += found
    nodes, found = _nodes(recipe, deployment)
    errors += found
    ports = _ports(recipe, deployment)
    errors += _port_errors(ports, cluster)
    if len(nodes) % size:
        left = [node.host for node in nodes[len(nodes) - len(nodes) % size :]]
        errors.append(
            f"{cluster}: has {len(nodes)} nodes, and {recipe['name']} needs {size} for a replica: "
            f"{', '.join(left)} would be left over; add nodes or take them out"
        )
    if engine and not errors:
        errors += _device_errors(recipe, deployment, engine, nodes)
    if errors or not engine:
        raise PlanError(errors)

    replicas = [nodes[i : i + size] for i in range(0, len(nodes), size)]
    units = [
        _unit(recipe, deployment, engine, ports, index, replica, position)
        for index, replica in enumerate(replicas)
        for position in range(size)
    ]
    urls = [f"http://{_host_port(replica[0].address, ports['api'])}/v1" for replica in replicas]
    verify = recipe.get("verify", {}) if said.get("muster_known_answers", True) else {}
    return {
        "schema": SCHEMA,
        "muster": release,
        "deployment": cluster,
        "recipe": recipe["name"],
        "variant": recipe["variant"],
        "evidence": recipe["evidence"],
        "engine": {
            "name": recipe["engine"]["name"],
            "version": engine.version,
            "image": engine.image,
            "digest": engine.digest,
            "holds_for": recipe["engine"]["holds_for"],
            "changes": engine.changes,
            "memory_utilization": engine.args.get("gpu-memory-utilization"),
        },
        "model": {
            "id": recipe["model"]["id"],
            "architecture": recipe["model"].get("architecture"),
            "path": engine.model_path,
            "draft_path": engine.draft_path,
        },
        "platform": {
            key: recipe["platform"][key] for key in ("name", "title", "vendor", "devices_per_node")
        },
        "endpoint": {
            "url": urls[0],
            "model": served_name(recipe, deployment),
            "backends": urls,
            "features": engine.features,
        },
        "verify": {
            "known_answers": verify.get("known_answers"),
            "max_repetition": verify.get("max_repetition"),
        },
        "host_tuning": _host_tuning(recipe, deployment, ports),
        "warnings": engine.warnings,
        "replicas": [
            {
                "index": index,
                "hosts": [node.host for node in replica],
                "head": replica[0].host,
                "url": urls[index],
                "ranks": list(range(engine.data)),
            }
            for index, replica in enumerate(replicas)
        ],
        "units": units,
        "links": _links(cluster, units) if size > 1 else [],
    }


def _links(cluster: str, units: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the agents that restart the units of a replica of several nodes as one."""
    links = []
    for unit in units:
        name = f"{cluster}-r{unit['replica']}"
        links.append(
            {
                "name": name,
                "host": unit["host"],
                "replica": unit["replica"],
                "listen": unit["address"],
                "port": unit["ports"]["link"],
                "peers": [
                    other["address"]
                    for other in units
                    if other["replica"] == unit["replica"] and other is not unit
                ],
                "units": [unit["systemd_unit"]],
                "systemd_unit": f"muster-{name}-link.service",
            }
        )
    return links


def _nodes(recipe: Recipe, deployment: Deployment) -> tuple[list[Node], list[str]]:
    """Return the cluster's nodes, in inventory order."""
    nodes = []
    errors = []
    seen: dict[str, str] = {}
    total = recipe["platform"]["devices_per_node"]
    for host, values in deployment.hosts.items():
        address = values.get("muster_address") or _ip_or_none(values["ansible_host"])
        interface = values.get("muster_interface", "")
        if address is None and "muster_address" not in deployment.wrong:
            errors.append(
                f"{host}: muster_address is not set and ansible_host is not an IP address: set "
                "muster_address to the node's IP on the cluster network"
            )
        if recipe["nodes"] > 1 and not interface and "muster_interface" not in deployment.wrong:
            errors.append(
                f"{host}: muster_interface is not set: a replica of {recipe['nodes']} nodes needs "
                "the name of the NIC that holds muster_address (see `ip -br addr` on the node)"
            )
        if address in seen:
            errors.append(
                f"{host}: has the address {address}, and so has {seen[address]}: every node of a "
                "cluster needs its own"
            )
        if address:
            seen[address] = host
        devices = values.get("muster_devices", list(range(total)))
        right = all(0 <= device < total for device in devices)
        if not devices or len(set(devices)) != len(devices) or not right:
            errors.append(
                f"{host}: muster_devices has to name different devices from 0 to {total - 1}, not "
                f"{devices}"
            )
        machine = values.get("muster_node", host)
        nodes.append(Node(host, machine, address or "", interface, sorted(devices)))
    return nodes, errors


def _ip_or_none(value: Any) -> str | None:
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _ports(recipe: Recipe, deployment: Deployment) -> dict[str, Any]:
    """Return the ports of a head; a follower has those in _EVERY_NODE alone."""
    said = deployment.settings
    ports: dict[str, Any] = {"api": said.get("muster_port", recipe["ports"]["api"])}
    if recipe["nodes"] > 1:
        ports["dp_rpc"] = said.get("muster_dp_rpc_port", recipe["ports"].get("dp_rpc", 29550))
        ports["link"] = said.get("muster_link_port", ports["dp_rpc"] + 1)
    count = recipe["platform"].get("hccl_ports")
    if count:
        base = said.get("muster_hccl_base_port", HCCL_BASE_PORT)
        ports["hccl"] = f"{base}-{base + count - 1}"
    return ports


def port_range(port: int | str) -> range:
    """Return the ports that a number or a FIRST-LAST stands for."""
    first, _dash, last = str(port).partition("-")
    return range(int(first), int(last or first) + 1)


def _port_errors(ports: Mapping[str, Any], cluster: str) -> list[str]:
    """Say which ports of one node overlap or do not exist."""
    errors = []
    taken: dict[int, str] = {}
    for name, value in ports.items():
        if port_range(value)[-1] > 65535:
            errors.append(f"{cluster}: {_PORT_SETTINGS[name]}: {value} ends beyond port 65535")
        clash = next((taken[port] for port in port_range(value) if port in taken), None)
        if clash:
            errors.append(
                f"{cluster}: the ports {name} ({value}) and {clash} ({ports[clash]}) overlap: "
                f"change {_PORT_SETTINGS[name]} or {_PORT_SETTINGS[clash]}"
            )
        taken.update(dict.fromkeys(port_range(value), name))
    return errors


def _host_tuning(
    recipe: Recipe, deployment: Deployment, ports: Mapping[str, Any]
) -> dict[str, Any]:
    base = {**recipe["host_tuning"], "reserved_ports": [ports["hccl"]] if "hccl" in ports else []}
    tuning = overlay(base, deployment.settings.get("muster_host_tuning", {}))
    tuning["sysctl"] = without_nulls(tuning["sysctl"] or {})
    tuning["reserved_ports"] = tuning["reserved_ports"] or []
    return tuning


def _device_errors(
    recipe: Recipe, deployment: Deployment, engine: Engine, nodes: Sequence[Node]
) -> list[str]:
    """Hold what the ranks need against the devices that the nodes give."""
    size = recipe["nodes"]
    group = engine.tensor * engine.prefill
    if engine.data % size:
        return [
            f"{deployment.cluster}: data-parallel-size {engine.data} cannot be dealt to the {size} "
            f"nodes of a replica: make it a multiple of {size}"
        ]
    local = engine.data // size
    sizes = f"tensor-parallel-size {engine.tensor}"
    if engine.prefill > 1:
        sizes += f" x prefill-context-parallel-size {engine.prefill}"
    ranks = f" x {local} of data-parallel-size {engine.data}"
    errors = []
    for node in nodes:
        have = len(node.devices)
        if group > have:
            errors.append(
                f"{node.host}: {sizes} takes {group} devices and the node gives {have}: tensor "
                f"parallelism does not cross nodes; lower it to {have} or less and raise "
                "data-parallel-size"
            )
        elif group * local > have:
            errors.append(
                f"{node.host}: {sizes}{ranks} takes {group * local} devices and the node gives "
                f"{have}: lower one of them in muster_engine_args, or give more muster_devices"
            )
        elif group * local < have and not deployment.settings.get("muster_idle_devices"):
            errors.append(
                f"{node.host}: {sizes}{ranks} takes {group * local} devices and the node gives "
                f"{have}: raise one of them in muster_engine_args, name fewer muster_devices, or "
                "set muster_idle_devices: true"
            )
    return errors


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _unit(
    recipe: Recipe,
    deployment: Deployment,
    engine: Engine,
    ports: Mapping[str, Any],
    index: int,
    replica: Sequence[Node],
    position: int,
) -> dict[str, Any]:
    """Return one engine process: the one on the node at a position of a replica."""
    said, platform, node = deployment.settings, recipe["platform"], replica[position]
    local = engine.data // len(replica)
    ranks = list(range(position * local, (position + 1) * local))
    role = "single" if len(replica) == 1 else "follower" if position else "head"
    name = f"{deployment.cluster}-r{index}-rank{ranks[0]}"
    container = dict(recipe["container"])
    container["privileged"] = said.get("muster_privileged", container["privileged"])
    serves = role != "follower"
    secrets = {}
    if serves and "muster_api_key_file" in said:
        secrets[recipe["engine"]["api_key_env"]] = said["muster_api_key_file"]
    return {
        "name": name,
        "host": node.host,
        "node": node.machine,
        "address": node.address,
        "interface": node.interface,
        "replica": index,
        "role": role,
        "ranks": ranks,
        "devices": node.devices,
        "device_nodes": [
            *(platform["device_node"].replace("{device}", str(d)) for d in node.devices),
            *platform["manager_nodes"],
        ],
        "mounts": _mounts(recipe, deployment, engine, name),
        "env": _env(recipe, engine, ports, replica, node, container["privileged"]),
        "argv": _argv(recipe, deployment, engine, ports, replica, node, ranks),
        "ports": {kind: port for kind, port in ports.items() if serves or kind in _EVERY_NODE},
        "image": f"{engine.image}@{engine.digest}" if engine.digest else engine.image,
        "install": engine.install,
        "container": container,
        "start_timeout_s": recipe["start_timeout_s"],
        "restart": recipe["restart"],
        "secret_files": secrets,
        "systemd_unit": f"muster-{name}.service",
        "api_url": f"http://{_host_port(node.address, ports['api'])}/v1" if serves else None,
    }


def _argv(
    recipe: Recipe,
    deployment: Deployment,
    engine: Engine,
    ports: Mapping[str, Any],
    replica: Sequence[Node],
    node: Node,
    ranks: Sequence[int],
) -> list[str]:
    head = replica[0]
    shared = {
        name: value
        for name, value in engine.args.items()
        if node is head or name not in rendering.HEAD_ONLY
    }
    flags: dict[str, Any] = {
        "served-model-name": served_name(recipe, deployment),
        "host": node.address,
        "port": ports["api"],
    }
    if node is not head:
        flags["headless"] = True
    flags["tensor-parallel-size"] = engine.tensor
    flags["data-parallel-size"] = engine.data
    if engine.prefill > 1:
        flags["prefill-context-parallel-size"] = engine.prefill
    if len(replica) > 1:
        flags["data-parallel-size-local"] = len(ranks)
        # From vLLM 0.28 on, a head that names its start rank balances in another mode, in which
        # headless followers die. All versions take it from followers alone.
        if node is not head:
            flags["data-parallel-start-rank"] = ranks[0]
        flags["data-parallel-address"] = head.address
        flags["data-parallel-rpc-port"] = ports["dp_rpc"]
    return [
        *recipe["engine"]["command"],
        engine.model,
        *rendering.render_flags({**flags, **shared}),
    ]


def _env(
    recipe: Recipe,
    engine: Engine,
    ports: Mapping[str, Any],
    replica: Sequence[Node],
    node: Node,
    privileged: bool,
) -> dict[str, str]:
    # A container that is given some devices counts them from 0; a privileged one sees them all.
    visible = node.devices if privileged else range(len(node.devices))
    values = {"devices": ",".join(map(str, visible))}
    if len(replica) > 1:
        values["address"] = node.address
        values["interface"] = node.interface
    if "hccl" in ports and port_range(ports["hccl"])[0] != HCCL_BASE_PORT:
        values["hccl_base_port"] = str(port_range(ports["hccl"])[0])
    names = computed_env(recipe)
    computed = {env: value for kind, value in values.items() for env in names.get(kind, [])}
    return {**engine.env, **computed}


def _mounts(recipe: Recipe, deployment: Deployment, engine: Engine, unit: str) -> list[str]:
    said = deployment.settings
    mounts = [mount.replace("{unit}", unit) for mount in recipe["mounts"]]
    mounts += [f"{path}:{path}:ro" for path in (engine.model_path, engine.draft_path) if path]
    if "muster_profiler_dir" in said:
        mounts.append(f"{said['muster_profiler_dir']}:{said['muster_profiler_dir']}")
    return _unique([*mounts, *said.get("muster_extra_mounts", [])])


def machine_conflicts(plans: Sequence[Plan]) -> list[str]:
    """Return an error for each device or port of a machine that two units claim."""
    errors = []
    by_machine: dict[str, list[dict[str, Any]]] = {}
    for plan in plans:
        for unit in plan["units"]:
            by_machine.setdefault(unit["node"], []).append(unit)
    for machine, units in by_machine.items():
        for i, one in enumerate(units):
            for other in units[i + 1 :]:
                both = f"{one['host']} and {other['host']} are one machine ({machine})"
                devices = sorted(set(one["devices"]) & set(other["devices"]))
                if devices:
                    errors.append(
                        f"{both} and both claim device {numbers_text(devices)}: give each its own "
                        "muster_devices"
                    )
                errors += [
                    f"{both} and both claim a port, {name} {port} and {other_name} {other_port}: "
                    f"change {_PORT_SETTINGS[name]} of one"
                    for name, port in one["ports"].items()
                    for other_name, other_port in other["ports"].items()
                    if set(port_range(port)) & set(port_range(other_port))
                ]
    return errors


def limit_errors(plan: Plan, limited: Sequence[str], verb: str) -> list[str]:
    """Return why a verb that changes things cannot run on these hosts of a plan.

    It takes whole replicas, and no address that stands for an example.
    """
    errors = []
    for replica in plan["replicas"]:
        missing = [host for host in replica["hosts"] if host not in limited]
        if missing and len(missing) < len(replica["hosts"]):
            errors.append(
                f"{plan['deployment']}: the limit leaves out {', '.join(missing)} of replica "
                f"{replica['index']} ({', '.join(replica['hosts'])}), and {verb} changes whole "
                "replicas only: add what is missing to the limit, or leave the replica out"
            )
    for unit in plan["units"]:
        address = ipaddress.ip_address(unit["address"])
        if unit["host"] in limited and any(address in network for network in _DOCUMENTATION):
            errors.append(
                f"{unit['host']}: {address} is an address reserved for documentation: {verb} "
                "changes nodes, so give it an inventory of your own (-i)"
            )
    return errors


def units_by_host(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Return a plan's units by the host that runs them."""
    units: dict[str, list[dict[str, Any]]] = {}
    for unit in plan["units"]:
        units.setdefault(unit["host"], []).append(unit)
    return units


def needs_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return by host what preflight and prepare have to find there."""
    units = units_by_host(plan)
    addresses = {unit["host"]: unit["address"] for unit in plan["units"]}
    needs = {}
    for replica in plan["replicas"]:
        for host in replica["hosts"]:
            own = units[host]
            needs[host] = {
                "address": addresses[host],
                "interface": own[0]["interface"],
                "head": addresses[replica["head"]],
                "peers": [addresses[other] for other in replica["hosts"] if other != host],
                "multi_node": len(replica["hosts"]) > 1,
                "replica": replica["index"],
                "device_count": plan["platform"]["devices_per_node"],
                "devices": sorted({device for unit in own for device in unit["devices"]}),
                "device_nodes": _unique(path for unit in own for path in unit["device_nodes"]),
                "mounts": _unique(mount for unit in own for mount in unit["mounts"]),
                "ports": _unique(str(port) for unit in own for port in unit["ports"].values()),
                "units": [
                    *(unit["systemd_unit"] for unit in own),
                    *(link["systemd_unit"] for link in plan["links"] if link["host"] == host),
                ],
            }
    return needs


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def numbers_text(numbers: Sequence[int]) -> str:
    """Write 0, 1, 2, 5 as 0-2,5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ",".join("-".join(map(str, span)) for span in spans)
