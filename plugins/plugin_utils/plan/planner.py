# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: a pure function of recipes and an inventory."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import (
    addresses,
    contexts,
    effects,
    memory,
    versions,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.driver import driver_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.engine import (
    Engine,
    Recipe,
    build_engine,
    served_name,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.gateway import (
    IMAGE,
    LEAST_OUTSTANDING,
    Backend,
    Floating,
    GatewayHost,
    Tls,
    gateway_units,
    gateway_url,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import (
    Deployment,
    View,
    find_clusters,
    hosts_text,
    machines,
    read_deployment,
    recipe_of,
    said_by,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.placement import (
    PORT_SETTINGS,
    Node,
    Shape,
    dealt,
    device_errors,
    nodes_of,
    ports_of,
    shape_of,
    slots_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import (
    overlay,
    without_nulls,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.units import (
    STALL_PATIENCE_S,
    engine_unit,
    links_of,
)

SCHEMA = 1
# From here on the kernel gives ports to connections that go out, unless they are reserved.
FIRST_EPHEMERAL_PORT = 32768
# VRRP's number for one floating address; two clusters of one network need different ones.
ROUTER_ID = 51
Plan = dict[str, Any]
# Recipe, variant and folders of own recipes to a whole recipe.
Load = Callable[[str, "str | None", Sequence[str]], Recipe]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
# What a file or folder on the controller can be called.
_HOST = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f]{1,200}")


class Verb(NamedTuple):
    """What the operator asked for.

    Fields:
        name: As messages name it.
        changes: Whether it changes nodes; then it takes one cluster, in whole replicas.
        one_cluster: Whether it takes the hosts of one cluster alone.
    """

    name: str = "plan"
    changes: bool = False
    one_cluster: bool = False


def plan_clusters(
    view: View, limited: Iterable[str], verb: Verb, load: Load, release: str
) -> dict[str, Plan]:
    """Return the plans of all clusters that a verb's hosts belong to.

    Args:
        view: The whole inventory.
        limited: The hosts that the verb is limited to.
        verb: What the operator asked for.
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
    alone = verb.changes or verb.one_cluster
    if alone and len(touched) > 1:
        raise PlanError(
            [f"{verb.name} takes one cluster: choose one of {', '.join(touched)} with -l"]
        )
    plans = {}
    errors: list[str] = []
    busy = machines(view, hosts)
    for name, members in found.members.items():
        # A deployment that shares a machine counts, even outside the limit.
        if name not in touched and not busy & machines(view, members):
            continue
        try:
            plans[name] = build_plan(_loaded(load, view, name), view, name, release)
        except PlanError as error:
            errors += error.messages
        except (versions.VersionError, re.error) as error:
            # Ranges and patterns stand in recipes alone.
            errors.append(f"{name}: recipe {recipe_of(view, name)[0]}: {error}")
    errors += machine_conflicts(list(plans.values())) + _floating_conflicts(list(plans.values()))
    outside = [host for host in limited if host not in hosts]
    if alone and outside:
        why = "changes nodes" if verb.changes else "takes one cluster"
        errors.append(
            f"{hosts_text(outside)}: no part of {touched[0]}, and {verb.name} {why}: choose "
            f"the cluster with -l {touched[0]}"
        )
    if verb.changes:
        for name in touched:
            errors += limit_errors(plans[name], limited, verb.name) if name in plans else []
    if errors:
        raise PlanError(errors)
    return {name: plans[name] for name in touched}


def _loaded(load: Load, view: View, cluster: str) -> Recipe:
    """Return the recipe of a cluster.

    Raises:
        PlanError: The cluster has none, or it cannot be read.
    """
    wanted = recipe_of(view, cluster)
    try:
        return load(*wanted)
    except PlanError as error:
        raise PlanError(f"{cluster}: {message}" for message in error.messages) from None


def build_plan(recipe: Recipe, view: View, cluster: str, release: str) -> Plan:
    """Return the plan of one cluster.

    Raises:
        PlanError: Whatever is wrong, all at once.
    """
    deployment, errors = read_deployment(view, cluster)
    if not _NAME.fullmatch(cluster):
        errors.append(
            f"inventory group {cluster!r} cannot name units: use letters, digits, dots, hyphens "
            "and underscores, 100 at most, the first a letter or digit"
        )
    errors += [
        f"{host!r} cannot name a node, since files on the controller are called after it: use no "
        "slash or control character, and 200 characters at most"
        for host in deployment.hosts
        if not _HOST.fullmatch(host)
    ]
    engine, found = build_engine(recipe, deployment)
    errors += found
    nodes, found = nodes_of(recipe, deployment)
    errors += found
    if not engine:
        raise PlanError(errors)
    shape, found = shape_of(recipe, deployment, engine)
    errors += found
    if not found:
        errors += device_errors(deployment, engine, shape, nodes)
    need, found = _memory(recipe, deployment, engine)
    errors += found + _gateway_errors(deployment, nodes) + _firewall_errors(deployment, nodes)
    if errors:
        raise PlanError(errors)

    told = effects.warnings(
        deployment.settings,
        recipe,
        install=engine.install,
        ranks=engine.data,
        nodes=shape.nodes,
    )
    replicas, _found = dealt(deployment, nodes, shape.nodes)
    units = [
        engine_unit(recipe, deployment, engine, shape, index, replica[0], slot)
        for index, replica in replicas.items()
        for slot in slots_of(recipe, engine, shape, replica)
    ]
    gateway, gateways = _gateway(recipe, deployment, shape, nodes, units)
    urls = [unit["api_url"] for unit in units if unit["api_url"]]
    driver = driver_of(recipe, engine)
    known_answers = deployment.settings.get("muster_known_answers", True)
    asked = recipe.get("verify", {})
    verify = asked if known_answers else {}
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
            "derived": engine.derived,
            "venv": engine.venv,
            "holds_for": recipe["engine"]["holds_for"],
            "changes": engine.changes,
            "memory_utilization": _utilization(recipe, engine),
            "rank_devices": engine.group,
            "compiler": _compiler(recipe, engine),
        },
        "model": {
            "id": recipe["model"]["id"],
            "architecture": recipe["model"].get("architecture"),
            "source": deployment.settings.get("muster_model_source", "local"),
            "path": engine.model_path,
            "draft_path": engine.draft_path,
            # Weights of another size are not the recipe's, and may be of any format.
            "format": None
            if "muster_weights_gb" in deployment.settings
            else recipe["model"]["format"],
            "size_gb": recipe["model"]["size_gb"],
        },
        "platform": {
            **{
                key: recipe["platform"][key]
                for key in ("name", "title", "vendor", "devices_per_node")
            },
            "device_names": recipe["platform"].get("device_names", []),
            "fabric_manager": recipe["platform"].get("fabric_manager", False),
            "min_driver": driver["floors"][0]["floor"] if driver and driver["floors"] else None,
            "min_cann": _min_cann(recipe, engine),
        },
        "driver": driver,
        "memory": need,
        "endpoint": {
            "url": gateway["url"] if gateway else urls[0],
            "model": served_name(recipe, deployment),
            "backends": urls,
            "features": engine.features,
        },
        "gateway": gateway,
        "verify": {
            "known_answers": verify.get("known_answers"),
            "max_repetition": verify.get("max_repetition"),
            "soak_s": deployment.settings.get("muster_verify_soak_s", asked.get("soak_s", 0)),
        },
        "bench": _bench(recipe, engine, need),
        "host_tuning": _host_tuning(recipe, deployment, shape),
        "firewall": _firewall(deployment),
        "preflight": {
            "weights_hashes": deployment.settings.get("muster_weights_hashes", False),
            "npu_ping": deployment.settings.get("muster_npu_ping", "sampled"),
        },
        "restart": deployment.settings.get("muster_restart", "now"),
        "redeal": deployment.settings.get("muster_redeal", False),
        "warnings": [*engine.warnings, *told, *_address_warnings(nodes)],
        "replicas": [
            {
                "index": index,
                "hosts": [node.host for node in replica],
                "head": replica[0].host,
                "url": next(unit["api_url"] for unit in units if unit["replica"] == index),
                "ranks": list(range(engine.data)),
            }
            for index, replica in replicas.items()
        ],
        "units": [*units, *gateways],
        "links": links_of(
            cluster,
            units,
            served_name(recipe, deployment),
            deployment.settings.get("muster_stall_patience_s", STALL_PATIENCE_S),
        ),
    }


def _min_cann(recipe: Recipe, engine: Engine) -> str | None:
    """Return the oldest CANN for this version of the engine, None where none is known."""
    known: dict[str, str] = recipe["platform"].get("min_cann", {})
    fitting = (cann for range_, cann in known.items() if versions.matches(engine.version, range_))
    return next(fitting, None)


def _bench(recipe: Recipe, engine: Engine, need: Mapping[str, Any]) -> dict[str, Any]:
    """Return what bench measures against, and what bounds the load that can be put on a replica."""
    dialect, sizes = engine.dialect, recipe["parallelism"]
    at_once = engine.args.get(dialect.at_once)
    off, value = dialect.no_prefix_cache
    auto = engine.context.asked == contexts.AUTO
    return {
        "context": need["max_context"] if auto else engine.context.longest,
        "context_limit": engine.context.limit,
        # Of a rank; null where the engine decides.
        "max_num_seqs": at_once if isinstance(at_once, int) else None,
        "prefix_caching": engine.args.get(off) is not value,
        "sizes": {
            "tensor": engine.tensor,
            "data": engine.data,
            "prefill_context": engine.prefill,
        },
        "recipe_sizes": {
            name: sizes.get(name, 1) for name in ("tensor", "data", "prefill_context")
        },
        "figures": recipe.get("figures", []),
        "sampling": recipe["model"].get("sampling", {}),
    }


def _utilization(recipe: Recipe, engine: Engine) -> float:
    """Return the share of a device's memory that the engine takes, its version's own if unsaid."""
    asked = engine.args.get(engine.dialect.utilization)
    if isinstance(asked, (int, float)):
        return asked
    defaults: dict[str, str] = recipe["engine"]["utilizations"]
    fitting = (
        share for share, range_ in defaults.items() if versions.holds(engine.version, range_)
    )
    return float(next(fitting))


def _compiler(recipe: Recipe, engine: Engine) -> str | None:
    """Return whether the engine compiles kernels on its node: required, used, or None for no."""
    spec = recipe["engine"].get("venv", {}).get("compiler") if engine.venv else None
    if not spec:
        return None
    spared = any(engine.env.get(name) == value for name, value in spec["unless_env"].items())
    required = versions.holds(engine.version, spec["required"]) and not spared
    return "required" if required else "used"


def _memory(
    recipe: Recipe, deployment: Deployment, engine: Engine
) -> tuple[dict[str, Any], list[str]]:
    """Return what one rank's devices hold, and what does not fit."""
    said, platform, model = deployment.settings, recipe["platform"], recipe["model"]
    if "muster_weights_gb" in said:
        model = {**model, "memory_gb": said["muster_weights_gb"]}
    device = said.get("muster_device_memory_gb", platform["device_memory_gb"])
    # Who says the size of the cache knows how much a token takes.
    sized = engine.dialect.cache_size in engine.args
    alone = sized and engine.dialect.cache_size_alone
    offloaded = engine.args.get("cpu-offload-gb", 0)
    need = memory.fit(
        model,
        device_gb=device,
        reserve_gb=platform["reserve_gb"],
        utilization=1 if alone else _utilization(recipe, engine),
        sizes={
            "tensor": engine.tensor,
            "data": engine.data,
            "prefill_context": engine.prefill,
        },
        experts_shared=engine.experts_shared,
        cache_type=engine.args.get("kv-cache-dtype"),
        offloaded_gb=offloaded if isinstance(offloaded, (int, float)) else 0,
    )
    errors = [
        f"{deployment.cluster}: {text}"
        for text in memory.misfits(
            need,
            engine.context._replace(asked=contexts.AUTO) if sized else engine.context,
            engine.dialect.context,
            engine.sizes_text,
            said_by(said, "muster_device_memory_gb", "muster_weights_gb", "muster_replica_nodes"),
        )
    ]
    return {
        "device_gb": device,
        "rank_gb": round(need.available, 1),
        "weights_gb": round(need.weights, 1),
        "cache_gb": round(need.cache, 1),
        "cache_tokens": need.tokens,
        "max_context": min(need.tokens, engine.context.limit),
    }, errors


def _address_warnings(nodes: Sequence[Node]) -> list[str]:
    return [
        f"{node.host}: the address {node.address} is the node's own loopback: nobody but the node "
        "itself reaches the API (muster_address)"
        for node in nodes
        if addresses.is_loopback(node.address)
    ]


def _gateway_errors(deployment: Deployment, nodes: Sequence[Node]) -> list[str]:
    said, cluster = deployment.settings, deployment.cluster
    hosts = said.get("muster_gateway_hosts", [])
    known = [node.host for node in nodes]
    errors = [
        f"{cluster}: muster_gateway_hosts names {host!r}, which is no host of the cluster"
        for host in hosts
        if host not in known
    ]
    if len(set(hosts)) != len(hosts):
        errors.append(f"{cluster}: muster_gateway_hosts names a host twice")
    if "muster_gateway_address" in said:
        errors += _floating_errors(said["muster_gateway_address"], cluster, hosts, nodes)
    return errors


def _floating_errors(
    floating: str, cluster: str, hosts: Sequence[str], nodes: Sequence[Node]
) -> list[str]:
    what = f"{cluster}: muster_gateway_address {floating}"
    if addresses.is_loopback(floating):
        return [f"{what} is a loopback: take a free address of the cluster network"]
    family = addresses.family(floating)
    placed = [node for node in nodes if node.address]
    return [
        f"{what} is a node's own address ({node.host}): take a free one of the same network"
        for node in placed
        if node.address == floating
    ] + [
        f"{what} is {family}, and {node.host} has {node.address}: take one of the same network"
        for node in placed
        if node.host in hosts and addresses.family(node.address) != family
    ]


def _gateway(
    recipe: Recipe,
    deployment: Deployment,
    shape: Shape,
    nodes: Sequence[Node],
    units: Sequence[Any],
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the gateway in front of all APIs, and its units."""
    said = deployment.settings
    hosts = said.get("muster_gateway_hosts", [])
    if not hosts:
        return None, []
    by_host = {node.host: node for node in nodes}
    chosen = [by_host[host] for host in hosts]
    floating = None
    if "muster_gateway_address" in said:
        router = said.get("muster_gateway_router_id", ROUTER_ID)
        floating = Floating(said["muster_gateway_address"], router)
    balance = said.get("muster_gateway_balance", LEAST_OUTSTANDING)
    tls = Tls(**said["muster_gateway_tls"]) if "muster_gateway_tls" in said else None
    gateways = gateway_units(
        cluster=deployment.cluster,
        hosts=[GatewayHost(n.host, n.machine, n.address, n.interface) for n in chosen],
        port=shape.ports["gateway"],
        backends=[
            Backend(unit["name"], unit["address"], unit["ports"]["api"])
            for unit in units
            if unit["api_url"]
        ],
        model=served_name(recipe, deployment),
        balance=balance,
        api_key_file=said.get("muster_api_key_file"),
        image=said.get("muster_gateway_image", IMAGE),
        floating=floating,
        team_keys="muster_gateway_keys" in said,
        tls=tls,
    )
    address = floating.address if floating else chosen[0].address
    called = tls.name if tls and tls.name else address
    return {
        "hosts": list(hosts),
        "url": gateway_url(called, shape.ports["gateway"], tls) + "/v1",
        "address": address,
        "port": shape.ports["gateway"],
        "balance": balance,
        "image": gateways[0]["image"],
        "floating": floating._asdict() if floating else None,
        "team_keys": "muster_gateway_keys" in said,
        "tls": tls._asdict() if tls else None,
    }, gateways


def _host_tuning(recipe: Recipe, deployment: Deployment, shape: Shape) -> dict[str, Any]:
    reserved = [
        port if "-" in str(port) else f"{port}-{port}"
        for kind, port in shape.ports.items()
        if kind == "hccl" or ports_of(port)[-1] >= FIRST_EPHEMERAL_PORT
    ]
    base = {**recipe["host_tuning"], "reserved_ports": reserved}
    tuning = overlay(base, deployment.settings.get("muster_host_tuning", {}))
    tuning["sysctl"] = without_nulls(tuning["sysctl"] or {})
    tuning["reserved_ports"] = tuning["reserved_ports"] or []
    return tuning


def _firewall(deployment: Deployment) -> dict[str, Any] | None:
    """Return what closes the nodes, None where nothing does."""
    said: dict[str, Any] = deployment.settings.get("muster_firewall", {"enabled": False})
    return {name: item for name, item in said.items() if name != "enabled"} or None


def _firewall_errors(deployment: Deployment, nodes: Sequence[Node]) -> list[str]:
    """Return which nodes the others would be closed to, since their addresses are not known."""
    if not _firewall(deployment) or len(nodes) < 2:
        return []
    return [
        f"{node.host}: its address {node.address} is a loopback, so muster_firewall would close "
        "the other nodes to it: set muster_address"
        for node in nodes
        if node.address and addresses.is_loopback(node.address)
    ]


def machine_conflicts(plans: Sequence[Plan]) -> list[str]:
    """Return an error for each device or port of a machine that two units claim.

    Inventory names are one machine when they have the same muster_node, or one address.
    """
    errors = []
    units = [unit for plan in plans for unit in plan["units"]]
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for unit in units:
        places.setdefault(("machine", unit["node"]), []).append(unit)
        if not addresses.is_loopback(unit["address"]):
            places.setdefault(("address", unit["address"]), []).append(unit)
    for (kind, place), here in places.items():
        for i, one in enumerate(here):
            for other in here[i + 1 :]:
                # Those of one machine have been compared as such.
                if kind == "machine" or one["node"] != other["node"]:
                    errors += _conflicts(one, other, kind, place)
    return errors


def _floating_conflicts(plans: Sequence[Plan]) -> list[str]:
    """Return an error for each floating address, or its number, that two clusters claim."""
    errors = []
    gateways = [
        (plan["deployment"], unit["node"], unit["floating"])
        for plan in plans
        for unit in plan["units"]
        if unit.get("floating")
    ]
    for name, address in dict.fromkeys((name, at["address"]) for name, _node, at in gateways):
        errors += [
            f"{name}: muster_gateway_address {address} is the address of {unit['host']} of "
            f"{plan['deployment']}: take a free one of the same network"
            for plan in plans
            for unit in plan["units"]
            if plan["deployment"] != name and unit["address"] == address
        ]
    for (name, node, one), (other_name, other_node, other) in itertools.combinations(gateways, 2):
        if name == other_name:
            continue
        if one["address"] == other["address"]:
            errors.append(
                f"{name} and {other_name} have the same muster_gateway_address {one['address']}: "
                "give each its own"
            )
        elif node == other_node and one["router_id"] == other["router_id"]:
            errors.append(
                f"{name} and {other_name} have gateways on one machine ({node}) and the same "
                f"muster_gateway_router_id {one['router_id']}: give each its own"
            )
    return errors


def _conflicts(
    one: Mapping[str, Any], other: Mapping[str, Any], kind: str, place: str
) -> list[str]:
    """Return what two units of one machine both claim."""
    both = f"{one['host']} and {other['host']} are one machine ({place})"
    apart = "; or correct muster_node"
    if kind == "address":
        both = f"{one['host']} and {other['host']} have one address ({place})"
        apart = "; or correct muster_address"
    named = " with the same muster_node" if kind == "address" else ""
    devices = sorted(set(one["devices"]) & set(other["devices"]))
    errors = []
    if devices:
        errors.append(
            f"{both} and both claim device {ranges_text(devices)}: give each its own "
            f"muster_devices{named}{apart}"
        )
    return errors + [
        f"{both} and both claim a port, {name} {port} and {other_name} {other_port}: "
        f"change {PORT_SETTINGS[name]} of one{apart}"
        for name, port in one["ports"].items()
        for other_name, other_port in other["ports"].items()
        if set(ports_of(port)) & set(ports_of(other_port))
    ]


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
    return errors + [
        f"{unit['host']}: {unit['address']} is an address reserved for documentation: {verb} "
        "changes nodes, so give it an inventory of your own (-i), or correct muster_address"
        for unit in plan["units"]
        if unit["host"] in limited and addresses.is_documentation(unit["address"])
    ]


def units_by_host(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Return a plan's units by the host that runs them."""
    units: dict[str, list[dict[str, Any]]] = {}
    for unit in plan["units"]:
        units.setdefault(unit["host"], []).append(unit)
    return units
