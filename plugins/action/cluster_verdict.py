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
from ansible_collections.muster.serving.plugins.plugin_utils.verdict import (
    comparison,
    results,
    table,
    verdict,
    waivers,
)

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
        modules, hosts = plain(args["results"]), plain(args["hosts"])
        found = {
            host: {name: plain(variables["hostvars"][host].get(name)) for name in modules}
            for host in hosts
        }
        every = [result for mine in found.values() for result in mine.values()]
        if all(result and result.get("skipped") for result in every):
            nothing = f"{args['stage']}: no host of this run had anything to check"
            if args["required"]:
                raise AnsibleActionFail(f"{nothing}; widen -l to hosts of a replica or gateway")
            return {"skipped": True, "blocked_hosts": [], "msg": nothing}

        now = datetime.datetime.now(datetime.UTC)
        checks = results.collect(hosts, found, modules)
        facts = results.collect_facts(found)
        replicas = plain(args["replicas"] or [hosts])
        checks += comparison.compare(facts, replicas, checks)
        checks = results.with_hosts(checks, variables.get("ansible_limit"))
        checks.sort(key=lambda one: hosts.index(one["host"]))
        allowed = waivers.parse_waivers(plain(args["waivers"]))
        checks, expired = waivers.apply_waivers(checks, allowed, now.date())
        for line in expired:
            display.warning(line)
        checks = verdict.with_pages(checks)
        failed = verdict.failed_hosts(checks)
        result: dict[str, Any] = {
            "checks": checks,
            "counts": verdict.count(checks),
            "failed_hosts": failed,
            "failures": verdict.failures(checks),
            "blocked_hosts": verdict.blocked_hosts(failed, replicas) if args["gate"] else [],
            "expired_waivers": expired,
        }
        report = {
            "schema": 1,
            "stage": args["stage"],
            "time": now.isoformat(timespec="seconds"),
            "passed": not failed,
            **{key: result[key] for key in ("counts", "failed_hosts", "expired_waivers")},
        }
        told = [one for one in checks if one["status"] != "ok"]
        result["ansible_stats"] = statistics(f"muster_{args['stage']}", {**report, "checks": told})
        shown = results.pick(found, args["show"])
        summary = table.sentence(args["stage"], checks)
        if args["report_file"]:
            write_json(
                args["report_file"], {**report, "checks": checks, "facts": facts, "results": shown}
            )
            result["report_file"] = args["report_file"]
            summary += f" (report: {args['report_file']})"
        _show(checks, shown, bool(failed))
        show(summary)
        return {**result, "msg": summary}


def _show(checks: list[dict[str, str]], shown: dict[str, dict[str, Any]], failed: bool) -> None:
    """Print what is not fine with its remedies, and the values that were asked for."""
    width = shutil.get_terminal_size((120, 25)).columns
    text = table.table(checks, width)
    if text:
        show(text, color="red" if failed else "yellow")
    if shown:
        show(table.listing(shown, width))
