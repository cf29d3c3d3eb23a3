# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the units of a cluster do, and what of them is not as planned. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import (
    Report,
    change_text,
)

# By host, what unit_info said; a host without units could not be asked.
Seen = Mapping[str, Mapping[str, Any]]


def status_rows(units: Sequence[Mapping[str, Any]], seen: Seen) -> list[tuple[str, ...]]:
    """Return a row a planned unit: node, unit, role, state, restarts, API, its plan."""
    rows: list[tuple[str, ...]] = []
    for unit in units:
        host = unit["host"]
        reports = {report["name"]: report for report in seen[host].get("units", [])}
        report = reports.get(unit["name"])
        if report is None:
            state = "unreachable" if seen[host].get("unreachable") else "unknown"
            rows.append((host, unit["name"], unit["role"], state, "-", "-", "-"))
            continue
        api = {True: "serves", False: "silent", None: "-"}[report["ready"]]
        if report["stalled"]:
            api = "stalled"
        if not report["installed"]:
            agreement = "not installed"
        elif report["differences"]:
            count = len(report["differences"])
            agreement = "1 difference" if count == 1 else f"{count} differences"
        else:
            agreement = "as planned"
        state = f"{report['active_state']} ({report['sub_state']})"
        restarts = str(report["restarts"])
        rows.append((host, unit["name"], unit["role"], state, restarts, api, agreement))
    return rows


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
    return [redaction.line(text) for text in found]


def _of_unit(report: Report) -> list[str]:
    if not report["installed"]:
        return ["is not installed"]
    texts = []
    if report["active_state"] != "active":
        words = [report["active_state"], report["sub_state"]]
        if report["result"] not in ("", "success"):
            words.append(f"result {report['result']}")
        if report["restarts"]:
            words.append(f"restarted {report['restarts']} times by systemd")
        texts.append(f"does not run ({', '.join(words)})")
    elif report["ready"] is False and not report["stalled"]:
        texts.append("does not serve: its API does not list the model")
    if report["stalled"]:
        # An agent that gave up begins with the unit that stood still, one that watches with since.
        texts.append(f"yields no tokens: {report['stalled']}")
    texts += [f"differs from the plan: {change_text(row)}" for row in report["differences"]]
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
    return [f"{line} [{', '.join(hosts)}]" for line, hosts in lines.items()]


def under_way(seen: Seen) -> list[str]:
    """Return the runs that hold nodes now, a phrase each."""
    runs = [one["run"] for one in seen.values() if one.get("run")]
    return list(
        dict.fromkeys(f"{run['doing']} by {run['who']}, since {run['since']}" for run in runs)
    )
