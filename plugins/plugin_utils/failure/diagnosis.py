# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes' logs say of a failure: by unit its runs judged, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.units import names
from ansible_collections.muster.serving.plugins.plugin_utils.common import runbooks
from ansible_collections.muster.serving.plugins.plugin_utils.failure import judging

# How many runs of a unit before its last one are told.
EARLIER = 3

# What is known of a node: each unit with its runs, the last one first, or why it cannot be said.
Node = str | list[tuple[dict[str, Any], list[judging.Judged]]]


def judge(result: Mapping[str, Any], logs: Mapping[str, judging.Log]) -> Node:
    """Return each unit of a node with what its logs say, or why the node could not be asked."""
    if "units" in result and not result.get("failed"):
        none = judging.Log([], [])
        return [
            (unit, judging.judge(logs.get(unit["systemd_unit"], none))) for unit in result["units"]
        ]
    word = "not reached" if result.get("unreachable") else "not asked"
    text = str(result.get("msg") or "no result").removeprefix("Task failed: ")
    return f"{word}: {' '.join(text.split())[:300]}"


def verdicts(nodes: Mapping[str, Node]) -> dict[str, judging.Verdict]:
    """Return by replica of several units the failure that the others follow from."""
    replicas: dict[str, dict[tuple[str, str], list[judging.Judged]]] = {}
    for host, node in nodes.items():
        for unit, runs in node if not isinstance(node, str) else []:
            for replica in names.links_of([names.unit_of(unit["systemd_unit"])]):
                replicas.setdefault(replica, {})[host, unit["systemd_unit"]] = runs
    found = {
        replica: judging.verdict(units) for replica, units in replicas.items() if len(units) > 1
    }
    return {replica: verdict for replica, verdict in found.items() if verdict}


def report(nodes: Mapping[str, Node]) -> list[str]:
    """Return the report as lines: what each replica failed of, then by node its units."""
    lines = []
    for replica, verdict in verdicts(nodes).items():
        first = verdict.judged.findings[0]
        ended = judging.when(verdict.judged.run.end)
        lines += [
            f"{replica}: {first.signature.name}, {judging.sureness(verdict.judged)}, on"
            f" {verdict.host} ({verdict.unit}{', ended ' + ended if ended else ''})",
            f"  {first.line}",
        ]
    for host, node in nodes.items():
        if isinstance(node, str):
            lines.append(f"{host}: {node}")
            continue
        lines.append(f"{host}" if node else f"{host}: no unit planned or installed")
        for unit, runs in node:
            lines.append(f"  {unit['systemd_unit']}: {_state(unit)}")
            lines += [f"    {line}" for line in _told(unit, runs)]
    return lines


def _told(unit: Mapping[str, Any], runs: list[judging.Judged]) -> list[str]:
    """Return what a unit's runs say, the last one at length."""
    if not any(judged.findings for judged in runs):
        told = ["no known failure in its logs"] if unit["installed"] else []
        if runs and unit["active_state"] != "active":
            told += judging.look_at(runs[0])
        return told
    last, *earlier = runs
    lines = []
    if earlier or last.run.stopped:
        lines.append(f"last run{_dates(last)}:")
        lines += [f"  {line}" for line in judging.paragraph(last) or ["no known failure"]]
    else:
        lines += judging.paragraph(last)
    for judged in [one for one in earlier if one.findings][:EARLIER]:
        first = judged.findings[0]
        lines.append(f"earlier run{_dates(judged)}:")
        lines.append(f"  {first.signature.name}, {judging.sureness(judged)}: {first.line}")
    return lines


def _dates(judged: judging.Judged) -> str:
    begin, end = judging.when(judged.run.begin), judging.when(judged.run.end)
    dates = f", {begin} to {end}" if begin and end else ""
    return f"{dates}, told to stop" if judged.run.stopped else dates


def as_data(node: Node) -> dict[str, Any]:
    """Return a node's part of the report as JSON has it."""
    if isinstance(node, str):
        return {"problem": node}
    return {
        "units": [
            {
                **unit,
                "findings": _findings(runs[0]) if runs else [],
                "runs": [_run(judged) for judged in runs[: EARLIER + 1]],
            }
            for unit, runs in node
        ]
    }


def _run(judged: judging.Judged) -> dict[str, Any]:
    return {
        "begin": judging.when(judged.run.begin),
        "end": judging.when(judged.run.end),
        "stopped": judged.run.stopped,
        "sureness": judging.sureness(judged),
        "findings": _findings(judged),
        "errors": judged.errors,
    }


def _findings(judged: judging.Judged) -> list[dict[str, Any]]:
    return [
        {
            **one.signature._asdict(),
            "page": runbooks.of_signature(one.signature.name),
            "line": one.line,
            "times": one.times,
        }
        for one in judged.findings
    ]


def _state(unit: Mapping[str, Any]) -> str:
    if not unit["installed"]:
        return "not installed"
    words = [f"{unit['active_state']} ({unit['sub_state']})"]
    if unit["result"] not in ("", "success"):
        words.append(f"result {unit['result']}")
    if unit["exit_status"] not in ("", "0"):
        words.append(f"exit status {unit['exit_status']}")
    if unit["restarts"]:
        words.append(f"{unit['restarts']} restarts")
    return ", ".join(words)
