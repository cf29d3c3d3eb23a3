# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/bench_report.py has the documentation."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.bench import comparison
from ansible_collections.muster.serving.plugins.plugin_utils.bench.baseline_io import read_baseline
from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import devices_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.report import (
    gate_failures,
    report_of,
    tables,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    statistics,
    write_json,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain

COLORS = {comparison.BELOW: "red", comparison.NO_FIGURE: "red", comparison.NOT_COMPARED: "yellow"}


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "made": {"type": "dict", "required": True},
        "done": {"type": "dict", "required": True},
        "devices": {"type": "dict", "default": {}},
        "tolerance": {"type": "float", "default": 3.0},
        "gate": {"type": "bool", "default": False},
        "baseline": {"type": "path"},
        "output_dir": {"type": "path", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "failures": [], "msg": "check mode: nothing was measured"}
        plan, made, done = plain(args["plan"]), plain(args["made"]), plain(args["done"])
        now = datetime.datetime.now(datetime.UTC)
        report = report_of(
            plan,
            made,
            done,
            devices_of(plain(args["devices"])),
            args["tolerance"],
            read_baseline(args["baseline"]) if args["baseline"] else None,
            now.isoformat(timespec="seconds"),
        )
        failures = gate_failures(report) if args["gate"] else []
        path = f"{args['output_dir']}/bench-{now:%Y%m%dT%H%M%SZ}.json"
        write_json(path, report)
        for text, status in tables(report):
            show(text, color=COLORS.get(status))
        show(f"bench: {path}")
        told = [
            {key: one[key] for key in ("name", "status", "source", "metrics", "rows", "notes")}
            for one in report["scenarios"]
        ]
        kept = ("schema", "time", "passed", "compared", "failures", "setting", "refused")
        about = {**{key: report[key] for key in kept}, "scenarios": told}
        return {
            "passed": report["passed"],
            "failures": failures,
            "scenarios": told,
            "report_file": path,
            "ansible_stats": statistics("muster_bench", {plan["deployment"]: about}),
        }
