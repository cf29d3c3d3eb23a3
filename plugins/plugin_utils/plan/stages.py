# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of each stage's roles, from a plan: playbooks hand them on and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.units.names import replica_group
from ansible_collections.muster.serving.plugins.module_utils.units.verified import (
    digest,
    kept_part,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.cluster import Plan, units_by_host
from ansible_collections.muster.serving.plugins.plugin_utils.plan.gateway import (
    Tls,
    gateway_url,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.needs import (
    Needs,
    checks_of,
    needs_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.placement import unique

# The stages and verbs that write a report, each to a file of its name.
REPORTS = ("preflight", "prepare", "serve", "verify", "status")


def run_of(
    plan: Plan, limited: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what all hosts of a run have in common.

    Args:
        plan: The plan of one cluster.
        limited: The hosts of the run.
        hostvars: By host, its variables as plain values.

    Returns:
        output_dir: The folder on the controller for reports.
        reports: By stage, its file there; under verified_plan, that of the plan.
        authority: The file there by which clients check the gateway's certificate.
        hosts: The cluster's hosts in the run.
        replicas: The hosts of each replica.
        waivers: By host, its muster_waivers.
    """
    hosts = [host for replica in plan["replicas"] for host in replica["hosts"]]
    named = (hostvars.get(host, {}).get("muster_output_dir") for host in hosts)
    folder = next((str(one) for one in named if one), f"muster-output/{plan['deployment']}")
    return {
        "output_dir": folder,
        "reports": {
            **{stage: f"{folder}/{stage}.json" for stage in REPORTS},
            "verified_plan": f"{folder}/verified-plan.json",
        },
        "authority": f"{folder}/gateway.pem",
        "hosts": [host for host in hosts if host in limited],
        "replicas": [replica["hosts"] for replica in plan["replicas"]],
        "waivers": {host: hostvars.get(host, {}).get("muster_waivers") or [] for host in hosts},
    }


def stages_of(
    plan: Plan,
    limited: Sequence[str],
    weights_hashes: bool | None = None,
    docker: Mapping[str, Any] | None = None,
    team_keys: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return by host the options of each role, under the role's name; null where it has no part.

    Args:
        plan: The plan of one cluster.
        limited: The hosts of the run. One of each replica's asks its endpoint.
        weights_hashes: Whether all files of the weights are hashed; None for what the plan says.
        docker: How Docker reaches registries: the options of docker_config but for the proxy. None
            for a run that changes nothing; it need not know what it would change.
        team_keys: Digests of the keys that gateways ask for, with their teams; None for none.
    """
    needs = needs_of(plan)
    checks = checks_of(plan, needs, weights_hashes)
    units = units_by_host(plan)
    groups = _groups(plan)
    askers = {}
    for replica in plan["replicas"]:
        host = next((host for host in replica["hosts"] if host in limited), None)
        if host is not None:
            askers[host] = replica
    stages = {}
    for host, need in needs.items():
        own = units[host]
        stage = {
            "preflight": {"checks": checks[host], "peers": need["peers"]},
            "device_info": {"vendor": plan["platform"]["vendor"]},
            **_prepare(plan, need, own, docker or {}),
            "unit": {
                "deployment": plan["deployment"],
                "model": plan["endpoint"]["model"],
                "names": [unit["systemd_unit"] for unit in own],
                "units": own,
                "links": [link for link in plan["links"] if link["host"] == host],
                "weights": _weights(plan),
            },
            "firewall": _firewall(plan, host, own),
            "gateway": _gateway(own),
            "gateway_access": _gateway_access(own, team_keys),
            "verify": _verify(plan, host, own, groups, askers.get(host)),
            "part": _part(plan, own, groups),
            "takeover": _takeover(plan, need, own, checks[host]["port_check"]),
        }
        look = _certificate_look(stage) if docker is None else _look(plan, stage)
        stages[host] = {**stage, "look": look}
    return stages


def _groups(plan: Plan) -> dict[str, dict[str, list[Any]]]:
    """Return by group its replica, units and links, in the plan's order."""
    groups: dict[str, dict[str, list[Any]]] = {}
    for key in ("units", "links", "replicas"):
        for one in plan[key]:
            name = one["group"] if "group" in one else replica_group(one["index"])
            groups.setdefault(name, {"units": [], "links": [], "replicas": []})[key].append(one)
    return groups


def _look(plan: Plan, stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return what node_checks looks at to say whether the stages have anything to do on a host."""
    deployment = {"deployment": plan["deployment"]}
    kept = ("engine_image", "gateway_image", "engine_venv", "gateway_access")
    states = {name: stage[name] for name in kept}
    return {
        **{name: options for name, options in states.items() if options is not None},
        "host_tuning": {**stage["host_tuning"], **deployment},
        "firewall": {**stage["firewall"], **deployment},
        **({"docker": {**stage["docker"], **deployment}} if stage["docker"] is not None else {}),
        "unit": {
            **{key: stage["unit"][key] for key in ("deployment", "model", "units", "links")},
            "redeal": plan["redeal"],
            "engine": plan["engine"]["name"],
            "version": plan["engine"]["version"],
        },
        **(
            {"gateway": {**deployment, "floating": stage["gateway"]["floating"]}}
            if stage["gateway"]
            else {}
        ),
        "verified": {**deployment, "digest": digest(kept_part(stage["part"]))},
    }


def _certificate_look(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return what node_checks looks at for a run that changes nothing: a certificate may end."""
    access = stage["gateway_access"]
    if not (access and access["tls"]):
        return {}
    return {"gateway_access": {**access, "teams": None}}


def _prepare(
    plan: Plan, need: Needs, own: Sequence[Mapping[str, Any]], docker: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of the roles that make a host ready."""
    engine, model, gateway = plan["engine"], plan["model"], plan["gateway"]
    paths = _weights(plan)
    preloaded = (unit["env"].get("LD_PRELOAD", "") for unit in own)
    return {
        "host_tuning": plan["host_tuning"],
        "accelerator": {key: need[key] for key in ("device_nodes", "mounts", "container_gpus")},
        "docker": docker if need["images"] else None,
        "engine_image": {
            "image": engine["image"],
            "digest": engine["digest"],
            "derived": engine["derived"],
            "min_cann": plan["platform"]["min_cann"],
            "nvidia": _nvidia(plan, own) if need["container_gpus"] else None,
            "preload": unique(
                library for text in preloaded for library in text.replace(":", " ").split()
            ),
        }
        if engine["image"]
        else None,
        "gateway_image": {"image": gateway["image"]} if _gateway(own) else None,
        "model_weights": {"path": paths[0], "draft_paths": paths[1:]} if model["path"] else None,
        "engine_venv": {**engine["venv"], "readable": paths} if engine["venv"] else None,
    }


def _weights(plan: Plan) -> list[str]:
    """Return the folders of weights, the model's first."""
    return [path for path in (plan["model"]["path"], plan["model"]["draft_path"]) if path]


def _nvidia(plan: Plan, own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how a host's containers get NVIDIA GPUs, as engine_image takes it."""
    return {
        "devices": sorted({one for unit in own for one in unit["container"].get("gpus") or []}),
        "env": {
            name: value
            for unit in own
            for name, value in unit["env"].items()
            if name.startswith("NVIDIA_")
        },
        "compat": plan["driver"]["compat"],
    }


def _gateway(own: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the options of the role gateway on a host that runs one."""
    unit = next((unit for unit in own if unit["role"] == "gateway"), None)
    return {"floating": unit["floating"], "url": unit["api_url"]} if unit else None


def _gateway_access(
    own: Sequence[Mapping[str, Any]], team_keys: Mapping[str, str] | None
) -> dict[str, Any] | None:
    """Return the options of gateway_access on a host whose gateway has keys or a certificate."""
    unit = next((unit for unit in own if unit["role"] == "gateway"), None)
    if not unit or not (unit["team_keys"] or unit["tls"]):
        return None
    return {
        "gateway": unit["name"],
        "teams": dict(team_keys or {}) if unit["team_keys"] else None,
        "tls": unit["tls"],
    }


def _firewall(plan: Plan, host: str, own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options of the role firewall: who may reach what of a host.

    Behind a gateway the engines' own APIs are internal.
    """
    asked = plan["firewall"]
    if asked is None:
        return {"state": "absent"}
    api = "gateway" if plan["gateway"] else "api"
    others = (unit["address"] for unit in plan["units"] if unit["host"] != host)
    return {
        "state": "present",
        "peers": unique(others),
        "api_ports": unique(
            str(unit["ports"][api]) for unit in own if unit["api_url"] and api in unit["ports"]
        ),
        **asked,
    }


def _takeover(
    plan: Plan,
    need: Needs,
    own: Sequence[Mapping[str, Any]],
    ports: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what of a host nobody else may hold, as node_takeover takes it."""
    return {
        "deployment": plan["deployment"],
        "vendor": plan["platform"]["vendor"],
        "devices": sorted({device for unit in own for device in unit["devices"]}),
        "device_nodes": need["device_nodes"],
        "ports": ports["ports"],
        "bind_address": ports["bind_address"],
    }


def _verify(
    plan: Plan,
    host: str,
    own: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Mapping[str, list[Any]]],
    replica: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what a host asks, and which ranks have to produce tokens meanwhile.

    Args:
        plan: The plan of one cluster.
        host: The host that asks.
        own: Its units.
        groups: What _groups returns.
        replica: The replica whose endpoint it asks; None where another host does.
    """
    asked = groups[replica_group(replica["index"])]["units"] if replica else []
    gateway = _gateway(own)
    # The first gateway asks the address that users have, every other one itself. By a name that
    # users have it is not asked: that is for the network to tell, and may lead elsewhere.
    first = bool(gateway) and plan["gateway"]["hosts"][0] == host
    tls = next((unit["tls"] for unit in own if unit["role"] == "gateway"), None)
    return {
        "url": replica["url"] if replica else None,
        "engines": {str(rank): unit["host"] for unit in asked for rank in unit["ranks"]},
        # Ranks that have an API of their own are asked one by one.
        "engine_urls": {
            str(unit["ranks"][0]): unit["api_url"] for unit in asked if unit["role"] == "rank"
        },
        "gateway_url": (_address_url(plan["gateway"]) if first else gateway["url"])
        if gateway
        else None,
        "gateway_ca": tls["ca"] if tls else None,
        "gateway_name": tls["names"][0] if tls else None,
    }


def _address_url(gateway: Mapping[str, Any]) -> str:
    tls = Tls(**gateway["tls"]) if gateway["tls"] else None
    return gateway_url(gateway["address"], gateway["port"], tls) + "/v1"


def told_of(plan: Plan) -> dict[str, Any]:
    """Return what an operator reads of a plan that a node has kept."""
    engine = plan["engine"]
    version = f"{engine['name']} {engine['version'] or ''}".strip()
    return {
        "recipe": f"{plan['recipe']} ({plan['variant']})",
        "engine": f"{version}, {engine['image'] or engine['venv']['path']}",
        "muster": plan["muster"],
    }


def _part(
    plan: Plan,
    own: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Mapping[str, list[Any]]],
) -> dict[str, Any]:
    """Return the part of a plan that a host's units and those that start with them are in."""
    mine = [groups[name] for name in unique(unit["group"] for unit in own)]
    return {
        "deployment": plan["deployment"],
        "restart": plan["restart"],
        "told": told_of(plan),
        "engine": {key: plan["engine"][key] for key in ("name", "version")},
        "endpoint": {"model": plan["endpoint"]["model"]},
        **{
            key: [one for group in mine for one in group[key]]
            for key in ("replicas", "units", "links")
        },
    }
