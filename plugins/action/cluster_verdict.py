# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/cluster_verdict.py has the documentation."""

from __future__ import annotations

import datetime
import shutil
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    statistics,
    write_json,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.verdict import verdict

display = Display()


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "hosts": {"type": "list", "elements": "str", "required": True},
        "results": {"type": "dict", "required": True},
        "replicas": {"type": "list", "elements": "list"},
        "waivers": {"type": "dict", "default": {}},
        "stage": {"type": "str", "required": True},
        "report_file": {"type": "path"},
        "show": {"type": "list", "elements": "str", "default": []},
        "gate": {"type": "bool", "default": True},
        "required": {"type": "bool", "default": False},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        hostvars = variables["hostvars"]
        modules = plain(args["results"])
        hosts = plain(args["hosts"])
        replicas = plain(args["replicas"] or [hosts])
        results = {
            host: {register: plain(hostvars[host].get(register)) for register in modules}
            for host in hosts
        }
        every = [result for mine in results.values() for result in mine.values()]
        if all(result and result.get("skipped") for result in every):
            nothing = f"{args['stage']}: no host of this run had anything to check"
            if args["required"]:
                raise AnsibleActionFail(f"{nothing}; widen -l to hosts of a replica or gateway")
            return {"skipped": True, "blocked_hosts": [], "msg": nothing}
        today = datetime.datetime.now(datetime.UTC).date()
        try:
            waivers = verdict.parse_waivers(plain(args["waivers"]))
        except verdict.VerdictError as error:
            raise AnsibleActionFail(str(error)) from None

        checks = verdict.collect(hosts, results, modules)
        facts = verdict.collect_facts(results)
        checks += verdict.compare(facts, replicas, checks)
        checks = verdict.with_hosts(checks, variables.get("ansible_limit"))
        checks.sort(key=lambda one: hosts.index(one["host"]))
        checks, expired = verdict.apply_waivers(checks, waivers, today)
        checks = verdict.with_pages(checks)
        for line in expired:
            display.warning(line)
        failed = verdict.failed_hosts(checks)
        blocked = verdict.blocked_hosts(failed, replicas)
        shown = verdict.pick(results, args["show"])

        result: dict[str, Any] = {
            "checks": checks,
            "counts": verdict.count(checks),
            "failed_hosts": failed,
            "failures": [
                f"{one['host']}: {one['id']} ({one['subject']})"
                for one in checks
                if one["status"] == "failed"
            ],
            "blocked_hosts": blocked if args["gate"] else [],
            "expired_waivers": expired,
        }
        summary = verdict.sentence(args["stage"], checks)
        report = {
            "schema": 1,
            "stage": args["stage"],
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "passed": not failed,
            **{key: result[key] for key in ("counts", "failed_hosts", "expired_waivers")},
        }
        told = [one for one in checks if one["status"] != "ok"]
        result["ansible_stats"] = statistics(f"muster_{args['stage']}", {**report, "checks": told})
        if args["report_file"]:
            report.update(checks=checks, facts=facts, results=shown)
            write_json(args["report_file"], report)
            result["report_file"] = args["report_file"]
            summary += f" (report: {args['report_file']})"

        width = shutil.get_terminal_size((120, 25)).columns
        text = verdict.table(checks, width)
        if text:
            show(text, color="red" if failed else "yellow")
        if shown:
            show(verdict.listing(shown, width))
        result["msg"] = summary
        show(summary)
        return result
