# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stages of a run have to do, from one look at each node. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.units.names import is_gateway
from ansible_collections.muster.serving.plugins.plugin_utils.replica.waves import gateways_of_plan

# Which stage looks after a state of node_checks.
PREPARED = (
    "docker",
    "engine_image",
    "gateway_image",
    "gateway_access",
    "engine_venv",
    "host_tuning",
    "firewall",
)
SERVED = ("unit", "gateway")
TAKEN_OVER = ("takeover",)
KEPT = ("verified",)

# By state, what node_checks says of it.
States = Mapping[str, Mapping[str, Any]]


class Work(NamedTuple):
    """What is left to do.

    Fields:
        prepare: The hosts on which prepare would change something.
        serve: The hosts of replicas and gateways that do not serve as planned, or that prepare
            comes to first.
        verify: The hosts that ask something, or have to keep what was verified.
        brief: By host of which all units run as they did when they answered last, when that was.
        takeover: The hosts of replicas and gateways in whose place something else runs.
        resume: The hosts of gateways that runs have told to pass an engine no new requests, or
            of which it was not seen.
        upgrade: Those of serve, and the hosts of replicas and gateways that run as planned and were
            never verified so: a run that upgraded them was cut off before.
    """

    prepare: list[str]
    serve: list[str]
    verify: list[str]
    brief: dict[str, str]
    takeover: list[str]
    resume: list[str]
    upgrade: list[str]


def work_of(
    units: Sequence[Mapping[str, Any]], looks: Mapping[str, States], askers: Collection[str]
) -> Work:
    """Return what a run has to do on its hosts.

    Args:
        units: The units of the plan, with their host and group.
        looks: By host of the run, what was seen of it; empty where the look has failed, so that
            each stage comes to it and says why.
        askers: The hosts that ask an endpoint in verify.
    """
    groups: dict[str, set[str]] = {}
    for unit in units:
        groups.setdefault(unit["group"], set()).add(unit["host"])
    prepare = [host for host, states in looks.items() if _differs(states, PREPARED)]
    serving = {
        host
        for hosts in groups.values()
        for host in hosts
        if any(one not in looks or one in prepare or _differs(looks[one], SERVED) for one in hosts)
    }
    held = {host for host, states in looks.items() if states and _differs(states, TAKEN_OVER)}
    taken = {host for hosts in groups.values() if hosts & held for host in hosts}
    serve = [host for host, states in looks.items() if host in serving or not states]
    new = {host for host, states in looks.items() if host not in serve and _differs(states, KEPT)}
    unverified = {host for hosts in groups.values() if hosts & new for host in hosts}
    as_verified = {
        host for host, states in looks.items() if host not in serve and _as_verified(states)
    }
    brief = {}
    for host in as_verified:
        own = [group for group, hosts in groups.items() if host in hosts]
        # Any replica may answer through a gateway.
        need = set().union(*(groups[group] for group in own))
        if any(is_gateway(group) for group in own):
            need |= set(looks)
        if need <= as_verified:
            brief[host] = looks[host]["verified"]["verified"]
    return Work(
        prepare,
        serve,
        [host for host in looks if host in askers or host not in brief],
        {host: brief[host] for host in looks if host in brief},
        [host for host in looks if host in taken],
        [host for host in gateways_of_plan(units) if _may_be_drained(looks.get(host) or {})],
        [host for host in looks if host in serve or host in unverified],
    )


def authority_of(looks: Mapping[str, States]) -> str | None:
    """Return what clients check the gateways' certificates by, PEM; empty where they know it.

    None where no host has told. Where gateways have several, clients need them all.
    """
    seen = [states.get("gateway_access", {}) for states in looks.values()]
    told = [one["authority"] for one in seen if "authority" in one]
    return "".join(dict.fromkeys(told)) if told else None


def _may_be_drained(states: States) -> bool:
    return bool(states.get("unit", {}).get("left_drained", True))


def _differs(states: States, names: Sequence[str]) -> bool:
    return not states or any(states[name]["differs"] for name in names if name in states)


def _as_verified(states: States) -> bool:
    """Return whether the plan was verified on a host by the very runs of units that are there."""
    verified = states["verified"]
    return not verified["differs"] and all(
        report["invocation_id"] and verified["runs"].get(report["name"]) == report["invocation_id"]
        for report in states["unit"]["units"]
    )
