# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a deployment may go from some of its hosts, and what stayed on all of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# What the link of a node says of units that run, or are about to.
RUNS = ("running", "starting")


def broken_replicas(
    found: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> dict[str, list[tuple[str, list[str]]]]:
    """Return by host the replicas that run on without it: each link's name, with the hosts.

    Args:
        found: By host of the run, what uninstall_info said; empty where it has not answered.
        names: Inventory names by address.
    """
    here: dict[str, set[str]] = {}
    for one in found.values():
        for replica in one.get("replicas", []):
            here.setdefault(replica["name"], set()).add(replica["listen"])
    broken: dict[str, list[tuple[str, list[str]]]] = {}
    for host, one in found.items():
        for replica in one.get("replicas", []):
            rest = [
                names.get(peer["address"], peer["address"])
                for peer in replica["peers"]
                if peer["state"] in RUNS and peer["address"] not in here[replica["name"]]
            ]
            if rest:
                broken.setdefault(host, []).append((replica["name"], rest))
    return broken


def refusals(
    found: Mapping[str, Mapping[str, Any]], names: Mapping[str, str], limited: bool
) -> dict[str, str]:
    """Return by host why its deployment does not go from it.

    Args:
        found: As for broken_replicas.
        names: As for broken_replicas.
        limited: Whether the operator said of which hosts the run is.
    """
    deployments = sorted({one["deployment"] for one in found.values() if one})
    if not limited and len(deployments) > 1:
        text = (
            f"this run is of {len(deployments)} clusters, and no limit says that they are meant. "
            f"Nothing was changed. Run again with -l {deployments[0]}, or whichever is to go"
        )
        return dict.fromkeys(found, text)
    refused = {}
    for host, broken in broken_replicas(found, names).items():
        parts = [f"{link} runs on {', '.join(hosts)}" for link, hosts in broken]
        missing = ",".join(sorted({host for _link, hosts in broken for host in hosts}))
        refused[host] = (
            f"a replica goes as a whole, and {'; '.join(parts)}, which this run does not reach. "
            f"Nothing was changed here. Add {missing} to the limit, or stop it there first: "
            f"ansible-playbook playbooks/stop.yml -l {missing} "
            f"-e muster_cluster={found[host]['deployment']}"
        )
    return refused


def leftovers(results: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return all that stays, each with the hosts on which it does: {hosts, what, why}.

    Args:
        results: By host the results of what removed something there, each with stays.
    """
    nodes: dict[tuple[str, str], list[str]] = {}
    for host, ones in results.items():
        for one in ones:
            for stay in one.get("stays", []):
                hosts = nodes.setdefault((stay["what"], stay["why"]), [])
                if host not in hosts:
                    hosts.append(host)
    return [{"hosts": hosts, "what": what, "why": why} for (what, why), hosts in nodes.items()]
