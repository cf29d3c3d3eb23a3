# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One plan from what was verified on each node. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.units.names import (
    group_text,
    replica_group,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError

Seen = Mapping[str, Mapping[str, Any]]

VERIFY = "run playbooks/serve.yml, then playbooks/verify.yml"


def deployment_of(seen: Seen) -> str:
    """Return the one deployment whose hosts were asked; empty where none answered.

    Raises:
        PlanError: There are several.
    """
    found = sorted({one["deployment"] for one in seen.values() if "deployment" in one})
    if len(found) > 1:
        raise PlanError([f"start takes one cluster: choose one of {', '.join(found)} with -l"])
    return found[0] if found else ""


def merge(deployment: str, seen: Seen) -> tuple[dict[str, Any], dict[str, str]]:
    """Return one plan of what can start, from what verified_plan read on each host.

    Returns:
        The plan, and by host what of it cannot start as it was verified and why. A replica does so
        as one, and so does each gateway. Units that are left out stand under left_out.
    """
    problems = {host: [text] for host, one in seen.items() if (text := _silence(one))}
    parts = {host: one["plan"] for host, one in seen.items() if one.get("plan")}
    first: Mapping[str, Any] = next(iter(parts.values()), {"engine": {}, "endpoint": {}})
    plan: dict[str, Any] = {
        "deployment": deployment,
        "engine": first["engine"],
        "endpoint": first["endpoint"],
        **{key: [] for key in ("replicas", "units", "links", "left_out")},
    }
    for name in sorted({unit["group"] for part in parts.values() for unit in part["units"]}):
        told = {host: _group(part, name) for host, part in parts.items()}
        told = {host: group for host, group in told.items() if group["units"]}
        group = next(iter(told.values()))
        hosts = list(dict.fromkeys(unit["host"] for one in told.values() for unit in one["units"]))
        reasons = _reasons(hosts, told, seen, problems)
        # What is left out has no say in what the others run.
        if not reasons and not plan["units"]:
            plan.update({key: group[key] for key in ("engine", "endpoint")})
        if not reasons and any(group[key] != plan[key] for key in ("engine", "endpoint")):
            reasons = ["it was verified with another engine or model name: limit start to it (-l)"]
        if reasons:
            plan["left_out"] += [unit["name"] for one in told.values() for unit in one["units"]]
            text = f"{group_text(name)}: {'; '.join(reasons)}"
            for host in hosts:
                if host in seen and not _silence(seen[host]):
                    problems.setdefault(host, []).append(text)
        else:
            for key in ("replicas", "units", "links"):
                plan[key] += group[key]
    return plan, {host: "; ".join(texts) for host, texts in problems.items()}


def part_of(plan: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the part of a plan that the units of a host and those that start with them are in."""
    groups = {unit["group"] for unit in plan["units"] if unit["host"] == host}
    return {
        **plan,
        "replicas": [one for one in plan["replicas"] if replica_group(one["index"]) in groups],
        **{key: [one for one in plan[key] if one["group"] in groups] for key in ("units", "links")},
    }


def _silence(one: Mapping[str, Any]) -> str:
    """Say why a host tells of nothing that could start."""
    if "plan" not in one:
        return f"it could not be asked ({one.get('msg') or 'no answer'})"
    if not one["plan"]:
        return str(one["why"])
    return ""


def _group(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what a host has kept of one group."""
    return {
        "engine": part["engine"],
        "endpoint": part["endpoint"],
        "replicas": [one for one in part["replicas"] if replica_group(one["index"]) == name],
        "units": [one for one in part["units"] if one["group"] == name],
        "links": [one for one in part["links"] if one["group"] == name],
    }


def _reasons(
    hosts: Sequence[str],
    told: Mapping[str, Mapping[str, Any]],
    seen: Seen,
    silent: Mapping[str, Sequence[str]],
) -> list[str]:
    """Say why the units of one group cannot start as they were verified."""
    outside = [host for host in hosts if host not in seen]
    if outside:
        return [f"{', '.join(outside)} was verified as a part of it and is not in the limit"]
    lost = [f"{host}: {silent[host][0]}" for host in hosts if host not in told and host in silent]
    if lost:
        return lost
    names = {unit["name"] for group in told.values() for unit in group["units"]}
    broken = [
        f"{one['unit']} on {host}: {one['text']}"
        for host in told
        for one in seen[host]["problems"]
        if one["unit"] in names
    ]
    if broken:
        return broken
    first = next(iter(told.values()))
    if set(told) != set(hosts) or any(group != first for group in told.values()):
        return [f"what was verified on {', '.join(hosts)} is not the same: {VERIFY}"]
    return []


def changes(verified: Mapping[str, Any], planned: Mapping[str, Any]) -> list[str]:
    """Return the units that start otherwise than the inventory plans them now."""
    wanted = {unit["name"]: unit for unit in planned["units"]}
    return [unit["name"] for unit in verified["units"] if wanted.get(unit["name"]) != unit]


def is_verified(plan: Mapping[str, Any], kept: Seen) -> bool:
    """Return whether all of a plan was verified and runs as planned.

    Args:
        plan: The plan of one cluster.
        kept: What verified_plan returned on each host whose replica answered well.
    """
    hosts = {unit["host"] for unit in plan["units"]}
    return hosts <= set(kept) and not any(one.get("problems") for one in kept.values())
