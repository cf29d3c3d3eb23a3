# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module on the node, and let what it keeps say by whom and by what run."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.muster.serving.plugins.plugin_utils.replica.this_run_io import this_run


class ActionModule(ActionBase):
    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        run = this_run(task_vars or {})
        args = {**self._task.args, "by": f"{run['doing']} by {run['who']}"}
        result.update(self._execute_module(module_args=args, task_vars=task_vars))
        return result
