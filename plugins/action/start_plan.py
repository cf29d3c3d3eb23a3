# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the controller alone; see plugins/modules/start_plan.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica import verified

display = Display()


class ActionModule(ActionBase):
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "hosts": {"type": "list", "elements": "str", "required": True},
                "results": {"type": "str", "required": True},
                "planned": {"type": "dict", "required": True},
            }
        )
        hostvars = (task_vars or {})["hostvars"]
        seen = {host: plain(hostvars[host].get(args["results"]) or {}) for host in args["hosts"]}
        try:
            plan, problems = verified.merge(verified.deployment_of(seen), seen)
        except PlanError as error:
            raise AnsibleActionFail(str(error)) from None
        planned = plain(args["planned"])
        if planned.get("plan"):
            differing = verified.changes(plan, planned["plan"])
            if differing:
                display.warning(
                    f"the inventory plans otherwise by now: {', '.join(differing)} as verified."
                    " playbooks/serve.yml starts what the inventory plans"
                )
        else:
            display.warning("there are no checks, since the inventory makes no plan (see above)")
        result.update(changed=False, plan=plan, problems=problems)
        return result
