# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: a pure function of a recipe and an inventory.

An inventory view is C({"groups": {name: [host]}, "hostvars": {host: {name: plain value}}}).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.plugin_utils import (
    inventory_vars,
    rendering,
    versions,
)
from ansible_collections.muster.serving.plugins.plugin_utils.errors import PlanError, nearest
from ansible_collections.muster.serving.plugins.plugin_utils.recipes import (
    normalise_args,
    overlay,
    without_nulls,
)

SCHEMA = 1
HCCL_BASE_PORT = 60000

View = Mapping[str, Mapping[str, Any]]
Plan = Dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DOCUMENTATION = [
    ipaddress.ip_network(network)
    for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]


class Node(NamedTuple):
    """A host of the cluster, with what the inventory says of it."""

    host: str
    machine: str
    address: str
    interface: str
    devices: list[int]


class Engine(NamedTuple):
    """What all units of a deployment have in common."""

    version: str
    image: str | None
    digest: str | None
    args: dict[str, Any]
    env: dict[str, str]
    tensor: int
    data: int
    prefill: int
    model: str
    features: list[str]
    warnings: list[str]
    changes: list[dict[str, str]]


def clusters(view: View) -> dict[str, list[str]]:
    """Return the clusters of an inventory and their hosts.

    Hosts without C(muster_recipe) are no part of a cluster unless their group holds one with it.

    Raises:
        PlanError: A host stands in several groups or in two clusters.
    """
    found: dict[str, list[str]] = {}
    errors = []
    for host, hostvars in view["hostvars"].items():
        if hostvars.get("muster_recipe") is None:
            continue
        groups = _groups_of(host, view)
        named = hostvars.get("muster_cluster")
        if named is not None and named not in groups:
            errors.append(
                f"{host}: muster_cluster names {named!r}, but the host's inventory groups are "
                f"{', '.join(groups) or 'none'}"
            )
        elif named is None and len(groups) != 1:
            errors.append(
                f"{host}: stands in the inventory groups {', '.join(groups)}: an inventory name "
                "belongs to one cluster; set muster_cluster to it (a machine that runs two "
                "deployments has an inventory name for each, with the same muster_node)"
                if groups
                else f"{host}: stands in no inventory group: put it into the one of its cluster"
            )
        else:
            cluster = str(named if named is not None else groups[0])
            found.setdefault(cluster, list(view["groups"][cluster]))
            if named is not None:
                errors += _other_clusters(host, cluster, groups, view)
    if errors:
        raise PlanError(errors)
    return found


def _groups_of(host: str, view: View) -> list[str]:
    return [
        name
        for name, hosts in view["groups"].items()
        if name not in ("all", "ungrouped") and host in hosts
    ]


def _other_clusters(host: str, cluster: str, groups: list[str], view: View) -> list[str]:
    """Say where another host takes a group of this one for its cluster."""
    return [
        f"{host}: its cluster is {cluster}, but {other} takes the group {group}, in which it "
        "stands too, for its cluster: an inventory name belongs to one cluster"
        for group in groups
        if group != cluster
        for other in view["groups"][group]
        if other != host and view["hostvars"].get(other, {}).get("muster_cluster") == group
    ][:1]


def recipe_of(view: View, cluster: str) -> tuple[str, str | None]:
    """Return the names of a cluster's recipe and variant.

    Raises:
        PlanError: The hosts of the cluster disagree, or do not say.
    """
    settings = _settings(view, cluster)[0]
    chosen, errors = _agreed(settings, ("muster_recipe", "muster_variant"))
    if errors or "muster_recipe" not in chosen:
        wrong = [e for host in settings.values() for e in host.errors]
        raise PlanError(
            errors or wrong or [f"{cluster}: muster_recipe is not set; say which recipe to serve"]
        )
    return chosen["muster_recipe"], chosen.get("muster_variant")


