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
from ansible_collections.muster.serving.plugins.module_utils.common import redaction
from ansible_collections.muster.serving.plugins.module_utils.units.names import container
from ansible_collections.muster.serving.plugins.plugin_utils.common.controller_action import (
    ControllerAction,
)
from ansible_collections.muster.serving.plugins.plugin_utils.common.screen_io import show
from ansible_collections.muster.serving.plugins.plugin_utils.failure import judging
from ansible_collections.muster.serving.plugins.plugin_utils.failure.signatures import PATTERNS
from ansible_collections.muster.serving.plugins.plugin_utils.replica.decision import (
    Report,
    first_death,
    first_starts,
    of_group,
    waiting_for,
)
from ansible_collections.muster.serving.plugins.plugin_utils.replica.this_run_io import execute

# How often a node is looked at: a loading engine needs its cores. Where an API is awaited, the look
# stays on the node for that long and ends as soon as it serves or its engine has died.
LOOK_S = 10.0
# How often the board is read meanwhile, on the controller.
READ_S = 0.25
# How long to look for others that have ended, too, where the log of the first names no cause: the
# one that it followed may be seen a moment later.
SETTLE_S = 10.0
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


class Group:
    """Units that live and die together: those of a replica, or a gateway."""

    def __init__(self, name: str, hosts: list[str], units: list[dict[str, Any]]) -> None:
        self.name = name
        self.hosts = hosts
        self.units = [unit for unit in units if unit["group"] == name]
        self.death: tuple[str, Report] | None = None
        self.died: float | None = None
        self.ended: dict[tuple[str, str], Report] = {}
        self.verdict: judging.Verdict | None = None
        self.alive = True
        self.missing: list[str] = []
        self.once: dict[str, Any] = {}

    def update(self, reports: dict[str, list[dict[str, Any]]]) -> None:
        statuses = of_group(reports, self.name, self.hosts)
        self.death = first_death(statuses)
        ended = {
            (host, report["name"]): report
            for host, own in statuses.items()
            for report in own
            if report.get("ended")
        }
        if self.death and self.died is None:
            self.died = time.monotonic()
        silent = len(statuses) < len(self.hosts)
        self.alive = silent or len(ended) < sum(map(len, statuses.values()))
        if ended != self.ended:
            self.ended = ended
            self.verdict = judging.verdict(
                {
                    unit: judging.judge(judging.Log(report.get("cause_lines") or report["log"], []))
                    for unit, report in ended.items()
                }
            )
        self.missing = waiting_for(statuses, self.hosts)
        self.once = {**first_starts(statuses)}

    @property
    def dead(self) -> bool:
        """Tell whether one has ended, and nothing more is to be learnt of why."""
        if not self.death or self.died is None:
            return False
        named = self.verdict is not None and self.verdict.judged.cause is not None
        return named or not self.alive or time.monotonic() - self.died >= SETTLE_S

    @property
    def settled(self) -> bool:
        return self.dead or not (self.death or self.missing)

    def allowed_s(self, timeout: int | None) -> int:
        """Return how long its start may take; a first start on one host keeps all waiting."""
        limit = max(unit["start_timeout_s"] for unit in self.units) if timeout is None else timeout
        return int(limit + max((once["extra_s"] for once in self.once.values()), default=0))


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
        board = Board(str(self._task._uuid))
        reports: dict[str, dict[str, Any]] = {}
        # By unit the ids of its runs in this start; one that systemd restarts gets a new id.
        runs: dict[str, dict[str, None]] = {}
        problems: list[str] = []
        dead: list[str] = []
        begin = shown = time.monotonic()
        explained: set[str] = set()
        while pending:
            look = time.monotonic()
            seen = execute(
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
            if seen.get("failed") or seen.get("unreachable"):
                # The others must not wait for a host that does not answer any more.
                lost = [self._lost(host, group.name, seen) for group in pending]
                board.write(host, [*reports.values(), *lost])
                return {**seen, "failed": True, "dead": dead + [one.name for one in pending]}
            for report in seen["units"]:
                # The cache fills during a first start, which counts as one to its end.
                known = reports.get(report["name"], report)
                kept = {key: known[key] for key in ("first_start", "cause_lines") if key in known}
                reports[report["name"]] = {**report, **kept}
                runs.setdefault(report["name"], {})[report["invocation_id"]] = None
            for group in pending:
                for name in (unit["name"] for unit in group.units):
                    # Shared with the death, so that every host of the replica can name the cause.
                    if reports[name]["ended"] and "cause_lines" not in reports[name]:
                        lines = self._cause_lines(list(runs[name]), variables)
                        reports[name]["cause_lines"] = lines
            board.write(host, list(reports.values()))
            hosts = sorted({name for group in pending for name in group.hosts})
            while True:
                shared = board.read(hosts)
                for group in pending:
                    group.update(shared)
                if any(group.settled for group in pending) or time.monotonic() >= look + LOOK_S:
                    break
                time.sleep(READ_S)
            waited = time.monotonic() - begin
            for group in pending:
                allowed = group.allowed_s(args["timeout"])
                if group.death and group.dead:
                    problems.append(self._epitaph(group, *group.death, waited))
                elif group.death:
                    continue
                elif group.missing and waited > allowed:
                    problems.append(
                        f"after {waited:.0f} s (allowed: {allowed} s) still waiting"
                        f" for {'; '.join(group.missing)}"
                    )
                else:
                    continue
                dead.append(group.name)
            pending = [group for group in pending if group.name not in dead and not group.settled]
            # One host speaks for the replica.
            speaking = [group for group in pending if group.hosts[0] == host]
            for group in speaking:
                self._explain(group, explained)
            if time.monotonic() - shown >= SAY_EVERY_S:
                shown = time.monotonic()
                for group in speaking:
                    show(f"  {waited:4.0f} s, waiting for {'; '.join(group.missing)}")
        result = {"waited_s": round(time.monotonic() - begin, 1), "dead": dead}
        if problems:
            # Callbacks print all of a failed result, and the message has the lines that matter.
            return {**result, "failed": True, "msg": "\n".join(problems)}
        return {**result, "units": list(reports.values())}

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

    @staticmethod
    def _lost(host: str, group: str, seen: dict[str, Any]) -> dict[str, Any]:
        message = str(seen.get("msg", "no message"))
        return {
            "name": f"the units of {host}",
            "group": group,
            "ended": True,
            "active_state": "unknown",
            "sub_state": "cannot be seen any more",
            "result": "",
            "exit_status": "",
            "ready": None,
            "log": [message],
        }

    @staticmethod
    def _epitaph(group: Group, host: str, report: Report, waited: float) -> str:
        lines = "\n".join(f"    {redaction.line(line)}" for line in report["log"])
        told: list[str] = []
        if group.verdict:
            first = group.verdict
            if (first.host, first.unit) != (host, report["name"]):
                told.append(f"It follows from {first.unit} on {first.host}, which ended first:")
            told += judging.paragraph(first.judged)
        cause = "".join(f"{redaction.line(line)}\n" for line in told)
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
            f" Its last lines:\n{lines}\n{cause}"
            f"All of them: journalctl -u {container(report['name'])} on {host}"
        )
