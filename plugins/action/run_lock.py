# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module on the node, unless there is nothing to hold or to release yet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.replica.this_run_io import (
    HoldingAction,
)


class ActionModule(HoldingAction):
    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        variables = task_vars or {}
        if self._task.check_mode:
            return {"skipped": True, "skip_reason": "in check mode no run holds anything"}
        after = self._task.args.get("after")
        alive = variables.get("inventory_hostname") in variables.get("ansible_play_hosts", ())
        if (
            after
            and alive
            and runs(after, *(variables[f"ansible_{kind}_tags"] for kind in ("run", "skip")))
        ):
            return {"skipped": True, "skip_reason": f"{after} releases it"}
        return super().run(tmp, task_vars)


def runs(stage: str, run_tags: Collection[str], skip_tags: Collection[str]) -> bool:
    """Return whether the tasks of a tag run, by the tags that a run takes and those it skips."""
    return bool({stage, "all", "tagged"} & {*run_tags}) and not (
        {stage, "all", "tagged"} & {*skip_tags}
    )
