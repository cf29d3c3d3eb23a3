# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller and on one host; plugins/modules/accuracy_run.py has the documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.muster.serving.plugins.plugin_utils.bench.detached_io import (
    Detached,
    say_progress,
)
from ansible_collections.muster.serving.plugins.plugin_utils.bench.progress import duration
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
    registered,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import plain
from ansible_collections.muster.serving.plugins.plugin_utils.replica.status import not_ready


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
        options = {"deployment": made["deployment"]}
        harness = Detached(self, "muster.serving.accuracy_client", options, variables)
        venv = args["venv"]
        if venv is None:
            show("  the harness's environment (a minute where it is not there yet)")
            needs = {name: args[name] for name in ("lock", "python", "wheels")}
            prepared = harness.call("prepare", **needs)
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
            place = f"{number} of {len(made['sets'])}"
            ended = _answered(harness, one, place, asked, args["keep"])
            if "refused" in ended and not any(end.get("result") for end in done):
                return {"failed": True, "msg": ended["refused"]}
            # What was asked so far is not lost with what comes later.
            done.append(ended)
        return {"sets": done, "venv": venv}


def _answered(
    harness: Detached,
    one: Mapping[str, Any],
    place: str,
    asked: Mapping[str, Any],
    keep: str | None,
) -> dict[str, Any]:
    """Return how one data set's run ended; with refused where it could not be started."""
    expected = f", about {duration(one['expected_s'])}" if one["expected_s"] else ""
    show(f"  {one['name']} ({place}){expected}")
    begin = time.monotonic()
    own = {name: one[name] for name in ("samples", "files", "sampling")}
    started = harness.call("start", set=one["name"], **own, **asked)
    if "questions" not in started:
        said = started.get("msg", "its host does not answer")
        return {"problem": said, "refused": said}

    waited = 0.0

    def goes_on(seen: dict[str, Any]) -> bool:
        nonlocal waited
        waited = time.monotonic() - begin
        if seen["running"]:
            total = started["questions"]
            say_progress(seen["printed"], total, waited, "questions", "it gets ready")
        return True

    seen = harness.watch(goes_on, set=one["name"], keep=keep)
    if "running" not in seen:
        lost = "its host is lost: " if seen.get("unreachable") else ""
        return {"problem": f"{lost}{seen.get('msg', 'no answer')}"}
    kept = ("result", "problem", "kept", "rc", "timed_out", "log")
    return {"seconds": round(waited, 1), **{name: seen[name] for name in kept}}
