# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller and on nodes; plugins/modules/replica_wait.py has the documentation."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar

from ansible import constants as C
from ansible import context
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signatures import PATTERNS
from ansible_collections.muster.serving.plugins.plugin_utils.replica.this_run_io import execute
from ansible_collections.muster.serving.plugins.plugin_utils.replica.waiting import (
    Group,
    Record,
    lost,
)

# How often a node is looked at: a loading engine needs its cores. Where an API is awaited, the look
# stays on the node for that long and ends as soon as it serves or its engine has died.
LOOK_S = 10.0
# How often the board is read meanwhile, on the controller.
READ_S = 0.25
# How often a replica says what it waits for.
SAY_EVERY_S = 15.0


class Board:
    """The reports that the workers of one task share.

    One file a host, in the temporary directory of this controller run, which Ansible removes at its
    end.
    """

    def __init__(self, name: str) -> None:
        self.path = Path(C.DEFAULT_LOCAL_TMP) / f"muster-wait-{name}"
        self.path.mkdir(exist_ok=True)

    def write(self, host: str, reports: list[dict[str, Any]]) -> None:
        temporary = self.path / f".{host}"
        temporary.write_text(json.dumps(reports), encoding="utf-8")
        os.replace(temporary, self.path / host)

    def read(self, hosts: list[str]) -> dict[str, list[dict[str, Any]]]:
        return {
            host: json.loads((self.path / host).read_text(encoding="utf-8"))
            for host in hosts
            if (self.path / host).exists()
        }


class ActionModule(ControllerAction):
    SPEC: ClassVar = {
        "deployment": {"type": "str", "required": True},
        "model": {"type": "str", "required": True},
        "units": {"type": "list", "elements": "dict", "required": True},
        "hosts": {"type": "dict", "required": True},
        "restarts_before": {"type": "dict", "default": {}},
        "timeout": {"type": "int"},
        "lock": {"type": "str"},
    }
    _requires_connection = True

    def act(self, args: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "check mode: nothing was started to wait for"}

        host = variables["inventory_hostname"]
        # With fewer workers than hosts, a host would wait for one whose turn comes after it.
        together = context.CLIARGS.get("forks", C.DEFAULT_FORKS) >= len(
            variables["ansible_play_hosts"]
        )
        pending = [
            Group(name, hosts if together else [host], args["units"])
            for name, hosts in args["hosts"].items()
        ]
        board, record = Board(str(self._task._uuid)), Record()
        problems: dict[str, str] = {}
        begin = shown = time.monotonic()
        explained: set[str] = set()
        while pending:
            look = time.monotonic()
            seen = self._look(pending, args, variables)
            if seen.get("failed") or seen.get("unreachable"):
                # The others must not wait for a host that does not answer any more.
                message = str(seen.get("msg", "no message"))
                gone = [lost(host, group.name, message) for group in pending]
                board.write(host, [*record.reports, *gone])
                names = [group.name for group in pending]
                return {**seen, "failed": True, "dead": [*problems, *names]}
            record.add(seen["units"])
            for name, runs in record.unexplained(pending).items():
                record.explain(name, self._cause_lines(runs, variables))
            board.write(host, record.reports)
            self._read(board, pending, until=look + LOOK_S)
            waited = time.monotonic() - begin
            for group in pending:
                problem = group.problem(waited, args["timeout"])
                if problem:
                    problems[group.name] = problem
            pending = [
                group for group in pending if group.name not in problems and not group.settled
            ]
            # One host speaks for the replica.
            speaking = [group for group in pending if group.hosts[0] == host]
            for group in speaking:
                self._explain(group, explained)
            if time.monotonic() - shown >= SAY_EVERY_S:
                shown = time.monotonic()
                for group in speaking:
                    show(f"  {waited:4.0f} s, waiting for {'; '.join(group.missing)}")
        result = {"waited_s": round(time.monotonic() - begin, 1), "dead": list(problems)}
        if problems:
            # Callbacks print all of a failed result, and the message has the lines that matter.
            return {**result, "failed": True, "msg": "\n".join(problems.values())}
        return {**result, "units": record.reports}

    def _look(
        self, pending: list[Group], args: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what unit_info tells of the host's units, at the latest after LOOK_S."""
        return execute(
            self,
            {
                "deployment": args["deployment"],
                "units": [unit for group in pending for unit in group.units],
                "model": args["model"],
                "restarts_before": args["restarts_before"],
                "wait": LOOK_S,
                "lock": args["lock"],
            },
            variables,
            name="muster.serving.unit_info",
            must_hold=True,
        )

    @staticmethod
    def _read(board: Board, pending: list[Group], until: float) -> None:
        """Read what all hosts have found until a group is up or dead, or this time has come."""
        hosts = sorted({name for group in pending for name in group.hosts})
        while True:
            shared = board.read(hosts)
            for group in pending:
                group.update(shared, time.monotonic())
            if any(group.settled for group in pending) or time.monotonic() >= until:
                return
            time.sleep(READ_S)

    def _cause_lines(self, invocations: list[str], variables: dict[str, Any]) -> list[str]:
        """Return what a unit logged in this start that can show why it ended."""
        found = self._execute_module(
            module_name="muster.serving.unit_log",
            module_args={"invocations": invocations, "patterns": PATTERNS},
            task_vars=variables,
        )
        return [str(line) for line in found.get("lines", [])]

    @staticmethod
    def _explain(group: Group, explained: set[str]) -> None:
        for name, once in group.once.items():
            if name not in explained:
                explained.add(name)
                show(
                    f"  first start on {name}: {once['reason']} into {once['cache']}, up to"
                    f" {once['extra_s']} s more"
                )
