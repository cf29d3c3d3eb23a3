# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/cluster_work.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import keep_text
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica.this_run_io import holds
from ansible_collections.muster.serving.plugins.plugin_utils.replica.work import (
    authority_of,
    work_of,
)


class ActionModule(ControllerAction):
    """Runs once, on the controller."""

    SPEC: ClassVar = {
        "made": {"type": "str", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
        "results": {"type": "str", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        made, hostvars = variables[args["made"]], variables["hostvars"]
        looks = {}
        for host in args["hosts"]:
            seen = hostvars[host].get(args["results"]) or {}
            looks[host] = plain(seen.get("states") or {})
        asking = {host: made["stages"][host]["verify"] for host in args["hosts"]}
        askers = {host for host, asks in asking.items() if asks["url"] or asks["gateway_url"]}
        units = [{key: unit[key] for key in ("group", "host")} for unit in made["plan"]["units"]]
        work = work_of(units, looks, askers)
        authority = authority_of(looks)
        kept = {}
        if authority is not None:
            # Every run that changes nodes comes by, whether or not prepare comes to a gateway.
            kept = keep_text(made["run"]["authority"], authority, self._task.check_mode)
            # Another controller, or a runner in an empty folder, changes nothing by having it, too.
            kept["changed"] = kept["changed"] and kept["diff"]["before"] != ""
        return {
            **kept,
            "prepare": work.prepare,
            "serve": work.serve,
            "verify": work.verify,
            "brief": work.brief,
            "takeover": work.takeover,
            "units_known": not (work.prepare or work.takeover)
            and all(holds(made["cluster"], {"inventory_hostname": host}) for host in work.serve),
            "resume": work.resume,
            "upgrade": work.upgrade,
        }
