# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the controller alone; see plugins/modules/start_plan.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.muster.serving.plugins.plugin_utils import verified
from ansible_collections.muster.serving.plugins.plugin_utils.report import plain


class ActionModule(ActionBase):
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "deployment": {"type": "str", "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "register": {"type": "str", "required": True},
            }
        )
        hostvars = (task_vars or {})["hostvars"]
        seen = {host: plain(hostvars[host].get(args["register"]) or {}) for host in args["hosts"]}
        plan, problems = verified.merge(args["deployment"], seen)
        result.update(changed=False, plan=plan, problems=problems)
        return result
