# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/replica_decision.py has the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.units.names import (
    gateways_of,
    group_text,
    is_gateway,
    service,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import (
    checks_of,
    decide,
    groups_of,
    of_kind,
    removable,
    stale_links,
    start_text,
    without_environment,
)

display = Display()


def _left_alone(group: str, cluster: str, restart: str, verdict: dict[str, Any]) -> str:
    """Return what an operator should know of a group that runs otherwise than planned."""
    return (
        f"{group_text(group)} of {cluster} runs on as it is (muster_restart: {restart}), though "
        f"{'; '.join(verdict['reasons'])}. To take this over: {_take_over(cluster)}"
    )


def _take_over(cluster: str) -> str:
    return f"ansible-playbook playbooks/serve.yml -l {cluster} -e muster_restart=now"


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "results": {"type": "str", "required": True},
        "asked": {"type": "str", "default": ""},
        "restart": {"type": "str", "choices": ["now", "stage", "never"]},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, host = args["plan"], variables["inventory_hostname"]
        own = [unit for unit in plan["units"] if unit["host"] == host]

        mine = self._observed(variables, [host], args["results"])[0]
        groups = groups_of(plan["units"], host)
        # What start leaves out stays as it is.
        known = plan.get("left_out", [])
        restart = args["restart"] or plan.get("restart", "now")
        links = [link for link in plan["links"] if link["host"] == host]
        starting, staying, wait, reasons = set(), set(), False, []
        stale = []
        for group, hosts in groups.items():
            units = [unit for unit in plan["units"] if unit["group"] == group]
            observed = self._observed(variables, hosts, args["results"])
            reports = {report["name"]: report for seen in observed for report in seen["units"]}
            former = [name for seen in observed for name in seen["orphans"] if name not in known]
            gone = bool(of_kind(former, group))
            # A gateway has no state that a restart would mend.
            asked = "" if is_gateway(group) else args["asked"]
            verdict = decide(units, reports, restart, gone, asked)
            reasons += verdict["reasons"]
            wait = wait or verdict["wait"]
            if verdict["stays"]:
                staying.add(group)
                if host == hosts[0]:
                    display.warning(_left_alone(group, plan["deployment"], restart, verdict))
            if verdict["start"]:
                starting.add(group)
                if host == hosts[0]:
                    for line in start_text(group, plan["deployment"], hosts, verdict):
                        show(redaction.line(line))
                missing = without_environment([reports[unit["name"]] for unit in units])
                if missing and not self._task.check_mode:
                    raise AnsibleActionFail(
                        f"{', '.join(missing)}: the environment to start from is not there or not "
                        "finished, so nothing was stopped. Run playbooks/prepare.yml first"
                    )
            if group not in starting | staying:
                own_links = [link for link in links if link["group"] == group]
                seen = dict(zip(hosts, observed, strict=True))
                stale += stale_links(own_links, host, seen, str(self._task._uuid))
        present = [name for name in mine["orphans"] if name not in known] if own else []
        orphans = removable(present, starting, staying, restart)
        kept = [name for name in present if name not in orphans]
        if kept:
            display.warning(
                f"{', '.join(kept)} on {host} stays as it is (muster_restart: {restart}), though "
                f"no longer planned. To remove it: {_take_over(plan['deployment'])}"
            )
        reasons += [f"{name} is no longer planned" for name in orphans]
        if orphans:
            show(f"{', '.join(orphans)} on {host} is removed: it is no longer planned")

        start_units = [unit for unit in own if unit["group"] in starting]
        start_links = [link for link in links if link["group"] in starting]
        read_units = [
            unit
            for unit in own
            if unit["group"] in starting or (unit["group"] in staying and restart == "stage")
        ]
        going = {one["systemd_unit"] for one in (*start_units, *start_links)}
        going |= {service(name) for name in orphans}
        return {
            "start": bool(starting or orphans),
            "stop": not going.isdisjoint(mine["installed"]["running"]),
            "wait": bool(starting) or wait,
            "reasons": reasons,
            # Equal on all hosts of this task, and new in every run.
            "start_id": str(self._task._uuid),
            "stays": sorted(staying),
            "gateway_gone": bool(gateways_of(orphans)),
            "hosts": {group: hosts for group, hosts in groups.items() if group not in staying},
            "units": [unit for unit in own if unit["group"] not in staying],
            "links": links,
            "read_units": read_units,
            "parser_checks": checks_of(read_units, mine.get("parser_checks")),
            "start_units": start_units,
            "start_links": start_links,
            "stale_links": stale,
            "orphans": orphans,
            "restarts_before": {
                report["name"]: report["restarts"]
                for report in mine["units"]
                if report["group"] not in starting
            },
        }

    def _observed(
        self, variables: dict[str, Any], hosts: list[str], register: str
    ) -> list[dict[str, Any]]:
        """Return what unit_info tells of each of the hosts.

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
        results = [variables["hostvars"][host][register] for host in hosts]
        return [dict(one["states"]["unit"] if "states" in one else one) for one in results]
