# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of an inventory: which there are, and what their hosts say alike.

An inventory view is {"groups": {name: [host]}, "hostvars": {host: {name: plain value}},
"sets_recipe": {name of a group that sets muster_recipe itself: true}}; the last may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError, shown
from ansible_collections.muster.serving.plugins.plugin_utils.plan import variables as inventory_vars
from ansible_collections.muster.serving.plugins.plugin_utils.plan.addresses import (
    address_of,
    ip_or_none,
    is_loopback,
)

View = Mapping[str, Mapping[str, Any]]


class Clusters(NamedTuple):
    """The clusters of an inventory with their hosts, and hosts that cannot be placed."""

    members: dict[str, list[str]]
    misplaced: dict[str, str]


class Deployment(NamedTuple):
    """What the inventory says of one cluster.

    settings holds what is said for the cluster as a whole, hosts the variables of each host
    in inventory order, and wrong the names whose values have been reported already.
    """

    cluster: str
    settings: dict[str, Any]
    hosts: dict[str, dict[str, Any]]
    wrong: set[str]


def find_clusters(view: View) -> Clusters:
    """Return the clusters: the inventory groups of hosts that have a recipe."""
    members: dict[str, list[str]] = {}
    misplaced: dict[str, str] = {}
    for host, hostvars in view["hostvars"].items():
        if hostvars.get("muster_recipe") is None:
            continue
        cluster, problem = _cluster_of(view, host, hostvars.get("muster_cluster"))
        if cluster:
            members.setdefault(cluster, list(view["groups"][cluster]))
        else:
            misplaced[host] = f"{host}: {problem}"
    for host in view["hostvars"]:
        claimed = [cluster for cluster, hosts in members.items() if host in hosts]
        if len(claimed) > 1:
            misplaced[host] = (
                f"{host}: belongs to the clusters {' and '.join(claimed)}: {_ONE_NAME}"
            )
    return Clusters(members, misplaced)


def _cluster_of(view: View, host: str, named: Any) -> tuple[str | None, str]:
    """Return the inventory group that is the cluster of a host, or why there is none.

    It is the one that muster_cluster names, the host's only one, or the only one that sets
    muster_recipe itself: data centres, racks and roles are groups, too.
    """
    groups = [
        name
        for name, hosts in view["groups"].items()
        if name not in ("all", "ungrouped") and host in hosts
    ]
    setting = [name for name in groups if name in view.get("sets_recipe", {})]
    if named is not None:
        listed = ", ".join(groups) or "none"
        problem = f"muster_cluster names {named!r}, but the host's inventory groups are {listed}"
        return (str(named), "") if named in groups else (None, problem)
    for only in (groups, setting):
        if len(only) == 1:
            return only[0], ""
    if not groups:
        return None, "stands in no inventory group: put it into the one of its cluster"
    where = f"stands in the inventory groups {', '.join(groups)}"
    if setting:
        where = f"the inventory groups {' and '.join(setting)} both set muster_recipe"
    return None, (
        f"{where}: set muster_cluster to the one that is its cluster, or muster_recipe in that one "
        f"alone; if several are, {_ONE_NAME}"
    )


_ONE_NAME = (
    "give the machine an inventory name for each, with the same muster_node and different "
    "muster_devices and ports"
)


def read_deployment(view: View, cluster: str) -> tuple[Deployment, list[str]]:
    """Read the variables of a cluster's hosts; return them and what is wrong with them."""
    read = {
        host: inventory_vars.read_settings(host, view["hostvars"].get(host, {}))
        for host in view["groups"].get(cluster, [])
    }
    errors = _told_once(cluster, {host: found.errors for host, found in read.items()})
    wrong = {name for host in read.values() for name in host.wrong}
    settings: dict[str, Any] = {}
    first = next(iter(read), "")
    for name in inventory_vars.cluster_wide():
        said = {host: read[host].values.get(name) for host in read if name not in wrong}
        other = next((host for host in said if said[host] != said[first]), None)
        if other:
            errors.append(
                f"{other}: {name} is {_state(said[other])} and on {first} {_state(said[first])}: "
                "it has to be equal on all nodes of a cluster; set it for the inventory group"
            )
        if said.get(first) is not None:
            settings[name] = said[first]
    if not read:
        errors.append(f"{cluster}: the inventory group has no hosts")
    hosts = {host: _node_vars(view, host, read[host].values) for host in read}
    return Deployment(cluster, settings, hosts, wrong), errors


def said_by(settings: Mapping[str, Any], *names: str) -> str:
    """Return the variables among these that the inventory sets, as the end of a message."""
    said = [f"{name} is {shown(settings[name])}" for name in names if name in settings]
    return f" ({', '.join(said)})" if said else ""


def recipe_of(view: View, cluster: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Return a cluster's recipe, variant and folders of own recipes.

    Raises:
        PlanError: The hosts of the cluster disagree, or do not say.
    """
    deployment, errors = read_deployment(view, cluster)
    said = deployment.settings
    names = ("muster_recipe", "muster_variant", "muster_recipes_path")
    about = [error for error in errors if any(f": {name} " in error for name in names)]
    if about or "muster_recipe" not in said:
        raise PlanError(about or errors)
    folders = tuple(said.get("muster_recipes_path", ()))
    return said["muster_recipe"], said.get("muster_variant"), folders


def machines(view: View, hosts: Iterable[str]) -> set[str]:
    """Return the machines behind inventory names, and their addresses."""
    found = set()
    for host in hosts:
        said = view["hostvars"].get(host, {})
        found.add(str(said.get("muster_node") or host))
        # A floating address is as good as a machine's own.
        for address in (address_of(host, said), ip_or_none(said.get("muster_gateway_address"))):
            if address and not is_loopback(address):
                found.add(f"the address {address}")
    return found


def hosts_text(hosts: Sequence[str]) -> str:
    """Write many hosts short."""
    if len(hosts) <= 6:
        return ", ".join(hosts)
    return f"{', '.join(hosts[:5])} and {len(hosts) - 5} more"


def _told_once(cluster: str, by_host: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the errors of hosts, those that all hosts have once, as the cluster's own."""
    texts = {
        host: [error.removeprefix(f"{host}: ") for error in errors]
        for host, errors in by_host.items()
    }
    shared = [
        text
        for text in next(iter(texts.values()), [])
        if len(texts) > 1 and all(text in own for own in texts.values())
    ]
    return [f"{cluster}: {text}" for text in shared] + [
        f"{host}: {text}" for host, own in texts.items() for text in own if text not in shared
    ]


def _node_vars(view: View, host: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "ansible_host": view["hostvars"].get(host, {}).get("ansible_host")}


def _state(value: Any) -> str:
    return "not set" if value is None else shown(value)
