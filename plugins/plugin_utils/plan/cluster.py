# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one cluster: a pure function of its recipe and the inventory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
    read_deployment,
    said_by,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.placement import (
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
    Recipe,
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

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
# What a file or folder on the controller can be called.
_HOST = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f]{1,200}")


class _Fitted(NamedTuple):
    """What a cluster's plan is made of, once nothing is wrong with it.

    replicas has the nodes of each, by index. memory is what one rank's devices hold.
    """

    recipe: Recipe
    deployment: Deployment
    engine: Engine
    shape: Shape
    nodes: list[Node]
    replicas: Mapping[int, Sequence[Node]]
    memory: dict[str, Any]


def build_plan(recipe: Recipe, view: View, cluster: str, release: str) -> Plan:
    """Return the plan of one cluster.

    Raises:
        PlanError: Whatever is wrong, all at once.
    """
    fitted = _fitted(recipe, view, cluster)
    deployment, engine, said = fitted.deployment, fitted.engine, fitted.deployment.settings
    units = [
        engine_unit(recipe, deployment, engine, fitted.shape, index, replica[0], slot)
        for index, replica in fitted.replicas.items()
        for slot in slots_of(recipe, engine, fitted.shape, replica)
    ]
    gateway, gateways = _gateway(recipe, deployment, fitted.shape, fitted.nodes, units)
    urls = [unit["api_url"] for unit in units if unit["api_url"]]
    model = served_name(recipe, deployment)
    driver = driver_of(recipe, engine)
    return {
        "schema": SCHEMA,
        "muster": release,
        "deployment": cluster,
        "recipe": recipe["name"],
        "variant": recipe["variant"],
        "evidence": recipe["evidence"],
        "engine": _engine(recipe, engine),
        "model": _model(recipe, deployment, engine),
        "platform": _platform(recipe, engine, driver),
        "driver": driver,
        "memory": fitted.memory,
        "endpoint": {
            "url": gateway["url"] if gateway else urls[0],
            "model": model,
            "backends": urls,
            "features": engine.features,
        },
        "gateway": gateway,
        "verify": _verify(recipe, deployment),
        "bench": _bench(recipe, engine, fitted.memory),
        "host_tuning": _host_tuning(recipe, deployment, fitted.shape),
        "firewall": _firewall(deployment),
        "preflight": {
            "weights_hashes": said.get("muster_weights_hashes", False),
            "npu_ping": said.get("muster_npu_ping", "sampled"),
        },
        "restart": said.get("muster_restart", "now"),
        "redeal": said.get("muster_redeal", False),
        "warnings": _warnings(fitted),
        "replicas": _replicas(fitted, units),
        "units": [*units, *gateways],
        "links": links_of(
            cluster, units, model, said.get("muster_stall_patience_s", STALL_PATIENCE_S)
        ),
    }


def _fitted(recipe: Recipe, view: View, cluster: str) -> _Fitted:
    """Return what goes with each other of a recipe and a cluster.

    Raises:
        PlanError: Whatever does not, all at once.
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
    replicas, _found = dealt(deployment, nodes, shape.nodes)
    return _Fitted(recipe, deployment, engine, shape, nodes, replicas, need)


def _engine(recipe: Recipe, engine: Engine) -> dict[str, Any]:
    return {
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
    }


def _model(recipe: Recipe, deployment: Deployment, engine: Engine) -> dict[str, Any]:
    said, model = deployment.settings, recipe["model"]
    return {
        "id": model["id"],
        "architecture": model.get("architecture"),
        "source": said.get("muster_model_source", "local"),
        "path": engine.model_path,
        "draft_path": engine.draft_path,
        # Weights of another size are not the recipe's, and may be of any format.
        "format": None if "muster_weights_gb" in said else model["format"],
        "size_gb": model["size_gb"],
    }


def _platform(recipe: Recipe, engine: Engine, driver: Mapping[str, Any] | None) -> dict[str, Any]:
    platform = recipe["platform"]
    return {
        **{key: platform[key] for key in ("name", "title", "vendor", "devices_per_node")},
        "device_names": platform.get("device_names", []),
        "fabric_manager": platform.get("fabric_manager", False),
        "min_driver": driver["floors"][0]["floor"] if driver and driver["floors"] else None,
        "min_cann": _min_cann(recipe, engine),
    }


def _verify(recipe: Recipe, deployment: Deployment) -> dict[str, Any]:
    """Return what is asked of an endpoint besides an answer."""
    said, asked = deployment.settings, recipe.get("verify", {})
    known = asked if said.get("muster_known_answers", True) else {}
    return {
        "known_answers": known.get("known_answers"),
        "max_repetition": known.get("max_repetition"),
        "soak_s": said.get("muster_verify_soak_s", asked.get("soak_s", 0)),
    }


def _warnings(fitted: _Fitted) -> list[str]:
    engine = fitted.engine
    told = effects.warnings(
        fitted.deployment.settings,
        fitted.recipe,
        install=engine.install,
        ranks=engine.data,
        nodes=fitted.shape.nodes,
    )
    return [*engine.warnings, *told, *_address_warnings(fitted.nodes)]


def _replicas(fitted: _Fitted, units: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "hosts": [node.host for node in replica],
            "head": replica[0].host,
            "url": next(unit["api_url"] for unit in units if unit["replica"] == index),
            "ranks": list(range(fitted.engine.data)),
        }
        for index, replica in fitted.replicas.items()
    ]


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


def units_by_host(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Return a plan's units by the host that runs them."""
    units: dict[str, list[dict[str, Any]]] = {}
    for unit in plan["units"]:
        units.setdefault(unit["host"], []).append(unit)
    return units
