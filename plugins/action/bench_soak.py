# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller and on one node; plugins/modules/bench_soak.py has the documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.bench import soak
from ansible_collections.muster.serving.plugins.plugin_utils.bench.binding import summary_of
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client import Client, command
from ansible_collections.muster.serving.plugins.plugin_utils.bench.client_io import ClientRuns
from ansible_collections.muster.serving.plugins.plugin_utils.bench.measured import (
    Metrics,
    metrics_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.progress import duration
from ansible_collections.muster.serving.plugins.plugin_utils.bench.runs import (
    run_of_client,
    scenario_of,
    target_made,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import not_ready

# A window may take so many times as long as it should, and what the client needs to begin.
PATIENCE = 10


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "plan": {"type": "dict", "required": True},
        "made": {"type": "dict", "required": True},
        "duration": {"type": "int", "required": True},
        "window": {"type": "int", "default": 60},
        "stall": {"type": "int", "default": 60},
        "every": {"type": "float", "default": 2.0},
        "results": {"type": "str"},
        "api_key_file": {"type": "path", "no_log": False},
    }
    _requires_connection = True

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        plan, made = plain(args["plan"]), plain(args["made"])
        wanted = soak.soak_of(args["duration"], args["window"], args["stall"])
        base = scenario_of(made["scenarios"][0])
        show(f"  {base.concurrency} requests at once for {duration(wanted.duration)}")
        if self._task.check_mode:
            return {"skipped": True, "msg": "check mode: no load is made"}
        if args["results"]:
            seen = registered(variables, made["units"], args["results"])
            wrong = not_ready(made["target"]["units"], made["units"], seen)
            if wrong:
                return {"failed": True, "msg": "\n".join(["soak loads nothing:", *wrong])}
        client = ClientRuns(self, variables, made, args["api_key_file"], args["every"])
        program, target = Client(**made["client"]), target_made(plan, made)
        timeout = round(PATIENCE * wanted.window + soak.PREPARES_S)
        begin = time.monotonic()
        windows: list[dict[str, Any]] = []
        event: soak.Event | None = None
        last: Metrics | None = None
        kept: list[dict[str, Any]] = []
        while event is None:
            left = wanted.duration - (time.monotonic() - begin)
            one = soak.window_load(base, last, len(windows), wanted, left)
            if one is None:
                break
            argv = command(plan, program, target, one, one.seed)
            run = run_of_client(one, len(windows) + 1, one.seed, argv, None)
            until = partial(_happened, kept, wanted.stall)
            began = time.time()
            what = f"window {len(windows) + 1}, {one.requests} requests, {duration(left)} left"
            ended = client.one(run, what, timeout, until)
            if "msg" in ended and not windows:
                return {"failed": True, "msg": ended["msg"]}
            metrics = metrics_of(ended["raw"] or {})
            event = until(ended["samples"]) or soak.window_event(one, metrics, ended, time.time())
            failed = soak.failed_of(one, metrics)
            windows.append(window_of(run, ended, metrics, failed, began, event))
            last, kept = metrics, ended["samples"][-1:]
        return {
            "windows": windows,
            "event": event._asdict() if event else None,
            "soak": wanted._asdict(),
            "seconds": round(time.monotonic() - begin, 1),
            "image_id": client.about["image_id"],
            "image_digests": client.about["image_digests"],
        }


def window_of(
    run: Mapping[str, Any],
    ended: Mapping[str, Any],
    metrics: Metrics,
    failed: int,
    began: float,
    event: soak.Event | None,
) -> dict[str, Any]:
    """Return a window as the report has it; one that ended the soak says more."""
    return {
        "begin": began,
        "end": time.time(),
        "requests": run["requests"],
        # Where it was cut short, nobody knows.
        "failed": failed if metrics else 0,
        "seed": run["seed"],
        "argv": run["argv"],
        "rc": ended["rc"],
        "metrics": metrics,
        "engine": summary_of(ended["samples"]),
        "samples": ended["samples"] if event else [],
        "log": ended["log"] if event else None,
    }


def _happened(
    kept: list[dict[str, Any]], stall: float, samples: list[dict[str, Any]]
) -> soak.Event | None:
    """Return what has happened to the engines, from the samples of a run and what was before it."""
    return soak.event_of([*kept, *samples], stall)
