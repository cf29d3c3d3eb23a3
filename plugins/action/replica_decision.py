# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the controller alone; see plugins/modules/replica_decision.py for the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import (
    decide,
    groups_of,
    without_environment,
)


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "results": {"type": "str", "required": True},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, host = args["plan"], variables["inventory_hostname"]
        own = [unit for unit in plan["units"] if unit["host"] == host]

        mine = variables["hostvars"][host][args["results"]]
        groups = groups_of(plan["units"], host)
        starting, wait, reasons = set(), False, []
        for replica, hosts in groups.items():
            units = [unit for unit in plan["units"] if unit["replica"] == replica]
            observed = self._observed(variables, hosts, args["results"])
            reports = {report["name"]: report for seen in observed for report in seen["units"]}
            verdict = decide(units, reports)
            reasons += verdict["reasons"]
            wait = wait or verdict["wait"]
            if verdict["start"]:
                starting.add(replica)
                missing = without_environment([reports[unit["name"]] for unit in units])
                if missing and not self._task.check_mode:
                    raise AnsibleActionFail(
                        f"{', '.join(missing)}: the environment to start from is not there or not "
                        "finished, so nothing was stopped. Run playbooks/prepare.yml first"
                    )
        # What start leaves out stays as it is.
        known = plan.get("left_out", [])
        orphans = [name for name in mine["orphans"] if name not in known] if own else []
        reasons += [f"{name} is no longer planned" for name in orphans]

        links = [link for link in plan["links"] if link["host"] == host]
        return {
            "start": bool(starting or orphans),
            "wait": bool(starting) or wait,
            "reasons": reasons,
            # Equal on all hosts of this task, and new in every run.
            "start_id": str(self._task._uuid),
            "hosts": {str(replica): hosts for replica, hosts in groups.items()},
            "units": own,
            "links": links,
            "start_units": [unit for unit in own if unit["replica"] in starting],
            "start_links": [link for link in links if link["replica"] in starting],
            "orphans": orphans,
            "restarts_before": {
                report["name"]: report["restarts"]
                for report in mine["units"]
                if report["replica"] not in starting
            },
        }

    def _observed(
        self, variables: dict[str, Any], hosts: list[str], register: str
    ) -> list[dict[str, Any]]:
        """What unit_info said on each of the hosts.

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
        return [dict(variables["hostvars"][host][register]) for host in hosts]
