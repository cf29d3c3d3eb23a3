# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller; plugins/modules/bench_plan.py has the documentation."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.bench.baseline_io import read_baseline
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import (
    Wish,
    announcement,
    commands,
    runs_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.errors import PlanError
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.tables import columns
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain

LOAD = {
    "name": {"type": "str", "required": True},
    "dataset": {"type": "str", "choices": ["random", "prefix_repetition"], "default": "random"},
    "input": {"type": "int", "required": True},
    "output": {"type": "int", "required": True},
    "lengths": {"type": "str", "choices": ["exact", "up_to"], "default": "exact"},
    "prefix": {"type": "int"},
    "prefixes": {"type": "int"},
    "concurrency": {"type": "int", "required": True},
    "prompts": {"type": "int", "required": True},
    "seed": {"type": "int"},
    "max_num_seqs": {"type": "int"},
}


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
        "scenarios": {"type": "list", "elements": "str", "default": []},
        "custom": {"type": "list", "elements": "dict", "options": LOAD, "default": []},
        "repetitions": {"type": "int", "default": 1},
        "warm_up": {"type": "bool", "default": True},
        "through": {"type": "str", "choices": ["replica", "gateway"], "default": "replica"},
        "replica": {"type": "int"},
        "client": {"type": "str"},
        "image": {"type": "str"},
        "texts": {"type": "path"},
        "single": {"type": "bool", "default": False},
        "tool": {"type": "str", "choices": ["engine", "guidellm"], "default": "engine"},
        "trace": {"type": "path"},
        "tolerance": {"type": "float", "default": 3.0},
        "baseline": {"type": "path"},
    }

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, tolerance, baseline = (args.pop(name) for name in ("plan", "tolerance", "baseline"))
        if tolerance < 0:
            raise PlanError(["bench_tolerance has to be 0 or more percent"])
        if baseline:
            read_baseline(baseline)
        plan = plain(plan)
        made = runs_of(plan, Wish(**plain(args)))
        rows, told = announcement(made)
        show(f"{made['deployment']}: from {made['client_host']} against {made['target']['url']}")
        show("\n".join(columns(rows)))
        for text in told:
            show(f"  {text}", color="yellow")
        if self._task.check_mode:
            would_be = commands(made)
            show(f"  check mode: nothing of it is run{'. It would be:' if would_be else ''}")
            for command in would_be:
                show(f"    {command}")
        return {"made": made, "begun": f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"}
