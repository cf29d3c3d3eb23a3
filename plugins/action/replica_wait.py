# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See plugins/modules/replica_wait.py for the documentation."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.muster.serving.plugins.plugin_utils.replica import (
    Report,
    first_death,
    waiting_for,
)

display = Display()

# How often a node is looked at: a loading engine needs its cores. Where an API is awaited, the look
# stays on the node for that long and ends as soon as it serves or its engine has died.
LOOK_S = 10.0
# How often the board is read meanwhile, on the controller.
READ_S = 0.25
# How often a replica says what it waits for.
SAY_EVERY_S = 15.0


class Board:
    """What the workers of one task know of each other's hosts: one file a host, in the temporary
    directory of this controller run, which Ansible removes at its end."""

    def __init__(self, name: str) -> None:
        self.path = Path(C.DEFAULT_LOCAL_TMP) / f"muster-wait-{name}"
        self.path.mkdir(exist_ok=True)

    def tell(self, host: str, reports: list[dict[str, Any]]) -> None:
        temporary = self.path / f".{host}"
        temporary.write_text(json.dumps(reports), encoding="utf-8")
        os.replace(temporary, self.path / host)

    def read(self, hosts: list[str]) -> dict[str, list[dict[str, Any]]]:
        return {
            host: json.loads((self.path / host).read_text(encoding="utf-8"))
            for host in hosts
            if (self.path / host).exists()
        }


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, args = self.validate_argument_spec(
            {
                "deployment": {"type": "str", "required": True},
                "model": {"type": "str", "required": True},
                "units": {"type": "list", "elements": "dict", "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "restarts_before": {"type": "dict", "default": {}},
                "timeout": {"type": "int", "required": True},
            }
        )
        if self._task.check_mode:
            result.update(
                changed=False, skipped=True, msg="check mode: nothing was started to wait for"
            )
            return result

        host = variables["inventory_hostname"]
        # With fewer workers than hosts a host may wait for another whose turn never comes.
        together = context.CLIARGS.get("forks", C.DEFAULT_FORKS) >= len(
            variables["ansible_play_hosts"]
        )
        hosts = args["hosts"] if together else [host]
        board = Board(str(self._task._uuid))
        begin = time.monotonic()
        said = begin
        while True:
            look = time.monotonic()
            seen = self._execute_module(
                module_name="muster.serving.rank_info",
                module_args={
                    "deployment": args["deployment"],
                    "units": args["units"],
                    "model": args["model"],
                    "restarts_before": args["restarts_before"],
                    "wait": LOOK_S,
                },
                task_vars=variables,
            )
            if seen.get("failed") or seen.get("unreachable"):
                # The others must not wait for a host that cannot be seen any more.
                board.tell(host, [self._lost(host, seen)])
                result.update(seen, failed=True)
                return result
            board.tell(host, seen["units"])
            while True:
                statuses = board.read(hosts)
                death = first_death(statuses)
                missing = waiting_for(statuses, hosts)
                if death or not missing or time.monotonic() >= look + LOOK_S:
                    break
                time.sleep(READ_S)
            waited = time.monotonic() - begin
            result.update(changed=False, waited_s=round(waited, 1), units=seen["units"])
            if death:
                result.update(failed=True, msg=self._epitaph(*death, waited))
                return result
            if not missing:
                return result
            if waited > args["timeout"]:
                result.update(
                    failed=True,
                    msg=f"after {waited:.0f} s (allowed: {args['timeout']} s) still waiting"
                    f" for {'; '.join(missing)}",
                )
                return result
            # One host speaks for the replica.
            if host == hosts[0] and time.monotonic() - said >= SAY_EVERY_S:
                said = time.monotonic()
                display.display(f"  {waited:4.0f} s, waiting for {'; '.join(missing)}")

    @staticmethod
    def _lost(host: str, seen: dict[str, Any]) -> dict[str, Any]:
        message = str(seen.get("msg", "no message"))
        return {
            "name": f"the units of {host}",
            "ended": True,
            "active_state": "unknown",
            "sub_state": "cannot be seen any more",
            "result": "",
            "exit_status": "",
            "ready": None,
            "log": [message],
        }

    @staticmethod
    def _epitaph(host: str, report: Report, waited: float) -> str:
        lines = "\n".join(f"    {line}" for line in report["log"])
        state = ", ".join(
            text
            for text in (
                report["sub_state"],
                report["result"] and f"result {report['result']}",
                report["exit_status"] and f"exit status {report['exit_status']}",
            )
            if text
        )
        return (
            f"{report['name']} on {host} ended {waited:.0f} s into start-up ({state})."
            f" Its last lines:\n{lines}\n"
            f"All of them: journalctl -u muster-{report['name']} on {host}"
        )
