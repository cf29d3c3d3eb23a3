# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes' logs say of a failure: findings by unit, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Dict, List, Tuple, Union

from ansible_collections.muster.serving.plugins.plugin_utils.failure.signatures import (
    Finding,
    explain,
    paragraph,
)

# How many findings of a unit are printed; the likeliest come first.
SHOWN = 3

# What is known of a node: each unit with its findings, or why it cannot be said.
Node = Union[str, List[Tuple[Dict[str, Any], List[Finding]]]]


def judge(result: Mapping[str, Any], logs: Mapping[str, Sequence[str]]) -> Node:
    """Return each unit of a node with what its logs say, or why the node could not be asked."""
    if "units" in result and not result.get("failed"):
        return [(unit, explain(logs.get(unit["systemd_unit"], []))) for unit in result["units"]]
    word = "not reached" if result.get("unreachable") else "not asked"
    text = str(result.get("msg") or "no result").removeprefix("Task failed: ")
    return f"{word}: {' '.join(text.split())[:300]}"


def report(nodes: Mapping[str, Node]) -> list[str]:
    """Return the report as lines: by node its units, by unit the likeliest findings."""
    lines = []
    for host, node in nodes.items():
        if isinstance(node, str):
            lines.append(f"{host}: {node}")
            continue
        lines.append(f"{host}" if node else f"{host}: no unit planned or installed")
        for unit, findings in node:
            lines.append(f"  {unit['systemd_unit']}: {_state(unit)}")
            for finding in findings[:SHOWN]:
                seen = f"{finding.times} lines as" if finding.times > 1 else "a line"
                lines.append(f"    {finding.signature.name}, {seen}: {finding.line}")
                lines += [f"      {line}" for line in paragraph(finding)]
            if len(findings) > SHOWN:
                others = ", ".join(finding.signature.name for finding in findings[SHOWN:])
                lines.append(f"    and {others}")
            if unit["installed"] and not findings:
                lines.append("    no known failure in its logs")
    return lines


def as_data(node: Node) -> dict[str, Any]:
    """Return a node's part of the report as JSON has it."""
    if isinstance(node, str):
        return {"problem": node}
    return {
        "units": [
            {
                **unit,
                "findings": [
                    {**one.signature._asdict(), "line": one.line, "times": one.times}
                    for one in findings
                ],
            }
            for unit, findings in node
        ]
    }


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
