# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a deployment starts, stays and goes, from what its nodes report."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.units.names import (
    gateways_of,
    group_text,
    is_gateway,
    service,
)
from ansible_collections.muster.serving.plugins.module_utils.units.unit_files import (
    NOT_PRESENT,
    runs,
)

# One unit's report as unit_info returns it.
Report = Mapping[str, Any]


class Told(NamedTuple):
    """What an operator is told of a decision: a line, or a warning."""

    text: str
    warning: bool = False


class HostDecision(NamedTuple):
    """What starts, stays and goes on one host.

    groups has the host's groups, each with all its hosts. units and links are the plan's for the
    host, orphans what goes from it. failure is why nothing may be stopped.
    """

    groups: dict[str, list[str]]
    starting: set[str]
    staying: set[str]
    wait: bool
    reasons: list[str]
    units: list[Mapping[str, Any]]
    links: list[Mapping[str, Any]]
    stale_links: list[dict[str, Any]]
    orphans: list[str]
    told: list[Told]
    failure: str | None

    @property
    def start_units(self) -> list[Mapping[str, Any]]:
        """Return the units that stop and start."""
        return [unit for unit in self.units if unit["group"] in self.starting]

    @property
    def start_links(self) -> list[Mapping[str, Any]]:
        """Return the links of these units."""
        return [link for link in self.links if link["group"] in self.starting]

    def read_units(self, restart: str) -> list[Mapping[str, Any]]:
        """Return the units whose command line the engine's parser is to read."""
        groups = self.starting | (self.staying if restart == "stage" else set())
        return [unit for unit in self.units if unit["group"] in groups]

    def stops(self, running: Collection[str]) -> bool:
        """Return whether any of these services has to stop before the start."""
        going = {one["systemd_unit"] for one in (*self.start_units, *self.start_links)}
        going |= {service(name) for name in self.orphans}
        return not going.isdisjoint(running)


def decide_host(
    plan: Mapping[str, Any],
    host: str,
    seen: Mapping[str, Mapping[str, Any]],
    restart: str = "now",
    asked: str = "",
    fresh: str = "",
) -> HostDecision:
    """Return what starts, stays and goes on one host.

    Args:
        plan: Its deployment, units and links; left_out names what start leaves as it is.
        host: The host.
        seen: What unit_info told, by host of the host's groups.
        restart: As for decide.
        asked: Why replicas start anew in any case; empty where they need not.
        fresh: The start_id of links of which no host knows any.
    """
    cluster, units = plan["deployment"], plan["units"]
    groups = groups_of(units, host)
    links = [link for link in plan["links"] if link["host"] == host]
    verdicts, stale, told, lacking = {}, [], [], []
    for group, hosts in groups.items():
        own = [unit for unit in units if unit["group"] == group]
        verdict = verdicts[group] = _group_verdict(plan, own, hosts, seen, restart, asked)
        if verdict["stays"] and host == hosts[0]:
            told.append(Told(_left_alone(group, cluster, restart, verdict), warning=True))
        elif verdict["start"]:
            if host == hosts[0]:
                told += map(Told, start_text(group, cluster, hosts, verdict))
            lacking += without_environment(verdict["reports"])
        if not verdict["start"] and not verdict["stays"]:
            mine = [link for link in links if link["group"] == group]
            stale += stale_links(mine, host, {name: seen[name] for name in hosts}, fresh)
    starting = {group for group, verdict in verdicts.items() if verdict["start"]}
    staying = {group for group, verdict in verdicts.items() if verdict["stays"]}
    planned = [unit for unit in units if unit["host"] == host]
    left_out = plan.get("left_out", [])
    present = [name for name in seen[host]["orphans"] if name not in left_out] if planned else []
    orphans = removable(present, starting, staying, restart)
    kept = [name for name in present if name not in orphans]
    if kept:
        text = (
            f"{', '.join(kept)} on {host} stays as it is (muster_restart: {restart}), though "
            f"no longer planned. To remove it: {_take_over(cluster)}"
        )
        told.append(Told(text, warning=True))
    if orphans:
        text = f"{', '.join(orphans)} on {host} is removed: it is no longer planned"
        told.append(Told(text))
    reasons = [reason for verdict in verdicts.values() for reason in verdict["reasons"]]
    return HostDecision(
        groups=groups,
        starting=starting,
        staying=staying,
        wait=bool(starting) or any(verdict["wait"] for verdict in verdicts.values()),
        reasons=[*reasons, *(f"{name} is no longer planned" for name in orphans)],
        units=planned,
        links=links,
        stale_links=stale,
        orphans=orphans,
        told=told,
        failure=_no_environment(lacking) if lacking else None,
    )


