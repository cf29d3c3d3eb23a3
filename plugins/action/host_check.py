# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module on the node and compare the node's clock with the controller's."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.muster.serving.plugins.plugin_utils.verdict.clock import note_clock_offset


class ActionModule(ActionBase):
    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        sent = time.time()
        result.update(self.call(task_vars or {}))
        note_clock_offset(result, sent, received=time.time())
        return result

    def call(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return what the module returns."""
        result: dict[str, Any] = self._execute_module(task_vars=variables)
        return result
