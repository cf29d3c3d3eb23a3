# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts what a run did: host-tasks, and how long each action took."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: host_tasks
type: aggregate
short_description: Counts host-tasks
description:
  - Writes to the file of the environment variable E(HOST_TASKS_FILE) how many tasks of hosts were
    executed and skipped, and how long each action took, from its task's start to its last result.
author: Muster contributors
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "host_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.ends: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()
        self._begun = self._last = 0.0
        self._action = ""

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._close()
        self._action = task.action
        self.tasks[self._action] += 1
        self._begun = self._last = time.monotonic()

    v2_playbook_on_handler_task_start = v2_playbook_on_task_start

    def v2_runner_on_ok(self, result: Any) -> None:
        self._count("ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._count("failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._count("unreachable")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._count("skipped")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._close()
        ends = dict(self.ends)
        skipped = ends.pop("skipped", 0)
        figures = {
            "executed": sum(ends.values()),
            "skipped": skipped,
            "ends": ends,
            "changed": sum(stats.changed.values()),
            "tasks": dict(self.tasks),
            "seconds": {action: round(spent, 3) for action, spent in self.seconds.items()},
        }
        Path(os.environ["HOST_TASKS_FILE"]).write_text(json.dumps(figures), encoding="utf-8")

    def _count(self, end: str) -> None:
        self.ends[end] += 1
        self._last = time.monotonic()

    def _close(self) -> None:
        if self._action:
            self.seconds[self._action] += self._last - self._begun
