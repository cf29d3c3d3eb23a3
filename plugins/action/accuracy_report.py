# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/accuracy_report.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.accuracy import verdict
from ansible_collections.muster.serving.plugins.plugin_utils.bench import comparison
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    statistics,
    write_json,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain

COLORS = {
    comparison.BELOW: "red",
    comparison.NO_FIGURE: "red",
    verdict.UNCLEAR: "yellow",
    comparison.NOT_COMPARED: "yellow",
}


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "made": {"type": "dict", "required": True},
        "done": {"type": "dict", "required": True},
        "client_host": {"type": "str", "required": True},
        "tolerance": {"type": "float", "default": 2.0},
        "gate": {"type": "bool", "default": False},
        "path": {"type": "path", "required": True},
        "time": {"type": "str", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "failures": [], "msg": "check mode: nothing was asked"}
        plan, made, done = plain(args["plan"]), plain(args["made"]), plain(args["done"])
        done["client_host"] = args["client_host"]
        report = verdict.report_of(plan, made, done, args["tolerance"], args["time"])
        write_json(args["path"], report)
        for text, status in verdict.tables(report):
            show(text, color=COLORS.get(status))
        show(f"accuracy: {args['path']}")
        return {
            "passed": report["passed"],
            "failures": verdict.gate_failures(report) if args["gate"] else [],
            "sets": report["sets"],
            "report_file": args["path"],
            "ansible_stats": statistics("muster_accuracy", {plan["deployment"]: report}),
        }
