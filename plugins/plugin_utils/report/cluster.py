# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as a page shows it: replicas, nodes, their devices and what joins them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.verdict import URGENCY

# What tells of the way from node to node, among the checks of preflight.
_BETWEEN = ("nic-", "port-reachable", "npu-ping", "npu-link", "cluster-mtu")


def picture(
    plan: Mapping[str, Any],
    devices: Mapping[str, Any],
    status: Mapping[str, Any],
    preflight: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return the cluster's groups of nodes, each {title, url, nodes, links}.

    Args:
        plan: The plan of one cluster.
        devices: By host, {time, version, devices, topology, problems} as it was seen last.
        status: The report of status, or nothing.
        preflight: The report of preflight, or nothing.
    """
    groups = []
    for replica in plan["replicas"]:
        units = [one for one in plan["units"] if one["host"] in replica["hosts"]]
        units = [one for one in units if one["replica"] == replica["index"]]
        units = [one for one in units if one["role"] != "gateway"]
        groups.append(
            {
                "title": f"replica {replica['index']}",
                "url": replica["url"],
                "nodes": [
                    _node(host, units, devices.get(host), status) for host in replica["hosts"]
                ],
                "links": _links(replica, units, preflight),
            }
        )
    gateways = [one for one in plan["units"] if one["role"] == "gateway"]
    if gateways:
        hosts = list(dict.fromkeys(one["host"] for one in gateways))
        groups.append(
            {
                "title": "gateways",
                "url": plan["endpoint"]["url"],
                "nodes": [_node(host, gateways, None, status) for host in hosts],
                "links": [],
            }
        )
    return groups


def _node(
    host: str,
    units: Sequence[Mapping[str, Any]],
    seen: Mapping[str, Any] | None,
    status: Mapping[str, Any],
) -> dict[str, Any]:
    own = [one for one in units if one["host"] == host]
    told = {one["name"]: one for one in status.get("units", ()) if one["host"] == host}
    wanted = {number for one in own for number in one["devices"]}
    found = seen or {}
    return {
        "host": host,
        "address": own[0]["address"] if own else "",
        "roles": ", ".join(dict.fromkeys(one["role"] for one in own)),
        "ranks": ranges_text(sorted(rank for one in own for rank in one["ranks"])),
        "units": [_unit(one, told.get(one["name"])) for one in own],
        "unreachable": host in status.get("unreachable", ()),
        "seen": found.get("time"),
        "driver": found.get("version"),
        "devices": [_device(one, wanted) for one in found.get("devices", ())],
        "planned": ranges_text(sorted(wanted)),
        "topology": _topology(found.get("topology")),
        "problems": found.get("problems", []),
    }


def _unit(planned: Mapping[str, Any], told: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a unit's name and how it does, as {name, state, mark, restarts}."""
    if told is None:
        return {"name": planned["name"], "state": "not asked", "mark": "unknown", "restarts": None}
    if not told["installed"]:
        state, mark = "not installed", "failed"
    elif told["stalled"]:
        state, mark = "yields no tokens", "failed"
    elif told["active_state"] != "active":
        state, mark = f"{told['active_state']} ({told['sub_state']})", "failed"
    elif told["ready"] is False:
        state, mark = "runs, does not serve", "failed"
    elif told["differences"]:
        state, mark = "runs, not as planned", "warning"
    else:
        state, mark = ("serves" if told["ready"] else "runs"), "ok"
    return {"name": planned["name"], "state": state, "mark": mark, "restarts": told["restarts"]}


def _device(one: Mapping[str, Any], wanted: set[int]) -> dict[str, Any]:
    used, total = one.get("memory_used_mb"), one.get("memory_total_mb")
    health = one.get("health")
    return {
        **{
            key: one.get(key)
            for key in ("device_id", "name", "temperature_c", "power_w", "utilisation_percent")
        },
        "health": health or "not told",
        "mark": "ok" if health == "OK" else "failed" if health else "unknown",
        "used_mb": used,
        "total_mb": total,
        "percent": 100 * used / total if used is not None and total else None,
        "in_plan": one.get("device_id") in wanted,
    }


def _topology(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return {devices, rows, kinds} with how many pairs each kind of link joins, or nothing."""
    if not told:
        return None
    kinds = Counter(kind for row, links in enumerate(told["links"]) for kind in links[row + 1 :])
    return {
        "devices": told["devices"],
        "rows": list(zip(told["devices"], told["links"], strict=False)),
        "kinds": [f"{kind} joins {_pairs(count)}" for kind, count in kinds.most_common()],
    }


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _links(
    replica: Mapping[str, Any], units: Sequence[Mapping[str, Any]], preflight: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the way from a replica's head to each other node, {ends, over, mark, said}."""
    hosts, head = replica["hosts"], replica["head"]
    interfaces = {one["host"]: one["interface"] for one in units}
    facts = preflight.get("facts") or {}
    found = []
    for host in hosts:
        if host == head:
            continue
        ends = [head, host]
        names = dict.fromkeys(interfaces.get(end) or "no interface named" for end in ends)
        mtus = dict.fromkeys(
            f"MTU {facts[end]['mtu']}" for end in ends if facts.get(end, {}).get("mtu")
        )
        checks = [
            one
            for one in preflight.get("checks", ())
            if one["host"] in ends and one["id"].startswith(_BETWEEN)
        ]
        statuses = Counter(one["status"] for one in checks)
        worst = next((word for word in URGENCY if statuses[word]), "unknown")
        said = ", ".join(f"{statuses[word]} {word}" for word in URGENCY if statuses[word])
        found.append(
            {
                "ends": ends,
                "over": ", ".join([*names, *mtus]),
                "mark": worst,
                "said": f"checks of the way: {said}" if said else "not checked yet",
            }
        )
    return found