def build_plan(recipe: Mapping[str, Any], view: View, cluster: str, release: str) -> Plan:
    """Return the plan of one cluster.

    Args:
        recipe: A whole recipe, as RecipeBook.load returns it.
        view: The inventory.
        cluster: The inventory group to plan.
        release: The version of Muster, for the plan's own record.

    Raises:
        PlanError: Whatever is wrong, all at once.
    """
    settings, errors = _settings(view, cluster)
    chosen, disagreements = _agreed(settings, inventory_vars.cluster_wide())
    errors += disagreements
    if not _NAME.fullmatch(cluster):
        errors.append(
            f"inventory group {cluster!r} cannot name units: use letters, digits, dots, hyphens "
            "and underscores"
        )
    wrong = {name for host in settings.values() for name in host.wrong}
    engine, found = _engine(recipe, chosen, cluster, wrong)
    errors += found
    nodes, found = _nodes(recipe, settings, view)
    errors += found
    ports = _ports(recipe, chosen)
    errors += _port_errors(ports, cluster)
    size = recipe["nodes"]
    if len(settings) % size:
        left = list(settings)[len(settings) - len(settings) % size :]
        errors.append(
            f"{cluster}: has {len(settings)} nodes, and {recipe['name']} needs {size} for a "
            f"replica: {', '.join(left)} would be left over; add nodes or take them out"
        )
    tuning, found = _host_tuning(recipe, chosen, ports, cluster)
    errors += found
    if engine and nodes and not errors:
        errors += _device_errors(recipe, engine, nodes, chosen.get("muster_idle_devices", False))
    if errors or not engine:
        raise PlanError(errors)

    replicas = [nodes[i : i + size] for i in range(0, len(nodes), size)]
    units = [
        _unit(recipe, chosen, engine, ports, cluster, index, replica, position)
        for index, replica in enumerate(replicas)
        for position in range(size)
    ]
    urls = [f"http://{_host_port(replica[0].address, ports['api'])}/v1" for replica in replicas]
    source = chosen.get("muster_model_source", "local")
    speculative = "speculative-config" in engine.args
    answers = recipe.get("verify", {}) if chosen.get("muster_known_answers", True) else {}
    return {
        "schema": SCHEMA,
        "muster": release,
        "deployment": cluster,
        "recipe": recipe["name"],
        "variant": recipe["variant"],
        "engine": {
            "name": recipe["engine"]["name"],
            "version": engine.version,
            "image": engine.image,
            "digest": engine.digest,
            "holds_for": recipe["engine"]["holds_for"],
            "changes": engine.changes,
        },
        "endpoint": {
            "url": urls[0],
            "model": _served_name(recipe, chosen),
            "backends": urls,
            "features": engine.features,
        },
        "model": {
            "id": recipe["model"]["id"],
            "architecture": recipe["model"].get("architecture"),
            "path": chosen.get("muster_model_path") if source == "local" else None,
            "draft_path": chosen.get("muster_draft_model_path") if speculative else None,
        },
        "platform": {
            key: recipe["platform"][key] for key in ("name", "title", "vendor", "devices_per_node")
        },
        "evidence": recipe["evidence"],
        "host_tuning": tuning,
        "verify": {
            "known_answers": answers.get("known_answers"),
            "max_repetition": answers.get("max_repetition"),
        },
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
    }


def _settings(view: View, cluster: str) -> tuple[dict[str, inventory_vars.Settings], list[str]]:
    """Read the variables of a cluster's hosts, in inventory order."""
    hosts = view["groups"].get(cluster) or []
    settings = {
        host: inventory_vars.read_settings(host, view["hostvars"].get(host, {})) for host in hosts
    }
    errors = [error for host in settings.values() for error in host.errors]
    if not hosts:
        errors.append(f"{cluster}: the inventory group has no hosts")
    return settings, errors


