# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One plan from what was verified on each node. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Seen = Mapping[str, Mapping[str, Any]]


def merge(deployment: str, seen: Seen) -> tuple[dict[str, Any], dict[str, str]]:
    """One plan of the hosts that can start, from what verified_plan read on each.

    Returns:
        The plan, and by host why it cannot start as it was verified; a replica does so as one.
    """
    problems = {host: text for host, one in seen.items() if (text := _own_problem(deployment, one))}
    parts = {host: one["plan"] for host, one in seen.items() if one.get("plan")}
    replicas = {
        replica["index"]: replica for part in parts.values() for replica in part["replicas"]
    }
    for replica in replicas.values():
        known = [host for host in replica["hosts"] if host in seen]
        reasons = [f"{host}: {problems[host]}" for host in known if host in problems]
        reasons = reasons or _disagreements(replica["hosts"], seen)
        if reasons:
            problems.update(dict.fromkeys(known, "; ".join(reasons)))
    good = [part for host, part in parts.items() if host not in problems]
    first = good[0] if good else {"engine": {}, "endpoint": {}}
    return {
        "deployment": deployment,
        "engine": first["engine"],
        "endpoint": first["endpoint"],
        "replicas": [replicas[index] for index in sorted(replicas)],
        "units": _once(good, "units"),
        "links": _once(good, "links"),
    }, problems


def _own_problem(deployment: str, one: Mapping[str, Any]) -> str:
    if "plan" not in one:
        return f"it could not be asked ({one.get('msg') or 'no answer'})"
    if not one["plan"]:
        return (
            f"nothing of {deployment} was verified here yet, so there is nothing to start from:"
            " run playbooks/serve.yml, then playbooks/verify.yml"
        )
    if one["problems"]:
        return "; ".join([*one["problems"], "run playbooks/serve.yml"])
    return ""


def _disagreements(hosts: Sequence[str], seen: Seen) -> list[str]:
    missing = [host for host in hosts if host not in seen]
    if missing:
        return [f"{', '.join(missing)} was verified in the same replica and is not in the limit"]
    if len({seen[host]["digest"] for host in hosts}) > 1:
        return [
            f"what was verified on {', '.join(hosts)} is not the same: run playbooks/serve.yml,"
            " then playbooks/verify.yml"
        ]
    return []


def _once(parts: Iterable[Mapping[str, Any]], key: str) -> list[dict[str, Any]]:
    """The entries of all parts under a key, each once: every node of a replica has them all."""
    found = {(one["host"], one["name"]): one for part in parts for one in part[key]}
    return list(found.values())