def _group_verdict(
    plan: Mapping[str, Any],
    units: Sequence[Mapping[str, Any]],
    hosts: Sequence[str],
    seen: Mapping[str, Mapping[str, Any]],
    restart: str,
    asked: str,
) -> dict[str, Any]:
    """Return what decide says of a group, and the reports that it is said of."""
    group = units[0]["group"]
    told = {report["name"]: report for host in hosts for report in seen[host]["units"]}
    left_out = plan.get("left_out", [])
    former = [name for host in hosts for name in seen[host]["orphans"] if name not in left_out]
    # A gateway has no state that a restart would mend.
    why = "" if is_gateway(group) else asked
    verdict = decide(units, told, restart, bool(of_kind(former, group)), why)
    return {**verdict, "reports": [told[unit["name"]] for unit in units]}


def _left_alone(group: str, cluster: str, restart: str, verdict: Mapping[str, Any]) -> str:
    """Return what an operator should know of a group that runs otherwise than planned."""
    return (
        f"{group_text(group)} of {cluster} runs on as it is (muster_restart: {restart}), though "
        f"{'; '.join(verdict['reasons'])}. To take this over: {_take_over(cluster)}"
    )


def _take_over(cluster: str) -> str:
    return f"ansible-playbook playbooks/serve.yml -l {cluster} -e muster_restart=now"


def _no_environment(units: Sequence[str]) -> str:
    return (
        f"{', '.join(units)}: the environment to start from is not there or not finished, so "
        "nothing was stopped. Run playbooks/prepare.yml first"
    )


def groups_of(units: Sequence[Mapping[str, Any]], host: str) -> dict[str, list[str]]:
    """Return the groups of a host, each with all its hosts."""
    own = sorted({unit["group"] for unit in units if unit["host"] == host})
    return {
        group: sorted({unit["host"] for unit in units if unit["group"] == group}) for group in own
    }


def decide(
    units: Sequence[Mapping[str, Any]],
    reports: Mapping[str, Report],
    restart: str = "now",
    orphans: bool = False,
    asked: str = "",
) -> dict[str, Any]:
    """Return whether the units of one group must start, all together, or only be waited for.

    Args:
        units: The group's units in the plan.
        reports: What unit_info said of each, by unit name; all of them must be there.
        restart: What may be done to a group that runs otherwise than planned: "now" restarts it,
            "stage" and "never" leave it running.
        orphans: Whether a node of the group has units of its kind that are planned no longer.
        asked: Why it starts anew in any case; empty where it need not.

    Returns:
        start: True when any unit differs from the plan or does not run, and the group may start.
        stays: True when it would start, but runs and must be left alone.
        wait: True when all run as planned and one with an API does not serve yet.
        running: Whether any of them runs now.
        reasons: Why it starts, or would.
    """
    reasons = [asked] if asked else []
    running = []
    for unit in units:
        report = reports[unit["name"]]
        if not report["installed"]:
            reasons.append(f"{unit['name']} is not installed on {unit['host']}")
            continue
        reasons += [f"{unit['name']}: {change_text(row)}" for row in report["differences"]]
        running.append(runs(report))
        if not running[-1]:
            reasons.append(
                f"{unit['name']} does not run on {unit['host']} ({report['active_state']})"
            )
    # Units that were planned under other names run on as orphans.
    serves = all(running) if running else orphans
    stays = bool(reasons) and serves and restart != "now"
    return {
        "start": bool(reasons) and not stays,
        "stays": stays,
        "wait": not reasons and any(reports[unit["name"]]["ready"] is False for unit in units),
        "running": any(running),
        "reasons": reasons,
    }


