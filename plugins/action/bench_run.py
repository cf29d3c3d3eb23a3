# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller and on one node; plugins/modules/bench_run.py has the documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.muster.serving.plugins.plugin_utils.bench.progress import (
    duration,
    progress_of,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import (
    problems,
    under_way,
)

# How long one look at the client stays on the node, which its end cuts short.
LOOK_S = 15.0
# How many looks in a row may find the node out of reach: the client runs on meanwhile.
LOST_LOOKS = 20
LOST_S = 5.0


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "made": {"type": "dict", "required": True},
        "api_key_file": {"type": "path", "no_log": False},
        "timeout": {"type": "int", "default": 7200},
        "results": {"type": "str"},
    }
    _requires_connection = True

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "check mode: no load is made"}
        made = plain(args["made"])
        if args["results"]:
            seen = registered(variables, made["units"], args["results"])
            wrong = not_ready(made, seen)
            if wrong:
                return {"failed": True, "msg": "\n".join(["bench measures nothing:", *wrong])}
        self._variables = variables
        self._options = {
            "folder": made["client"]["folder"],
            "container": made["client"]["container"],
            "owner": made["client"]["owner"],
            "image": made["client"]["image"],
            "api_key_file": args["api_key_file"],
            "metrics_urls": made["target"]["metrics"],
            "timeout": args["timeout"],
        }
        done: list[dict[str, Any] | None] = []
        about: dict[str, Any] = {"image_id": None, "image_digests": None}
        broken: set[str] = set()
        for number, run in enumerate(made["runs"], 1):
            if run["scenario"] in broken:
                done.append(None)
                continue
            ended = self._one(run, f"{number} of {len(made['runs'])}", about)
            if "msg" in ended and not any(done):
                return {"failed": True, "msg": ended["msg"]}
            # What was measured so far is not lost with a node.
            done.append(ended)
            if not run["repetition"] and (ended["rc"] != 0 or not ended["raw"]):
                broken.add(run["scenario"])
        return {
            "runs": done,
            "image_id": about["image_id"],
            "image_digests": about["image_digests"],
        }

    def _call(self, step: str, **more: Any) -> dict[str, Any]:
        try:
            result: dict[str, Any] = self._execute_module(
                module_name="muster.serving.bench_client",
                module_args={**self._options, "step": step, **more},
                task_vars=self._variables,
            )
        except AnsibleConnectionFailure as error:
            # The client does not need the connection.
            return {"unreachable": True, "msg": str(error)}
        return result

    def _one(self, run: Mapping[str, Any], place: str, about: dict[str, Any]) -> dict[str, Any]:
        """Return how one run of the client ended; with msg where it could not be run."""
        kind = f"repetition {run['repetition']}" if run["repetition"] else "warm-up"
        what = f"{run['scenario']}, {kind} (run {place})"
        expected = run["expected_s"]
        show(f"  {what}" + (f", about {duration(expected)}" if expected else ""))
        begin = time.monotonic()
        started = self._call("start", argv=run["argv"])
        if started.get("failed") or started.get("unreachable"):
            return _nothing(what, started)
        about.update({name: started.get(name) for name in about})
        lost = 0
        try:
            while True:
                seen = self._call("look", wait=LOOK_S)
                if seen.get("failed") or seen.get("unreachable"):
                    lost += 1
                    if lost > LOST_LOOKS:
                        return _nothing(what, seen)
                    time.sleep(LOST_S)
                    continue
                lost = 0
                waited = time.monotonic() - begin
                if not seen["running"]:
                    break
                self._say(run, seen["printed"], waited)
        finally:
            if lost <= LOST_LOOKS:
                self._call("end")
        return {
            "seconds": round(waited, 1),
            **{name: seen[name] for name in ("rc", "timed_out", "raw", "log")},
            "cache_before": started["cache"],
            "cache_after": seen["cache"],
        }

    @staticmethod
    def _say(run: Mapping[str, Any], printed: list[str], waited: float) -> None:
        found = progress_of("\n".join(printed), run["requests"])
        if not found:
            show(f"    {duration(waited)}: the first requests are under way")
            return
        left = "" if found.left_s is None else f", about {duration(found.left_s)} left"
        show(f"    {duration(waited)}: {found.done} of {found.total} requests{left}")


def not_ready(made: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Return why what runs is not what a figure would be of, a line each."""
    own = set(made["target"]["units"])
    units = [unit for here in made["units"].values() for unit in here if unit["name"] in own]
    # What else is installed there is no part of what is measured.
    alone = {
        host: {**one, **({"orphans": []} if "units" in one else {})} for host, one in seen.items()
    }
    found = [*problems(units, alone), *(f"a run is under way: {run}" for run in under_way(seen))]
    if not found:
        return []
    return [*(f"- {text}" for text in found), "serve.yml brings up what is not as planned"]


def _nothing(what: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the end of a run that the node gave no result of."""
    said = f"{what}: {answer.get('msg', 'the node does not answer')}"
    nothing = dict.fromkeys(("seconds", "rc", "raw", "cache_before", "cache_after"))
    return {**nothing, "timed_out": False, "log": [said], "msg": said}
