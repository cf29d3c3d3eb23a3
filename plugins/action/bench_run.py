# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller and on one node; plugins/modules/bench_run.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.bench.client_io import ClientRuns
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import not_ready


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "made": {"type": "dict", "required": True},
        "api_key_file": {"type": "path", "no_log": False},
        "timeout": {"type": "int", "default": 7200},
        "results": {"type": "str"},
    }
    _requires_connection = True

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "check mode: no load is made"}
        made = plain(args["made"])
        if args["results"]:
            seen = registered(variables, made["units"], args["results"])
            wrong = not_ready(made["target"]["units"], made["units"], seen)
            if wrong:
                return {"failed": True, "msg": "\n".join(["bench measures nothing:", *wrong])}
        client = ClientRuns(self, variables, made, args["api_key_file"])
        done: list[dict[str, Any] | None] = []
        broken: set[str] = set()
        for number, run in enumerate(made["runs"], 1):
            if run["scenario"] in broken:
                done.append(None)
                continue
            kind = f"repetition {run['repetition']}" if run["repetition"] else "warm-up"
            what = f"{run['scenario']}, {kind} (run {number} of {len(made['runs'])})"
            ended = client.one(run, what, args["timeout"])
            if "msg" in ended and not any(done):
                return {"failed": True, "msg": ended["msg"]}
            # What was measured so far is not lost with a node.
            done.append(ended)
            if not run["repetition"] and (ended["rc"] != 0 or not ended["raw"]):
                broken.add(run["scenario"])
        return {
            "runs": done,
            "image_id": client.about["image_id"],
            "image_digests": client.about["image_digests"],
        }