def _agreed(
    settings: Mapping[str, inventory_vars.Settings], names: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return what all hosts say alike, and an error where two differ."""
    chosen: dict[str, Any] = {}
    errors = []
    hosts = list(settings)
    for name in names:
        said = [settings[host].values.get(name) for host in hosts]
        for host, value in zip(hosts, said):
            if value != said[0] and name not in settings[host].wrong + settings[hosts[0]].wrong:
                errors.append(
                    f"{host}: {name} is {value!r} and on {hosts[0]} {said[0]!r}: it has to be "
                    "equal on all nodes of a cluster; set it for the inventory group"
                )
                break
        if said and said[0] is not None:
            chosen[name] = said[0]
    return chosen, errors


def _engine(
    recipe: Mapping[str, Any], chosen: Mapping[str, Any], cluster: str, wrong: set[str]
) -> tuple[Engine | None, list[str]]:
    """Merge recipe, engine version and inventory into what the engine is started with."""
    spec = recipe["engine"]
    version = chosen.get("muster_engine_version", spec["version"])
    try:
        proven = versions.matches(version, spec["holds_for"])
    except ValueError as error:
        return None, [f"{cluster}: muster_engine_version: {error}"]
    errors: list[str] = []
    warnings = list(recipe.get("warnings", []))
    if not proven:
        text = (
            f"{recipe['name']} holds for {spec['name']} {spec['holds_for']}, not for "
            f"muster_engine_version {version}"
        )
        if chosen.get("muster_engine_version_unproven"):
            warnings.append(f"{text}; accepted by muster_engine_version_unproven")
        else:
            errors.append(
                f"{cluster}: {text}: choose a version it holds for, or set "
                "muster_engine_version_unproven: true"
            )
        if "muster_image" not in chosen and "{version}" in spec["image"]:
            errors.append(f"{cluster}: say with muster_image which image holds {version}")

    config, features, notes = _layers(recipe, chosen)
    warnings += notes
    own_args = _own_args(chosen, cluster, spec["flags"], errors)
    errors += rendering.check_flags(config["args"], spec["flags"], f"recipe {recipe['name']}")
    own_env = chosen.get("muster_engine_env", {})
    errors += [
        f"{cluster}: muster_engine_env: {name!r} cannot name an environment variable"
        for name in inventory_vars.check_env_names(own_env)
    ]
    computed = [name for names in _computed_env(recipe).values() for name in names]
    errors += [
        f"{cluster}: muster_engine_env: {name} is what the plan computes for each node"
        for name in own_env
        if name in computed
    ]
    # How many ranks there are decides whether some rules hold, so it comes first.
    ranks = own_args.get("data-parallel-size", recipe["parallelism"]["data"])
    ranks = ranks if isinstance(ranks, int) else 1
    rules = spec.get("rules", [])
    config, changes = rendering.apply_rules(config, rules, version, ranks)
    merged = {
        "args": without_nulls(overlay(config["args"], own_args)),
        "env": without_nulls(overlay(config["env"], own_env)),
    }
    errors += [f"{cluster}: {text}" for text in rendering.refusals(merged, rules, version, ranks)]
    warnings += rendering.unknown_flags(merged["args"], spec["flags"])
    sizes = {}
    for kind, flag in rendering.PARALLEL_FLAGS.items():
        sizes[kind] = merged["args"].pop(flag, recipe["parallelism"].get(kind, 1))
        if not isinstance(sizes[kind], int) or not 1 <= sizes[kind] <= 4096:
            errors.append(f"{cluster}: {flag} has to be 1 or more")
    install = chosen.get("muster_install", spec["installs"][0])
    if install not in spec["installs"]:
        errors.append(
            f"{cluster}: muster_install: {recipe['name']} has no {install} install, only "
            f"{', '.join(spec['installs'])}"
        )
    model, found = _model(recipe, chosen, cluster, wrong)
    errors += found
    if errors:
        return None, errors
    image, _, digest = str(
        chosen.get("muster_image") or spec["image"].replace("{version}", version)
    ).partition("@")
    if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return None, [f"{cluster}: muster_image: {digest!r} is no digest, sha256: and 64 digits"]
    return (
        Engine(
            version=version,
            image=image,
            digest=digest or spec.get("digest"),
            args=merged["args"],
            env=merged["env"],
            tensor=sizes["tensor"],
            data=sizes["data"],
            prefill=sizes["prefill_context"],
            model=model,
            features=features,
            warnings=warnings,
            changes=changes,
        ),
        [],
    )


def _own_args(
    chosen: Mapping[str, Any], cluster: str, types: Mapping[str, str], errors: list[str]
) -> dict[str, Any]:
    """Return the inventory's flags; those that are wrong become errors and are left out."""
    where = f"{cluster}: muster_engine_args"
    try:
        args = normalise_args(chosen.get("muster_engine_args", {}), where)
    except PlanError as error:
        errors += error.messages
        return {}
    errors += rendering.check_flags(args, types, where)
    return args


def _layers(
    recipe: Mapping[str, Any], chosen: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the recipe's flags and environment with its switches set, features, warnings."""
    args = dict(recipe["args"])
    env = dict(recipe["env"])
    features = list(recipe["features"])
    warnings = []
    switches = recipe["engine"].get("switches", {})
    tools = switches.get("tool_calling")
    if tools and chosen.get("muster_tool_calling", tools.get("default", False)):
        args = overlay(args, tools.get("args", {}))
        features += tools.get("features", [])
    parser = chosen.get("muster_reasoning_parser")
    if parser is not None:
        args["reasoning-parser"] = parser or None
    profiles = chosen.get("muster_profiler_dir")
    if profiles and "profiler" in switches:
        args = overlay(args, _filled(switches["profiler"].get("args", {}), profiles))
    source = chosen.get("muster_model_source", "local")
    if source == "modelscope":
        env["VLLM_USE_MODELSCOPE"] = "True"
    if "speculative" in recipe:
        draft = chosen.get("muster_draft_model_path")
        if draft:
            args["speculative-config"] = {**recipe["speculative"], "model": draft}
        else:
            warnings.append(
                "speculative decoding is off: muster_draft_model_path does not say where its "
                "draft weights are"
            )
    return {"args": args, "env": env}, features, warnings


def _filled(value: Any, profiles: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, profiles) for key, item in value.items()}
    return value.replace("{profiler_dir}", profiles) if isinstance(value, str) else value


def _model(
    recipe: Mapping[str, Any], chosen: Mapping[str, Any], cluster: str, wrong: set[str]
) -> tuple[str, list[str]]:
    source = chosen.get("muster_model_source", "local")
    if source == "local":
        path = chosen.get("muster_model_path")
        if path is None and "muster_model_path" not in wrong:
            return "", [
                f"{cluster}: muster_model_path is not set: name the folder on the nodes that "
                f"holds {recipe['model']['id']}"
            ]
        return path or "", []
    name = recipe["model"]["sources"].get(source)
    if not name:
        return "", [f"{cluster}: muster_model_source: {recipe['model']['id']} is not on {source}"]
    return name, []


def _served_name(recipe: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    return str(chosen.get("muster_served_model_name", recipe["served_model_name"]))


def _computed_env(recipe: Mapping[str, Any]) -> dict[str, list[str]]:
    names = dict(recipe["platform"]["env"])
    base = names.pop("hccl_base_port", None)
    return {**names, "hccl_base_port": [base] if base else []}


def _nodes(
    recipe: Mapping[str, Any], settings: Mapping[str, inventory_vars.Settings], view: View
) -> tuple[list[Node], list[str]]:
    """Return the cluster's nodes, in inventory order."""
    nodes = []
    errors = []
    seen: dict[str, str] = {}
    total = recipe["platform"]["devices_per_node"]
    for host, (values, wrong, _) in settings.items():
        address = values.get("muster_address")
        if address is None and "muster_address" not in wrong:
            address = _ip_or_none(view["hostvars"].get(host, {}).get("ansible_host"))
            if address is None:
                errors.append(
                    f"{host}: muster_address is not set and ansible_host is not an IP address: "
                    "set muster_address to the node's IP on the cluster network"
                )
        interface = values.get("muster_interface", "")
        if recipe["nodes"] > 1 and not interface and "muster_interface" not in wrong:
            errors.append(
                f"{host}: muster_interface is not set: a replica of {recipe['nodes']} nodes needs "
                "the name of the NIC that holds muster_address (see `ip -br addr`)"
            )
        if address is not None:
            if address in seen:
                errors.append(
                    f"{host}: has the address {address}, and so has {seen[address]}: every node "
                    "of a cluster needs its own"
                )
            seen[address] = host
        devices = values.get("muster_devices", list(range(total)))
        if (
            not devices
            or sorted(set(devices)) != sorted(devices)
            or not all(0 <= device < total for device in devices)
        ):
            errors.append(
                f"{host}: muster_devices has to name different devices of 0 to {total - 1}, not "
                f"{devices}"
            )
        nodes.append(
            Node(
                host=host,
                machine=values.get("muster_node", host),
                address=address or "",
                interface=interface,
                devices=sorted(devices),
            )
        )
    return nodes, errors


def _ip_or_none(value: Any) -> str | None:
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _ports(recipe: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ports of a head; a follower has those of HCCL alone."""
    ports: dict[str, Any] = {"api": chosen.get("muster_port", recipe["ports"]["api"])}
    if recipe["nodes"] > 1:
        ports["dp_rpc"] = chosen.get("muster_dp_rpc_port", recipe["ports"].get("dp_rpc", 29550))
    count = recipe["platform"].get("hccl_ports")
    if count:
        base = chosen.get("muster_hccl_base_port", HCCL_BASE_PORT)
        ports["hccl"] = f"{base}-{base + count - 1}"
    return ports


def port_range(port: Any) -> range:
    """Return the ports that a number or a FIRST-LAST stands for."""
    first, _, last = str(port).partition("-")
    return range(int(first), int(last or first) + 1)


def _port_errors(ports: Mapping[str, Any], cluster: str) -> list[str]:
    errors = []
    settings = {
        "api": "muster_port",
        "dp_rpc": "muster_dp_rpc_port",
        "hccl": "muster_hccl_base_port",
    }
    taken: dict[int, str] = {}
    for name, value in ports.items():
        if port_range(value)[-1] > 65535:
            errors.append(f"{cluster}: {settings[name]}: the ports {value} end beyond 65535")
        clash = next((taken[port] for port in port_range(value) if port in taken), None)
        if clash:
            errors.append(
                f"{cluster}: the ports {name} ({value}) and {clash} ({ports[clash]}) overlap: "
                f"change {settings[name]} or {settings[clash]}"
            )
        taken.update(dict.fromkeys(port_range(value), name))
    return errors


def _host_tuning(
    recipe: Mapping[str, Any], chosen: Mapping[str, Any], ports: Mapping[str, Any], cluster: str
) -> tuple[dict[str, Any], list[str]]:
    own = chosen.get("muster_host_tuning", {})
    where = f"{cluster}: muster_host_tuning"
    errors = [
        f"{where}.{key} is unknown: {nearest(key, inventory_vars.HOST_TUNING)}"
        for key in own
        if key not in inventory_vars.HOST_TUNING
    ]
    base = {**recipe["host_tuning"], "reserved_ports": [ports["hccl"]] if "hccl" in ports else []}
    tuning = overlay(base, {key: value for key, value in own.items() if key in base})
    governor, cost = tuning["cpu_governor"], tuning["sched_migration_cost_ns"]
    if governor is not None and not (
        isinstance(governor, str) and re.fullmatch(r"[a-z_]{1,32}", governor)
    ):
        errors.append(f"{where}.cpu_governor has to be a governor's name or null")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int) or cost < 0):
        errors.append(f"{where}.sched_migration_cost_ns has to be a whole number or null")
    tuning["sysctl"] = sysctl = without_nulls(tuning["sysctl"] if tuning["sysctl"] else {})
    if not isinstance(sysctl, dict) or not all(
        isinstance(name, str)
        and re.fullmatch(r"[a-z0-9_.-]+", name)
        and isinstance(value, (int, str))
        and not isinstance(value, bool)
        and not re.search(r"[\x00-\x1f\x7f]", str(value))
        for name, value in sysctl.items()
    ):
        errors.append(f"{where}.sysctl has to be a map of names to numbers or text, or null")
    tuning["reserved_ports"] = reserved = tuning["reserved_ports"] or []
    if not inventory_vars.check_port_ranges(reserved):
        errors.append(f"{where}.reserved_ports has to be a list of FIRST-LAST, or null")
    return tuning, errors


def _device_errors(
    recipe: Mapping[str, Any], engine: Engine, nodes: Sequence[Node], idle: bool
) -> list[str]:
    """Compare what the ranks need with the devices that the nodes give."""
    size = recipe["nodes"]
    group = engine.tensor * engine.prefill
    sizes = f"tensor-parallel-size {engine.tensor}"
    if engine.prefill > 1:
        sizes += f" x prefill-context-parallel-size {engine.prefill}"
    if engine.data % size:
        return [
            f"{recipe['name']}: data-parallel-size {engine.data} cannot be dealt to the {size} "
            f"nodes of a replica: make it a multiple of {size}"
        ]
    local = engine.data // size
    errors = []
    for node in nodes:
        have = len(node.devices)
        if group > have:
            errors.append(
                f"{node.host}: {sizes} takes {group} devices and the node gives {have}: tensor "
                f"parallelism does not cross nodes; lower it to {have} or less and raise "
                "data-parallel-size"
            )
        elif group * local > have or (group * local < have and not idle):
            remedy = (
                "change muster_engine_args or muster_devices"
                if group * local > have
                else "change muster_engine_args, name fewer muster_devices, or set "
                "muster_idle_devices: true"
            )
            errors.append(
                f"{node.host}: {sizes} x {local} local ranks (data-parallel-size {engine.data} "
                f"over {size} nodes) takes {group * local} devices and the node gives {have}: "
                f"{remedy}"
            )
    return errors


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _unit(
    recipe: Mapping[str, Any],
    chosen: Mapping[str, Any],
    engine: Engine,
    ports: Mapping[str, Any],
    cluster: str,
    index: int,
    replica: Sequence[Node],
    position: int,
) -> dict[str, Any]:
    """Return one engine process: the node at a position of a replica."""
    node, head = replica[position], replica[0]
    local = engine.data // len(replica)
    ranks = list(range(position * local, (position + 1) * local))
    role = "single" if len(replica) == 1 else "follower" if position else "head"
    name = f"{cluster}-r{index}-rank{ranks[0]}"
    container = dict(recipe["container"])
    container["privileged"] = chosen.get("muster_privileged", container["privileged"])
    platform = recipe["platform"]
    image = f"{engine.image}@{engine.digest}" if engine.digest else engine.image
    secrets = {}
    if role != "follower" and "muster_api_key_file" in chosen:
        secrets[recipe["engine"]["api_key_env"]] = chosen["muster_api_key_file"]
    return {
        "name": name,
        "host": node.host,
        "replica": index,
        "role": role,
        "ranks": ranks,
        "devices": node.devices,
        "device_nodes": [
            *(platform["device_node"].replace("{device}", str(d)) for d in node.devices),
            *platform["manager_nodes"],
        ],
        "mounts": _mounts(recipe, chosen, name),
        "env": _env(recipe, engine, node, ports, bool(container["privileged"]), len(replica) > 1),
        "argv": _argv(recipe, chosen, engine, ports, node, head, ranks, len(replica)),
        "ports": {k: v for k, v in ports.items() if role != "follower" or k == "hccl"},
        "image": image,
        "install": chosen.get("muster_install", recipe["engine"]["installs"][0]),
        "container": container,
        "start_timeout_s": recipe["start_timeout_s"],
        "restart": recipe["restart"],
        "secret_files": secrets,
        "systemd_unit": f"muster-{name}.service",
        "node": node.machine,
        "address": node.address,
        "interface": node.interface,
    }


def _argv(
    recipe: Mapping[str, Any],
    chosen: Mapping[str, Any],
    engine: Engine,
    ports: Mapping[str, Any],
    node: Node,
    head: Node,
    ranks: list[int],
    size: int,
) -> list[str]:
    flags: dict[str, Any] = {
        "served-model-name": _served_name(recipe, chosen),
        "host": node.address,
        "port": ports["api"],
    }
    if node is not head:
        flags["headless"] = True
    flags["tensor-parallel-size"] = engine.tensor
    flags["data-parallel-size"] = engine.data
    if engine.prefill > 1:
        flags["prefill-context-parallel-size"] = engine.prefill
    if size > 1:
        flags["data-parallel-size-local"] = len(ranks)
        # A head that names its start rank becomes another kind of balancer from vLLM 0.28 on.
        if node is not head:
            flags["data-parallel-start-rank"] = ranks[0]
        flags["data-parallel-address"] = head.address
        flags["data-parallel-rpc-port"] = ports["dp_rpc"]
    return [
        *recipe["engine"]["command"],
        engine.model,
        *rendering.render_flags({**flags, **engine.args}),
    ]


def _env(
    recipe: Mapping[str, Any],
    engine: Engine,
    node: Node,
    ports: Mapping[str, Any],
    privileged: bool,
    several: bool,
) -> dict[str, str]:
    names = _computed_env(recipe)
    # A container that is given some devices numbers them from 0; a privileged one sees them all.
    visible = node.devices if privileged else range(len(node.devices))
    values = {"devices": ",".join(map(str, visible))}
    if several:
        values["address"] = node.address
        values["interface"] = node.interface
    if "hccl" in ports and port_range(ports["hccl"])[0] != HCCL_BASE_PORT:
        values["hccl_base_port"] = str(port_range(ports["hccl"])[0])
    computed = {env: value for kind, value in values.items() for env in names.get(kind, [])}
    return {**engine.env, **computed}


def _mounts(recipe: Mapping[str, Any], chosen: Mapping[str, Any], unit: str) -> list[str]:
    mounts = [mount.replace("{unit}", unit) for mount in recipe["mounts"]]
    if chosen.get("muster_model_source", "local") == "local":
        path = chosen["muster_model_path"]
        mounts.append(f"{path}:{path}:ro")
    if "speculative" in recipe and "muster_draft_model_path" in chosen:
        draft = chosen["muster_draft_model_path"]
        mounts.append(f"{draft}:{draft}:ro")
    if "muster_profiler_dir" in chosen:
        profiles = chosen["muster_profiler_dir"]
        mounts.append(f"{profiles}:{profiles}")
    return list(dict.fromkeys([*mounts, *chosen.get("muster_extra_mounts", [])]))


def machine_conflicts(plans: Sequence[Plan]) -> list[str]:
    """Return an error for each device or port of a machine that two deployments claim."""
    errors = []
    claims: dict[str, list[Mapping[str, Any]]] = {}
    for plan in plans:
        for unit in plan["units"]:
            claims.setdefault(unit["node"], []).append(unit)
    for machine, units in claims.items():
        for i, one in enumerate(units):
            for other in units[i + 1 :]:
                both = f"{one['host']} and {other['host']} are both on machine {machine}"
                devices = sorted(set(one["devices"]) & set(other["devices"]))
                if devices:
                    errors.append(
                        f"{both} and claim the devices {', '.join(map(str, devices))}: give each "
                        "its own muster_devices"
                    )
                for name, port in one["ports"].items():
                    for other_name, other_port in other["ports"].items():
                        if set(port_range(port)) & set(port_range(other_port)):
                            errors.append(
                                f"{both} and claim a port: {name} ({port}) and {other_name} "
                                f"({other_port}); set muster_port, muster_dp_rpc_port or "
                                "muster_hccl_base_port of one"
                            )
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
                "units": [unit["systemd_unit"] for unit in own],
            }
    return needs


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def table(plan: Plan) -> str:
    """Return a plan as an operator reads it."""
    engine, endpoint = plan["engine"], plan["endpoint"]
    title = f"{plan['deployment']}: {plan['recipe']} ({plan['variant']})"
    digest = f"@{engine['digest']}" if engine["digest"] else ""
    lines = [
        title,
        f"  engine    {engine['name']} {engine['version']}, {engine['image']}{digest}",
        f"  endpoint  {endpoint['url']} as {endpoint['model']} ({', '.join(endpoint['features'])})",
        f"  evidence  {plan['evidence']['level']}",
        "",
    ]
    rows = [("unit", "host", "role", "ranks", "devices", "address", "ports")]
    for unit in plan["units"]:
        rows.append(
            (
                unit["name"],
                unit["host"],
                unit["role"],
                _numbers(unit["ranks"]),
                _numbers(unit["devices"]),
                " ".join(filter(None, (unit["address"], unit["interface"]))),
                " ".join(f"{name}={port}" for name, port in unit["ports"].items()),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]
    lines += [
        f"  note      {change['what']} {change['action']}: {change['reason']}"
        for change in engine["changes"]
    ]
    lines += [f"  warning   {warning}" for warning in plan["warnings"]]
    return "\n".join(lines)


def _numbers(numbers: Sequence[int]) -> str:
    """Write 0, 1, 2, 5 as 0-2,5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
