# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module as the action host_check does; skip a node that has no checks."""

from __future__ import annotations

from typing import Any

from ansible_collections.muster.serving.plugins.action import host_check
from ansible_collections.muster.serving.plugins.plugin_utils.replica.this_run_io import execute


class ActionModule(host_check.ActionModule):
    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        args = self._task.args
        if args.get("checks") == {} and not args.get("states"):
            return {"skipped": True, "skip_reason": "there is nothing to check"}
        return super().run(tmp, task_vars)

    def call(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return what the module returns, with the lock of this run where the task names one."""
        return execute(self, self._task.args, variables)
