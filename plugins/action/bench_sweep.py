# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller and on one node; plugins/modules/bench_sweep.py has the documentation."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.bench import sweep
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import (
    WARM_UP_SEED,
    Client,
    command,
    warm_up,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client_io import ClientRuns
from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import devices_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import (
    run_of_client,
    scenario_of,
    target_made,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.sweep_report import (
    NO_RESULT,
    decided,
    step_of,
    sweep_report,
    sweep_text,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.report_io import (
    statistics,
    write_json,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import not_ready


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "made": {"type": "dict", "required": True},
        "bounds": {"type": "dict", "default": {}},
        "first": {"type": "int", "default": 1},
        "most": {"type": "int"},
        "each": {"type": "int", "default": 5},
        "gain": {"type": "float", "default": 5.0},
        "every": {"type": "float", "default": 2.0},
        "results": {"type": "str"},
        "devices": {"type": "list", "elements": "dict", "default": []},
        "api_key_file": {"type": "path", "no_log": False},
        "timeout": {"type": "int", "default": 7200},
        "output_dir": {"type": "path", "required": True},
    }
    _requires_connection = True

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, made = plain(args["plan"]), plain(args["made"])
        bounds = sweep.bounds_of(plain(args["bounds"]))
        replicas = made["target"]["replicas"]
        limits = sweep.limits_of(plan, replicas, args["first"], args["most"], args["gain"])
        show(
            f"  from {limits.first} to at most {limits.most} requests at once, doubled until "
            f"throughput grows by less than {limits.gain:g} % or a bound breaks"
        )
        if self._task.check_mode:
            return {"skipped": True, "failures": [], "msg": "check mode: no load is made"}
        if args["results"]:
            seen = registered(variables, made["units"], args["results"])
            wrong = not_ready(made["target"]["units"], made["units"], seen)
            if wrong:
                return {"failed": True, "msg": "\n".join(["sweep measures nothing:", *wrong])}
        client = ClientRuns(self, variables, made, args["api_key_file"], args["every"])
        steps: list[dict[str, Any]] = []
        base = scenario_of(made["scenarios"][0])
        widest = 0
        while (concurrency := sweep.next_concurrency(decided(steps), limits)) is not None:
            one = sweep.load_at(base, concurrency, args["each"], base.seed + len(steps))
            what = f"{base.name} at {concurrency} (step {len(steps) + 1})"
            if made["warm_up"] and concurrency > widest:
                short = warm_up(one)._replace(seed=WARM_UP_SEED + one.seed)
                run = self._run(plan, made, short, {})
                client.one(run, f"warm-up of {what}", args["timeout"])
            widest = max(widest, concurrency)
            run = self._run(plan, made, one, sweep.goodput_of(bounds))
            ended = client.one(run, what, args["timeout"])
            if "msg" in ended and not steps:
                return {"failed": True, "msg": ended["msg"]}
            steps.append(step_of(one, run, ended, bounds))
            if not ended["raw"]:
                # More load would not help a client that gave nothing, or an engine that has died.
                break
        now = datetime.datetime.now(datetime.UTC)
        report = sweep_report(
            plan,
            made,
            steps,
            limits,
            bounds,
            client.about,
            devices_of(plain(args["devices"])),
            now.isoformat(timespec="seconds"),
        )
        path = f"{args['output_dir']}/sweep-{now:%Y%m%dT%H%M%SZ}.json"
        write_json(path, report)
        show(sweep_text(report), color="red" if report["ended"] == NO_RESULT else None)
        show(f"sweep: {path}")
        told = {name: value for name, value in report.items() if name != "steps"}
        return {
            "report_file": path,
            "failures": steps[-1]["problems"] if report["ended"] == NO_RESULT else [],
            "ansible_stats": statistics("muster_sweep", {plan["deployment"]: told}),
        }

    @staticmethod
    def _run(plan: Any, made: Any, one: Any, goodput: dict[str, float]) -> dict[str, Any]:
        """Return the client's run of a load."""
        client, target = Client(**made["client"]), target_made(plan, made)
        argv = command(plan, client, target, one, one.seed, goodput)
        return run_of_client(one, 1, one.seed, argv, None)
