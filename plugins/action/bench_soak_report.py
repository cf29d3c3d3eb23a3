# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/bench_soak_report.py has the documentation."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import devices_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.soak_report import (
    soak_report,
    soak_text,
    told,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    statistics,
    write_json,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "made": {"type": "dict", "required": True},
        "done": {"type": "dict", "required": True},
        "watched": {"type": "str", "required": True},
        "devices": {"type": "dict", "default": {}},
        "output_dir": {"type": "path", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "failures": [], "msg": "check mode: no load was made"}
        plan, made, done = plain(args["plan"]), plain(args["made"]), plain(args["done"])
        now = datetime.datetime.now(datetime.UTC)
        report = soak_report(
            plan,
            made,
            done,
            registered(variables, made["units"], args["watched"]),
            devices_of(plain(args["devices"])),
            now.isoformat(timespec="seconds"),
        )
        path = f"{args['output_dir']}/soak-{now:%Y%m%dT%H%M%SZ}.json"
        write_json(path, report)
        show(soak_text(report), color=None if report["passed"] else "red")
        show(f"soak: {path}")
        kept = {
            key: value
            for key, value in report.items()
            if key not in ("windows", "nodes", "last_words")
        }
        return {
            "passed": report["passed"],
            "failures": told(report),
            "report_file": path,
            "ansible_stats": statistics("muster_soak", {plan["deployment"]: kept}),
        }
