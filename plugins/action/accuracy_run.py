# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller and on one host; plugins/modules/accuracy_run.py has the documentation."""

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
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import not_ready

# How long one look at the harness stays on its host, which its end cuts short.
LOOK_S = 15.0
# How many looks in a row may find the host out of reach: the harness runs on meanwhile.
LOST_LOOKS = 20
LOST_S = 5.0


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "made": {"type": "dict", "required": True},
        "venv": {"type": "path"},
        "lock": {"type": "str", "required": True},
        "python": {"type": "str"},
        "wheels": {"type": "path"},
        "api_key_file": {"type": "path", "no_log": False},
        "request_timeout": {"type": "int", "default": 3600},
        "timeout": {"type": "int", "default": 86400},
        "keep": {"type": "path"},
        "results": {"type": "str"},
    }
    _requires_connection = True

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "check mode: nothing is asked"}
        made = plain(args["made"])
        if args["results"]:
            seen = registered(variables, made["units"], args["results"])
            wrong = not_ready(made["measured"], made["units"], seen)
            if wrong:
                return {"failed": True, "msg": "\n".join(["accuracy asks nothing:", *wrong])}
        self._variables, self._deployment = variables, made["deployment"]
        venv = args["venv"]
        if venv is None:
            show("  the harness's environment (a minute where it is not there yet)")
            options = {name: args[name] for name in ("lock", "python", "wheels")}
            prepared = self._call("prepare", **options)
            if "venv" not in prepared:
                return {"failed": True, "msg": prepared.get("msg", "its host does not answer")}
            venv = prepared["venv"]
        asked = {
            "venv": venv,
            **{name: made[name] for name in ("url", "model", "seed", "concurrency")},
            **{name: args[name] for name in ("request_timeout", "timeout", "api_key_file")},
        }
        done: list[dict[str, Any]] = []
        for number, one in enumerate(made["sets"], 1):
            ended = self._one(one, f"{number} of {len(made['sets'])}", asked, args["keep"])
            if "refused" in ended and not any(end.get("result") for end in done):
                return {"failed": True, "msg": ended["refused"]}
            # What was asked so far is not lost with what comes later.
            done.append(ended)
        return {"sets": done, "venv": venv}

    def _call(self, step: str, **more: Any) -> dict[str, Any]:
        try:
            result: dict[str, Any] = self._execute_module(
                module_name="muster.serving.accuracy_client",
                module_args={"deployment": self._deployment, "step": step, **more},
                task_vars=self._variables,
            )
        except AnsibleConnectionFailure as error:
            # The harness does not need the connection.
            return {"unreachable": True, "msg": str(error)}
        return result

    def _one(
        self, one: Mapping[str, Any], place: str, asked: Mapping[str, Any], keep: str | None
    ) -> dict[str, Any]:
        """Return how one data set's run ended; with refused where it could not be started."""
        expected = f", about {duration(one['expected_s'])}" if one["expected_s"] else ""
        show(f"  {one['name']} ({place}){expected}")
        begin = time.monotonic()
        own = {name: one[name] for name in ("samples", "files", "sampling")}
        started = self._call("start", set=one["name"], **own, **asked)
        if "questions" not in started:
            said = started.get("msg", "its host does not answer")
            return {"problem": said, "refused": said}
        lost = 0
        try:
            while True:
                seen = self._call("look", set=one["name"], wait=LOOK_S, keep=keep)
                waited = time.monotonic() - begin
                if "running" not in seen:
                    lost += 1
                    if lost > LOST_LOOKS:
                        return {"problem": f"its host is lost: {seen.get('msg', 'no answer')}"}
                    time.sleep(LOST_S)
                    continue
                lost = 0
                if not seen["running"]:
                    break
                self._say(started["questions"], seen["printed"], waited)
        finally:
            if lost <= LOST_LOOKS:
                self._call("end")
        kept = ("result", "problem", "kept", "rc", "timed_out", "log")
        return {"seconds": round(waited, 1), **{name: seen[name] for name in kept}}

    @staticmethod
    def _say(questions: int, printed: list[str], waited: float) -> None:
        found = progress_of("\n".join(printed), questions)
        if not found:
            show(f"    {duration(waited)}: it gets ready")
            return
        left = "" if found.left_s is None else f", about {duration(found.left_s)} left"
        show(f"    {duration(waited)}: {found.done} of {found.total} questions{left}")
