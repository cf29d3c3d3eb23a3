# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the units of a cluster do, and what of them is not as planned. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.units.names import (
    link_service,
    links_of,
)
from ansible_collections.muster.serving.plugins.module_utils.units.usage import (
    PAUSED,
    REFUSED,
    SERVES,
    SILENT,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import (
    Report,
    change_text,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica.usage import (
    bytes_text,
    hosts_text,
)

# By host, what unit_info said; a host without units could not be asked.
Seen = Mapping[str, Mapping[str, Any]]

HEADING = ("NODE", "UNIT", "ROLE", "STATE", "SINCE", "RESTARTS", "API", "PLAN")
# Below this, what the engines write may soon find no room.
LEAST_FREE_BYTES, LEAST_FREE = 1 << 30, 0.01


def status_rows(units: Sequence[Mapping[str, Any]], seen: Seen) -> list[tuple[str, ...]]:
    """Return a row a planned unit, under HEADING."""
    rows: list[tuple[str, ...]] = []
    for unit in units:
        host = unit["host"]
        reports = {report["name"]: report for report in seen[host].get("units", [])}
        report = reports.get(unit["name"])
        if report is None:
            state = "unreachable" if seen[host].get("unreachable") else "unknown"
            rows.append((host, unit["name"], unit["role"], state, "-", "-", "-", "-"))
            continue
        if not report["installed"]:
            agreement = "not installed"
        elif report["differences"]:
            count = len(report["differences"])
            agreement = "1 difference" if count == 1 else f"{count} differences"
        else:
            agreement = "as planned"
        # failed (failed) says no more than failed.
        states = dict.fromkeys((report["active_state"], report["sub_state"]))
        state = "running" if [*states] == ["active", "running"] else ", ".join(states)
        # The year is in the report.
        since = f"{report['since'][5:16]}Z" if report["since"] else "-"
        restarts = str(_restarts(report, seen[host]))
        rows.append(
            (host, unit["name"], unit["role"], state, since, restarts, api_word(report), agreement)
        )
    return rows


def _restarts(report: Report, node: Mapping[str, Any]) -> int:
    """Return how often a unit restarted since its last deliberate start.

    systemd counts what it restarted by itself, an agent what restarted of the whole replica.
    """
    links = links_of([report["name"]])
    told = [one["restarts"] or 0 for one in node.get("links", []) if one["name"] in links]
    return max([int(report["restarts"]), *told])


def api_word(report: Report) -> str:
    """Return in a word what the API of a unit does."""
    if report["ready"] is None:
        return "-"
    usage = report.get("usage") or {}
    if is_stalled(report):
        return "stalled"
    if report["ready"]:
        return str(usage.get("state", SERVES))
    return "starts" if report.get("doing") else "silent"


def is_stalled(report: Report) -> bool:
    """Return whether a unit stands still: its agent says so, and no token shows the contrary."""
    return bool(report["stalled"]) and (report.get("usage") or {}).get("state") != SERVES


def problems(units: Sequence[Mapping[str, Any]], seen: Seen) -> list[str]:
    """Return all that is not as planned, a line each; nothing where all serves as planned."""
    found = []
    for host, one in seen.items():
        if "units" not in one:
            verb = "cannot be reached" if one.get("unreachable") else "cannot be asked"
            # Ansible's own words before the reason.
            reason = " ".join(str(one.get("msg") or "no answer").split())
            found.append(f"{host} {verb}: {reason.replace('Task failed: ', '')}")
            continue
        reports = {report["name"]: report for report in one["units"]}
        for unit in units:
            if unit["host"] == host and unit["name"] in reports:
                name = f"{unit['name']} on {host}"
                found += [f"{name} {text}" for text in _of_unit(reports[unit["name"]])]
        found += [f"{name} on {host} is installed and no longer planned" for name in one["orphans"]]
        found += [f"{text} on {host}" for text in _of_node(one)]
    return [redaction.line(text) for text in found]


def _of_unit(report: Report) -> list[str]:
    if not report["installed"]:
        return ["is not installed"]
    texts = []
    stalled, usage = is_stalled(report), report.get("usage") or {}
    if report["active_state"] != "active":
        words = [report["active_state"], report["sub_state"]]
        if report["result"] not in ("", "success"):
            words.append(f"result {report['result']}")
        if report["restarts"]:
            words.append(f"restarted {report['restarts']} times by systemd")
        texts.append(f"does not run ({', '.join(words)})")
    elif report["ready"] is False and not stalled:
        doing = f" ({report['doing']})" if report.get("doing") else ""
        texts.append(f"does not serve: its API does not list the model{doing}")
    if stalled:
        # An agent that gave up begins with the unit that stood still, one that watches with since.
        texts.append(f"yields no tokens: {report['stalled']}")
    elif usage.get("state") == SILENT:
        texts.append(f"yields no tokens: asked for one, {usage['said']}, and its counters stand")
    elif usage.get("state") == PAUSED:
        texts.append(f"yields no tokens: it is paused or asleep ({usage['said']})")
    elif usage.get("state") == REFUSED:
        texts.append(f"refuses a completion: {usage['said']}")
    texts += [f"keeps new requests from {text}" for text in report.get("drained_by") or ()]
    if report.get("boot") == "disabled":
        unit = report["systemd_unit"]
        texts.append(
            f"would not come back with its node, disabled by hand: systemctl enable {unit}"
        )
    texts += [f"differs from the plan: {change_text(row)}" for row in report["differences"]]
    return texts


def _of_node(node: Mapping[str, Any]) -> list[str]:
    running = links_of(one["name"] for one in node["units"] if one["active_state"] == "active")
    texts = [
        f"the agent {link_service(link['name'])} does not run ({link['active_state']}), so nothing "
        f"restarts {link['name']} as one,"
        for link in node.get("links", [])
        if link["name"] in running and link["active_state"] != "active"
    ]
    texts += [
        f"the link {link['name']} {text}, which serve.yml mends without a restart,"
        for link in node.get("planned_links", [])
        for text in link["differences"]
        # Told above.
        if link["name"] in running and text != "does not run"
    ]
    for disk in node.get("disks", []):
        free, size = disk["free_bytes"], disk["size_bytes"]
        written = [what for what in disk["holds"] if what != "weights"]
        if written and (free < LEAST_FREE_BYTES or free < size * LEAST_FREE):
            texts.append(
                f"{disk['mount']} ({', '.join(written)}) has {bytes_text(free)} of "
                f"{bytes_text(size)} left"
            )
    return texts


def verified_lines(seen: Seen) -> list[str]:
    """Return what was verified last, and what before it, a line each with its hosts."""
    lines: dict[str, list[str]] = {}
    for host, one in seen.items():
        last = one.get("verified") or {}
        for verb, told in (("verified", last), ("before it", last.get("before") or {})):
            if told:
                by = "".join(f" by {told[key]}" for key in ("by",) if key in told)
                doing = f" ({told['doing']})" if "doing" in told else ""
                what = ", ".join(told[key] for key in ("recipe", "engine") if key in told)
                minute = str(told.get("verified", "")).rpartition(":")[0]
                lines.setdefault(f"{verb} {minute}Z{by}{doing}: {what}", []).append(host)
    return [f"{line} [{hosts_text(hosts)}]" for line, hosts in lines.items()]


def under_way(seen: Seen) -> list[str]:
    """Return the runs that hold nodes now, a phrase each."""
    runs = [one["run"] for one in seen.values() if one.get("run")]
    return list(
        dict.fromkeys(f"{run['doing']} by {run['who']}, since {run['since']}" for run in runs)
    )


def not_ready(
    names: Collection[str], planned: Mapping[str, Sequence[Mapping[str, Any]]], seen: Seen
) -> list[str]:
    """Return why what runs is not what a figure would be of, a line each.

    Args:
        names: The units that are to be measured.
        planned: By host its planned units.
        seen: What unit_info said of those hosts.
    """
    units = [unit for own in planned.values() for unit in own if unit["name"] in names]
    # What else is installed there is no part of what is measured.
    alone = {
        host: {**one, **({"orphans": []} if "units" in one else {})} for host, one in seen.items()
    }
    found = [*problems(units, alone), *(f"a run is under way: {run}" for run in under_way(seen))]
    if not found:
        return []
    return [*(f"- {text}" for text in found), "serve.yml brings up what is not as planned"]
