# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module on the node, unless there is nothing to hold or to release yet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.replica.this_run_io import (
    HoldingAction,
    holds,
    let_go,
)


class ActionModule(HoldingAction):
    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        args, variables = self._task.args, task_vars or {}
        if self._task.check_mode:
            return {"skipped": True, "skip_reason": "in check mode no run holds anything"}
        if args.get("state") != "released":
            return super().run(tmp, task_vars)
        if not holds(args["lock"], variables):
            return {"skipped": True, "skip_reason": "this run does not hold it here"}
        after = args.get("after")
        alive = variables["inventory_hostname"] in variables["ansible_play_hosts"]
        tags = (variables["ansible_run_tags"], variables["ansible_skip_tags"])
        if after and alive and runs(after, *tags):
            return {"skipped": True, "skip_reason": f"{after} releases it"}
        result = super().run(tmp, task_vars)
        if not (result.get("failed") or result.get("unreachable")):
            let_go(args["lock"], variables)
        elif not alive:
            # What the host has failed of is told already, and its lock ends by itself.
            return {"skipped": True, "skip_reason": "it cannot be released where modules fail"}
        return result


def runs(stage: str, run_tags: Collection[str], skip_tags: Collection[str]) -> bool:
    """Return whether the tasks of a tag run, by the tags that a run takes and those it skips."""
    return bool({stage, "all", "tagged"} & {*run_tags}) and not (
        {stage, "all", "tagged"} & {*skip_tags}
    )
