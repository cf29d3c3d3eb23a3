# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a deployment's ranks go: nodes, replicas, devices and ports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.plan import addresses
from ansible_collections.muster.serving.plugins.plugin_utils.plan.engine import (
    Engine,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import (
    Deployment,
    said_by,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.merging import replica_nodes
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import Recipe

HCCL_BASE_PORT = 60000
GATEWAY_PORT = 8080

# The variable that moves each kind of port.
PORT_SETTINGS = {
    "api": "muster_port",
    "dp_rpc": "muster_dp_rpc_port",
    "link": "muster_link_port",
    "hccl": "muster_hccl_base_port",
    "gateway": "muster_gateway_port",
}


class Node(NamedTuple):
    """A host of the cluster, with what the inventory says of it."""

    host: str
    machine: str
    address: str
    interface: str
    devices: list[int]


class Slot(NamedTuple):
    """The place of one engine process: some ranks of a replica on some devices of a node."""

    node: Node
    ranks: list[int]
    devices: list[int]
    ports: dict[str, Any]


class Shape(NamedTuple):
    """How a replica is laid out.

    external is data parallelism with a process and an API for each rank, ports what one node
    takes in all, by kind.
    """

    nodes: int
    external: bool
    ports: dict[str, Any]


def shape_of(recipe: Recipe, deployment: Deployment, engine: Engine) -> tuple[Shape, list[str]]:
    """Return the layout of the deployment's replicas, and what is wrong with it."""
    said, cluster, size = deployment.settings, deployment.cluster, replica_nodes(recipe, deployment)
    if engine.data % size:
        return Shape(size, False, {}), [
            f"{cluster}: data-parallel-size {engine.data} cannot be dealt to the {size} nodes of "
            f"a replica: make it a multiple of {size}, or change muster_replica_nodes"
        ]
    spreads = engine.dialect.sizes.get("prefill_context") is not None
    external = said.get("muster_data_parallel") == "external" and engine.data > 1
    if not spreads and (size > 1 or external):
        what = f"a replica of {size} nodes (muster_replica_nodes)"
        if external:
            what = "external data parallelism (muster_data_parallel)"
        return Shape(size, False, {}), [
            f"{cluster}: Muster has no form of {what} for {recipe['engine']['name']}: take one "
            "node a replica and internal data parallelism, with a gateway over replicas"
        ]
    processes = engine.data // size if external else 1
    ports: dict[str, Any] = {
        "api": span(said.get("muster_port", recipe["ports"]["api"]), processes)
    }
    if size > 1 or external:
        ports["dp_rpc"] = said.get("muster_dp_rpc_port", recipe["ports"].get("dp_rpc", 29550))
        ports["link"] = said.get("muster_link_port", ports["dp_rpc"] + 1)
    count = recipe["platform"].get("hccl_ports")
    if count:
        base = said.get("muster_hccl_base_port", HCCL_BASE_PORT)
        ports["hccl"] = span(base, count * processes)
    if said.get("muster_gateway_hosts"):
        ports["gateway"] = said.get("muster_gateway_port", GATEWAY_PORT)
    return Shape(size, external, ports), [
        *_port_errors(ports, cluster),
        *_flag_port_errors(ports, engine.args, cluster),
    ]


def nodes_of(recipe: Recipe, deployment: Deployment) -> tuple[list[Node], list[str]]:
    """Return the cluster's nodes in inventory order, and what is wrong with them."""
    nodes = []
    errors = []
    seen: dict[str, str] = {}
    total, size = recipe["platform"]["devices_per_node"], replica_nodes(recipe, deployment)
    # A gateway reaches the APIs of all nodes.
    gateways = deployment.settings.get("muster_gateway_hosts")
    joined = size > 1 or (bool(gateways) and len(deployment.hosts) > 1)
    for host, values in deployment.hosts.items():
        address = addresses.address_of(host, values)
        interface = values.get("muster_interface", "")
        if address is None and "muster_address" not in deployment.wrong:
            errors.append(
                f"{host}: muster_address is not set, and neither ansible_host nor the inventory "
                "name is an IP address: set muster_address to the node's IP on the cluster network"
            )
        why = addresses.unfit(address) if address else None
        if why:
            errors.append(
                f"{host}: the address {address} cannot be a node's ({why}): set muster_address to "
                "the node's IP on the cluster network"
            )
        elif address and addresses.is_loopback(address) and joined:
            errors.append(
                f"{host}: the address {address} is the node's own loopback, and other nodes have "
                "to reach it: set muster_address to its IP on the cluster network"
            )
        if interface == "lo" and size > 1:
            errors.append(
                f"{host}: muster_interface lo joins no nodes: name the NIC that holds "
                "muster_address (see `ip -br addr` on the node)"
            )
        if size > 1 and not interface and "muster_interface" not in deployment.wrong:
            errors.append(
                f"{host}: muster_interface is not set: a replica of {size} nodes needs "
                "the name of the NIC that holds muster_address (see `ip -br addr` on the node)"
            )
        if address in seen:
            errors.append(
                f"{host}: has the address {address}, and so has {seen[address]}: every node of a "
                "cluster needs its own muster_address"
            )
        if address:
            seen[address] = host
        devices = values.get("muster_devices", list(range(recipe.get("devices", total))))
        right = all(0 <= device < total for device in devices)
        if not devices:
            errors.append(
                f"{host}: muster_devices names no device: leave it out for all of the recipe's, or "
                f"name some of 0 to {total - 1}"
            )
        elif len(set(devices)) != len(devices) or not right:
            errors.append(
                f"{host}: muster_devices has to name different devices from 0 to {total - 1}, not "
                f"{devices}"
            )
        machine = values.get("muster_node", host)
        nodes.append(Node(host, machine, address or "", interface, sorted(devices)))
    if len(nodes) % size:
        left = [node.host for node in nodes[len(nodes) - len(nodes) % size :]]
        errors.append(
            f"{deployment.cluster}: has {len(nodes)} nodes, and {recipe['name']} needs {size} for "
            f"a replica: {', '.join(left)} would be left over; add nodes or take them out"
            f"{said_by(deployment.settings, 'muster_replica_nodes')}"
        )
    else:
        replicas, found = dealt(deployment, nodes, size)
        errors += found or _family_errors(replicas.values())
    return nodes, errors


def dealt(
    deployment: Deployment, nodes: Sequence[Node], size: int
) -> tuple[dict[int, list[Node]], list[str]]:
    """Return by number the nodes of each replica in inventory order, and what is wrong with it.

    Nodes that say their replica are in it. The others fill what is missing there, then the lowest
    free numbers.
    """
    replicas: dict[int, list[Node]] = {}
    rest = []
    for node in nodes:
        said: int | None = deployment.hosts[node.host].get("muster_replica")
        if said is None:
            rest.append(node)
        else:
            replicas.setdefault(said, []).append(node)
    index = 0
    open_ = [number for number in sorted(replicas) if len(replicas[number]) < size]
    while rest:
        if open_:
            number = open_.pop(0)
        else:
            while index in replicas:
                index += 1
            number = index
        own = replicas.setdefault(number, [])
        missing = size - len(own)
        own += rest[:missing]
        rest = rest[missing:]
    order = {node.host: place for place, node in enumerate(nodes)}
    for own in replicas.values():
        own.sort(key=lambda node: order[node.host])
    errors = [
        f"{deployment.cluster}: muster_replica puts {len(own)} of {size} nodes into replica "
        f"{number} ({', '.join(node.host for node in own)}): say it otherwise, or of fewer nodes"
        for number, own in sorted(replicas.items())
        if len(own) != size
    ]
    return dict(sorted(replicas.items())), errors


def _family_errors(replicas: Iterable[Sequence[Node]]) -> list[str]:
    """Say of which replicas the nodes do not reach each other by one kind of address."""
    errors = []
    for head, *others in replicas:
        errors += [
            f"{node.host}: has the address {node.address}, and the head of its replica, "
            f"{head.host}, {head.address}: the nodes of a replica need addresses of one family "
            "(muster_address)"
            for node in others
            if node.address
            and head.address
            and addresses.family(node.address) != addresses.family(head.address)
        ]
    return errors


def device_errors(
    deployment: Deployment, engine: Engine, shape: Shape, nodes: Sequence[Node]
) -> list[str]:
    """Hold what the ranks need against the devices that the nodes give."""
    group, local = engine.group, engine.data // shape.nodes
    flags = engine.dialect.sizes
    sizes = f"{flags['tensor']} {engine.tensor}"
    if engine.prefill > 1:
        sizes += f" x {flags['prefill_context']} {engine.prefill}"
    ranks = f" x {local} of {flags['data']} {engine.data}"
    errors = []
    for node in nodes:
        have = len(node.devices)
        if not have:
            continue
        if group > have:
            errors.append(
                f"{node.host}: {sizes} takes {group} devices and the node gives {have}: tensor "
                f"parallelism does not cross nodes; lower it to {have} or less and raise "
                f"{flags['data']}, or give more muster_devices"
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


def slots_of(recipe: Recipe, engine: Engine, shape: Shape, replica: Sequence[Node]) -> list[Slot]:
    """Return the engine processes of one replica, the one with rank 0 first."""
    local = engine.data // shape.nodes
    slots = []
    for position, node in enumerate(replica):
        ranks = list(range(position * local, (position + 1) * local))
        if not shape.external:
            # A follower has neither API nor the port on which the head awaits it.
            kinds = [k for k in shape.ports if position == 0 or k in ("hccl", "link")]
            ports = {kind: shape.ports[kind] for kind in kinds if kind != "gateway"}
            slots.append(Slot(node, ranks, node.devices, ports))
            continue
        for index, rank in enumerate(ranks):
            ports = {"api": ports_of(shape.ports["api"])[index]}
            if rank == 0:
                ports["dp_rpc"] = shape.ports["dp_rpc"]
            # One agent a node watches all its processes.
            if index == 0:
                ports["link"] = shape.ports["link"]
            if "hccl" in shape.ports:
                count = recipe["platform"]["hccl_ports"]
                ports["hccl"] = span(ports_of(shape.ports["hccl"])[index * count], count)
            devices = node.devices[index * engine.group : (index + 1) * engine.group]
            slots.append(Slot(node, [rank], devices, ports))
    return slots


def ports_of(value: int | str) -> range:
    """Return the ports that a number or FIRST-LAST of the plan stands for."""
    first, _dash, last = str(value).partition("-")
    return range(int(first), int(last or first) + 1)


def span(first: int, count: int) -> int | str:
    """Return so many ports as the plan writes them: a number, or FIRST-LAST."""
    return first if count == 1 else f"{first}-{first + count - 1}"


def unique(items: Iterable[str]) -> list[str]:
    """Return items without repetitions, in their order."""
    return list(dict.fromkeys(items))


def _flag_port_errors(ports: Mapping[str, Any], args: Mapping[str, Any], cluster: str) -> list[str]:
    """Say which ports in the engine's flags are others of the plan."""
    return [
        f"{cluster}: muster_engine_args: {flag} {value} is the plan's {name} port ({port}): change "
        f"it or {PORT_SETTINGS[name]}"
        for flag, value in args.items()
        if flag.endswith("-port") and isinstance(value, int)
        for name, port in ports.items()
        if value in ports_of(port)
    ]


def _port_errors(ports: Mapping[str, Any], cluster: str) -> list[str]:
    """Say which ports of one node overlap or do not exist."""
    errors = []
    taken: dict[int, str] = {}
    for name, value in ports.items():
        if ports_of(value)[-1] > 65535:
            before = " (muster_dp_rpc_port + 1, where it is not set)" if name == "link" else ""
            errors.append(
                f"{cluster}: {PORT_SETTINGS[name]}: {value} ends beyond port 65535{before}"
            )
        clash = next((taken[port] for port in ports_of(value) if port in taken), None)
        if clash:
            errors.append(
                f"{cluster}: the ports {name} ({value}) and {clash} ({ports[clash]}) overlap: "
                f"change {PORT_SETTINGS[name]} or {PORT_SETTINGS[clash]}"
            )
        taken.update(dict.fromkeys(ports_of(value), name))
    return errors
