# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/start_plan.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica import verified

display = Display()


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "hosts": {"type": "list", "elements": "str", "required": True},
        "results": {"type": "str", "required": True},
        "planned": {"type": "dict"},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        seen = registered(variables, args["hosts"], args["results"])
        plan, problems = verified.merge(verified.deployment_of(seen), seen)
        planned = plain(args["planned"])
        if planned and planned.get("plan"):
            differing = verified.changes(plan, planned["plan"])
            if differing:
                display.warning(
                    f"the inventory plans otherwise by now: {', '.join(differing)} as verified."
                    " playbooks/serve.yml starts what the inventory plans"
                )
        elif planned is not None:
            display.warning("there are no checks, since the inventory makes no plan (see above)")
        floating = {
            unit["host"]: unit["floating"] for unit in plan["units"] if unit.get("floating")
        }
        return {
            "plan": plan,
            "parts": {host: verified.part_of(plan, host) for host in args["hosts"]},
            "problems": problems,
            "floating": floating,
        }
