# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/replica_decision.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.units.names import gateways_of
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import (
    checks_of,
    decide_host,
    groups_of,
)

display = Display()


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "results": {"type": "str", "required": True},
        "asked": {"type": "str", "default": ""},
        "restart": {"type": "str", "choices": ["now", "stage", "never"]},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, host = args["plan"], variables["inventory_hostname"]
        # Equal on all hosts of this task, and new in every run.
        start_id = str(self._task._uuid)
        restart = args["restart"] or plan.get("restart", "now")
        seen = self._observed(variables, [host], args["results"])
        for hosts in groups_of(plan["units"], host).values():
            seen.update(self._observed(variables, hosts, args["results"]))
        made = decide_host(plan, host, seen, restart, args["asked"], start_id)
        for text, warning in made.told:
            if warning:
                display.warning(text)
            else:
                show(redaction.line(text))
        if made.failure and not self._task.check_mode:
            raise AnsibleActionFail(made.failure)
        read_units = made.read_units(restart)
        mine = seen[host]
        return {
            "start": bool(made.starting or made.orphans),
            "stop": made.stops(mine["installed"]["running"]),
            "wait": made.wait,
            "reasons": made.reasons,
            "start_id": start_id,
            "stays": sorted(made.staying),
            "gateway_gone": bool(gateways_of(made.orphans)),
            "hosts": {
                group: hosts for group, hosts in made.groups.items() if group not in made.staying
            },
            "units": [unit for unit in made.units if unit["group"] not in made.staying],
            "links": made.links,
            "read_units": read_units,
            "parser_checks": checks_of(read_units, mine.get("parser_checks")),
            "start_units": made.start_units,
            "start_links": made.start_links,
            "stale_links": made.stale_links,
            "orphans": made.orphans,
            "restarts_before": {
                report["name"]: report["restarts"]
                for report in mine["units"]
                if report["group"] not in made.starting
            },
        }

    def _observed(
        self, variables: dict[str, Any], hosts: list[str], register: str
    ) -> dict[str, dict[str, Any]]:
        """Return by host what unit_info tells of each.

        Raises:
            AnsibleActionFail: A host has left the play, so the replica must be left as it is.
        """
        active = set(variables["ansible_play_hosts"])
        gone = [host for host in hosts if host not in active]
        if gone:
            raise AnsibleActionFail(
                f"{', '.join(gone)} left the play (its own error stands above) and holds units of "
                "the same replica: nothing was stopped or started here. Mend it and run again"
            )
        results = {host: variables["hostvars"][host][register] for host in hosts}
        return {
            host: dict(one["states"]["unit"] if "states" in one else one)
            for host, one in results.items()
        }
