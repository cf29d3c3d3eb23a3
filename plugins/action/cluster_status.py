# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/cluster_status.py has the documentation."""

from __future__ import annotations

import datetime
import textwrap
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    statistics,
    write_json,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica import status, usage
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import (
    problems,
    status_rows,
    under_way,
    verified_lines,
)

# What is no table is broken here; problems are not, since programs look for their words.
COLUMNS = 100


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
        "results": {"type": "str", "required": True},
        "report_file": {"type": "path"},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, hosts = plain(args["plan"]), plain(args["hosts"])
        seen = registered(variables, hosts, args["results"])
        units = [unit for unit in plan["units"] if unit["host"] in seen]
        rows = status_rows(units, seen)
        recipe = f"{plan['recipe']} ({plan['variant']})"
        show(f"{plan['deployment']}: {recipe}, {plan['endpoint']['url']}")
        for line in usage.version_lines(plan, seen) + verified_lines(seen):
            show(_wrapped(line))
        show("\n".join(columns([status.HEADING, *rows])))
        asked = usage.usage_rows(units, seen)
        if asked:
            show("\n".join(columns([usage.HEADING, *asked])))
        for line in usage.restart_lines(seen) + usage.disk_lines(seen):
            show(_wrapped(line))
        wrong, runs = problems(units, seen), under_way(seen)
        for run in runs:
            show(f"  a run is under way: {run}")
        for text in wrong:
            show(f"  {text}", color="red")
        reports = [{"host": host, **unit} for host in hosts for unit in seen[host].get("units", [])]
        report = {
            "schema": 1,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "deployment": plan["deployment"],
            **{key: plan[key] for key in ("recipe", "variant", "muster", "engine", "endpoint")},
            "units": reports,
            "totals": usage.totals(reports),
            **{
                key: {host: one[key] for host, one in seen.items() if key in one}
                for key in ("links", "disks")
            },
            "verified": {host: one["verified"] for host, one in seen.items() if "verified" in one},
            "unreachable": [host for host in hosts if "units" not in seen[host]],
            "problems": wrong,
            "runs": runs,
        }
        if args["report_file"]:
            write_json(args["report_file"], report)
        count = "1 thing is" if len(wrong) == 1 else f"{len(wrong)} things are"
        failure = f"{plan['deployment']}: {count} not as planned, see above" if wrong else ""
        return {
            "problems": wrong,
            "failure": failure,
            "ansible_stats": statistics("muster_status", {plan["deployment"]: report}),
        }


def _wrapped(line: str) -> str:
    return textwrap.fill(
        line,
        COLUMNS,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
