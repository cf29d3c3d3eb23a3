# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/cluster_report.py has the documentation."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    write_json,
    write_text,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.report import (
    files_io,
    model,
    page,
    plots_io,
)


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
        "devices": {"type": "str"},
        "output_dir": {"type": "path", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, hosts = plain(args["plan"]), plain(args["hosts"])
        folder = Path(args["output_dir"])
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        found = files_io.collect(folder)
        seen = {
            host: {"time": now, **{key: one.get(key) for key in model.SEEN}}
            for host, one in registered(variables, hosts, args["devices"] or "").items()
            if "devices" in one
        }
        if seen:
            # Of a node that cannot be asked now, what was seen last is still worth showing.
            found["devices"] = {**found["devices"], **seen}
            write_json(str(folder / files_io.DEVICES), {"schema": 1, "hosts": found["devices"]})
        no_plots = plots_io.missing()
        shown = model.page_of(plan, found, now, no_plots)
        text = page.render(shown, files_io.template(), None if no_plots else plots_io.draw)
        path = str(folder / "report.html")
        write_text(path, text)
        for problem in shown["problems"]:
            show(f"report: {problem}", color="yellow")
        if no_plots:
            show(f"report: without plots: {no_plots}", color="yellow")
        show(f"report: {path}")
        return {"report_file": path, "problems": shown["problems"]}