def start_text(
    group: str, deployment: str, hosts: Sequence[str], verdict: Mapping[str, Any]
) -> list[str]:
    """Return why a group starts, for the operator, as lines; equal reasons of units are one.

    Args:
        group: The group.
        deployment: Whose it is.
        hosts: Its hosts.
        verdict: What decide says of it.
    """
    verb = "restarts" if verdict["running"] else "starts"
    units: dict[str, list[str]] = {}
    for reason in verdict["reasons"]:
        name = re.match(r"[^ :]*", reason)[0]  # type: ignore[index]
        units.setdefault(reason[len(name) :], []).append(name)
    return [
        f"{group_text(group)} of {deployment} {verb} on {', '.join(hosts)}:",
        *(f"  {', '.join(names)}{reason}" for reason, names in units.items()),
    ]


def stale_links(
    links: Sequence[Mapping[str, Any]], host: str, seen: Mapping[str, Any], fresh: str
) -> list[dict[str, Any]]:
    """Return the links of a host that are not as planned, each with its start_id.

    Args:
        links: Those of the plan for the host, of one replica, which runs on.
        host: The host.
        seen: What unit_info returned, by host of the replica.
        fresh: The start_id of one of which no host knows any.
    """
    found = []
    for link in links:
        told = {
            name: one
            for name, info in seen.items()
            for one in info.get("planned_links", ())
            if one["name"] == link["name"]
        }
        if told.get(host, {}).get("differences"):
            # Agents of different starts take no notice of each other.
            starts = [told[host]["start_id"], *(one["start_id"] for one in told.values())]
            found.append({**link, "start_id": next(filter(None, starts), fresh)})
    return found


def checks_of(
    units: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]] | None
) -> list[Mapping[str, Any]] | None:
    """Return what the engine's parser is known to say, if it is of these very units; else None.

    Args:
        units: The units of a host whose command lines are to be read.
        known: What unit_info told of the host's parser_checks.
    """
    told = {one["subject"] for one in known or () if one["id"] == "engine-parser"}
    asked = {unit["name"] for unit in units if not is_gateway(unit["group"])}
    return list(known) if known and told == asked else None


def removable(
    orphans: Sequence[str], starting: Collection[str], staying: Collection[str], restart: str
) -> list[str]:
    """Return which units that are planned no longer may be removed from a host.

    One that runs is left alone as a replica is, unless a group of its kind starts in its place.

    Args:
        orphans: The names of such units on the host.
        starting: The host's groups that start.
        staying: The host's groups that differ from the plan and run on.
        restart: As for decide.
    """
    if restart == "now":
        return list(orphans)
    going = {name for group in starting for name in of_kind(orphans, group)}
    going -= {name for group in staying for name in of_kind(orphans, group)}
    return [name for name in orphans if name in going]


def of_kind(names: Sequence[str], group: str) -> list[str]:
    """Return the units that are what a group's are: gateways for a gateway, else ranks."""
    gateways = gateways_of(names)
    return [name for name in names if (name in gateways) == is_gateway(group)]


def without_environment(reports: Sequence[Report]) -> list[str]:
    """Return the units that would start from an environment that their node does not have."""
    return [
        report["name"]
        for report in reports
        for row in report["differences"]
        if row["name"] == "environment id" and row["desired"] == NOT_PRESENT
    ]


def change_text(row: Mapping[str, Any]) -> str:
    """Return in what a unit is to run otherwise, of an entry of its differences."""
    if row["current"] is None:
        return f"{row['name']} added ({row['desired']})"
    if row["desired"] is None:
        return f"{row['name']} removed ({row['current']})"
    return f"{row['name']} {row['current']} -> {row['desired']}"
