# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/uninstall_report.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import statistics
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.replica.uninstall import leftovers


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "hosts": {"type": "list", "elements": "str", "required": True},
        "results": {"type": "list", "elements": "str", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        said = {name: registered(variables, args["hosts"], name) for name in args["results"]}
        results = {host: [one[host] for one in said.values()] for host in args["hosts"]}
        bare = [
            host for host, ones in results.items() if not any(one.get("changed") for one in ones)
        ]
        stays = leftovers(results)
        if bare:
            show(f"nothing to uninstall on {', '.join(bare)}")
        if stays:
            show("what would stay, and why" if self._task.check_mode else "what stays, and why")
            rows = [(", ".join(one["hosts"]), one["what"], one["why"]) for one in stays]
            show("\n".join(columns([("NODE", "WHAT", "WHY"), *rows])))
        return {
            "nothing": bare,
            "stays": stays,
            "ansible_stats": statistics("muster_uninstall", {"nothing": bare, "stays": stays}),
        }
