# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of clusters beside each other: a pure function of recipes and an inventory."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.ranges import ranges_text
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.plan import (
    addresses,
    versions,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.cluster import Plan, build_plan
from ansible_collections.muster.serving.plugins.plugin_utils.plan.inventory import (
    View,
    find_clusters,
    hosts_text,
    machines,
    recipe_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.placement import (
    PORT_SETTINGS,
    ports_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import (
    Recipe,
)

# Recipe, variant and folders of own recipes to a whole recipe.
Load = Callable[[str, "str | None", Sequence[str]], Recipe]


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
