# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller and on one node; plugins/modules/bench_sweep.py has the documentation."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.bench import sweep
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import (
    WARM_UP_SEED,
    Client,
    command,
    warm_up,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client_io import ClientRuns
from ansible_collections.muster.serving.plugins.plugin_utils.bench.guidellm import (
    check_environment,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.guidellm_io import Guidellm
from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import devices_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import (
    run_of_client,
    scenario_of,
    target_made,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.scenarios import (
    GUIDELLM,
    TRACE,
    Plan,
    Scenario,
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
        "devices": {"type": "dict", "default": {}},
        "api_key_file": {"type": "path", "no_log": False},
        "timeout": {"type": "int", "default": 7200},
        "venv": {"type": "path"},
        "python": {"type": "str"},
        "wheels": {"type": "path"},
        "lock": {"type": "str"},
        "trace": {"type": "path"},
        "trace_scale": {"type": "float", "default": 1.0},
        "seconds": {"type": "float"},
        "output_dir": {"type": "path", "required": True},
    }
    _requires_connection = True

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, made = plain(args["plan"]), plain(args["made"])
        bounds = sweep.bounds_of(plain(args["bounds"]))
        replicas = made["target"]["replicas"]
        limits = sweep.limits_of(plan, replicas, args["first"], args["most"], args["gain"])
        check_environment(made["tool"], args)
        if not args["trace"]:
            show(
                f"  from {limits.first} to at most {limits.most} requests at once, doubled until "
                f"throughput grows by less than {limits.gain:g} % or a bound breaks"
            )
        if args["results"] and not self._task.check_mode:
            seen = registered(variables, made["units"], args["results"])
            wrong = not_ready(made["target"]["units"], made["units"], seen)
            if wrong:
                return {"failed": True, "msg": "\n".join(["sweep measures nothing:", *wrong])}
        tool: _Own | Guidellm = _Own(plan, made)
        base = scenario_of(made["scenarios"][0])
        if made["tool"] == GUIDELLM:
            tool = Guidellm(self, variables, plan, made, args)
            base = tool.prepare(base)
            made["scenarios"] = [base._asdict()]
        if self._task.check_mode:
            return {"skipped": True, "failures": [], "msg": "check mode: no load is made"}
        client = ClientRuns(self, variables, made, args["api_key_file"], args["every"])
        measured = _Steps(client, tool, bounds, args["timeout"])
        if args["trace"]:
            measured.replay(base)
        else:
            measured.climb(base, limits, args["each"], made["warm_up"])
        if measured.lost:
            return {"failed": True, "msg": measured.lost}
        now = datetime.datetime.now(datetime.UTC)
        stamp = f"{now:%Y%m%dT%H%M%SZ}"
        report = sweep_report(
            plan,
            made,
            measured.steps,
            limits,
            bounds,
            client.about,
            devices_of(plain(args["devices"])),
            now.isoformat(timespec="seconds"),
            tool.keep(args["output_dir"], stamp),
        )
        path = f"{args['output_dir']}/sweep-{stamp}.json"
        write_json(path, report)
        show(sweep_text(report), color="red" if report["ended"] == NO_RESULT else None)
        show(f"sweep: {path}")
        told = {name: value for name, value in report.items() if name != "steps"}
        return {
            "report_file": path,
            "failures": measured.steps[-1]["problems"] if report["ended"] == NO_RESULT else [],
            "ansible_stats": statistics("muster_sweep", {plan["deployment"]: told}),
        }


class _Steps:
    """The steps of a sweep, as they are measured.

    steps are those so far, as the report has them. lost says why not even the first could be run;
    empty where it was.
    """

    def __init__(
        self,
        client: ClientRuns,
        tool: _Own | Guidellm,
        bounds: Mapping[str, float],
        timeout: int,
    ) -> None:
        self.steps: list[dict[str, Any]] = []
        self.lost = ""
        self._client, self._tool = client, tool
        self._bounds, self._timeout = bounds, timeout

    def climb(self, base: Scenario, limits: sweep.Limits, each: int, warms_up: bool) -> None:
        """Raise a load until nothing more is to be learnt, or the client gives nothing.

        More load would not help a client that gave nothing, or an engine that has died.
        """
        widest = 0
        while (concurrency := sweep.next_concurrency(decided(self.steps), limits)) is not None:
            count = len(self.steps)
            one = sweep.load_at(base, concurrency, each, base.seed + count)
            what = f"{base.name} at {concurrency} (step {count + 1})"
            if warms_up and concurrency > widest:
                short = warm_up(one)._replace(seed=WARM_UP_SEED + one.seed)
                self._run(short, f"warm-up of {what}", {})
            widest = max(widest, concurrency)
            run, ended = self._run(one, what, sweep.goodput_of(self._bounds))
            if not self._keep(one, run, ended):
                break

    def replay(self, trace: Scenario) -> None:
        """Make the load of a trace once; its concurrency is what its requests came to."""
        run, ended = self._run(trace, trace.name, sweep.goodput_of(self._bounds))
        self._keep(trace, run, ended)

    def _run(
        self, one: Scenario, what: str, goodput: Mapping[str, float]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a run of the client and how it ended."""
        run = run_of_client(one, 1, one.seed, self._tool.command(one, goodput), None)
        return run, self._client.one(run, what, self._timeout)

    def _keep(self, one: Scenario, run: Mapping[str, Any], ended: dict[str, Any]) -> bool:
        """Keep a run as a step; return whether its client gave a result."""
        if "msg" in ended and not self.steps:
            self.lost = ended["msg"]
            return False
        ended = self._tool.read(ended)
        if one.dataset == TRACE and ended["raw"]:
            one = one._replace(concurrency=max(1, round(ended["raw"]["concurrency"])))
        self.steps.append(step_of(one, run, ended, self._bounds))
        return bool(ended["raw"])


class _Own:
    """The engine's own client, as Guidellm is one."""

    def __init__(self, plan: Plan, made: Mapping[str, Any]) -> None:
        self._told = plan, Client(**made["client"]), target_made(plan, made)

    def command(self, one: Scenario, goodput: Mapping[str, float]) -> list[str]:
        return command(*self._told, one, one.seed, goodput)

    def read(self, ended: dict[str, Any]) -> dict[str, Any]:
        return ended

    def keep(self, _folder: str, _stamp: str) -> None:
        return None
