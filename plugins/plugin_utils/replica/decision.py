# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a whole replica needs, from what its nodes report. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.units.names import (
    gateways_of,
    group_text,
    is_gateway,
)
from ansible_collections.muster.serving.plugins.module_utils.units.unit_files import (
    NOT_PRESENT,
    runs,
)

# One unit's report as unit_info returns it.
Report = Mapping[str, Any]


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


def of_group(
    statuses: Mapping[str, Sequence[Report]], group: str, hosts: Sequence[str]
) -> dict[str, list[Report]]:
    """Return the reports of one group by host; a host that has not reported is left out."""
    return {
        host: [report for report in statuses[host] if report["group"] == group]
        for host in hosts
        if host in statuses
    }


def first_starts(statuses: Mapping[str, Sequence[Report]]) -> dict[str, Mapping[str, Any]]:
    """Return what units do once, at their first start on a host, by host; the longest of each."""
    found: dict[str, Mapping[str, Any]] = {}
    for host in sorted(statuses):
        for report in statuses[host]:
            once = report.get("first_start")
            if once and once["extra_s"] > found.get(host, {"extra_s": 0})["extra_s"]:
                found[host] = once
    return found


def first_death(statuses: Mapping[str, Sequence[Report]]) -> tuple[str, Report] | None:
    """Return the host and report of a unit that has ended, as told by any host; None when all live.

    When several have ended, the one whose exit status says a fault comes first: it is the likelier
    cause, while the others followed it.
    """
    dead = [
        (host, report)
        for host in sorted(statuses)
        for report in statuses[host]
        if report.get("ended")
    ]
    faulty = [entry for entry in dead if entry[1].get("exit_status") not in ("0", "", None)]
    return next(iter(faulty or dead), None)


def waiting_for(statuses: Mapping[str, Sequence[Report]], hosts: Sequence[str]) -> list[str]:
    """Return what is missing, a phrase each: hosts without word, units that do not serve yet.

    Where one does not serve, those without an API of their own say what they do, too: it may wait
    for them.
    """
    missing = [f"word from {host}" for host in hosts if host not in statuses]
    beside = []
    for host in sorted(statuses):
        for report in statuses[host]:
            doing = report.get("doing", "")
            if report["ready"] is False:
                last = doing or (report["log"][-1].strip() if report["log"] else "")
                missing.append(f"{report['name']} on {host} to serve{f': {last}' if last else ''}")
            elif report["active_state"] != "active":
                missing.append(f"{report['name']} on {host} to run ({report['sub_state']})")
            elif report["ready"] is None and doing:
                beside.append(f"{report['name']} on {host}: {doing}")
    return missing + beside if missing else []
