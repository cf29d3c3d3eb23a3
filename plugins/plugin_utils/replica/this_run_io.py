# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This run as its locks on the nodes name it, and the frame of the actions that take them."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.plugins.action import ActionBase
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock

PROC = Path("/proc")


class HoldingAction(ActionBase):
    """Runs the module of its name, which takes a lock for this run where `lock` names one.

    One whose module changes what an earlier call has looked at sets MUST_HOLD.
    """

    MUST_HOLD = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        result.update(execute(self, args, task_vars or {}, must_hold=self.MUST_HOLD))
        return result


def execute(
    action: ActionBase,
    args: Mapping[str, Any],
    variables: dict[str, Any],
    *,
    name: str | None = None,
    must_hold: bool = False,
) -> dict[str, Any]:
    """Return what a module returns that takes the lock of `lock` for this run.

    Where a run of this controller holds it that has ended, the module is called once more.

    Args:
        action: The action that calls it.
        args: The module's options.
        variables: The task's variables.
        name: The module; without it the one of the action's name.
        must_hold: Whether this run took the lock before.
    """
    if not args.get("lock"):
        return _call(action, args, variables, name)
    owner = {**this_run(variables), "must_hold": must_hold}
    result = _call(action, {**args, "owner": owner}, variables, name)
    other = result.get("held_by")
    if other and not must_hold and run_lock.is_gone(other, owner["place"], _stat(other["pid"])):
        result = _call(action, {**args, "owner": {**owner, "gone": [other["id"]]}}, variables, name)
    # The message says it all, and callbacks print all of a failed result.
    result.pop("held_by", None)
    return result


def _call(
    action: ActionBase, args: Mapping[str, Any], variables: dict[str, Any], name: str | None
) -> dict[str, Any]:
    result: dict[str, Any] = action._execute_module(
        module_name=name, module_args=dict(args), task_vars=variables
    )
    return result


def this_run(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run that this process works for: {id, who, doing, place, pid, started}."""
    parent = multiprocessing.parent_process()
    # A task runs in a worker of the ansible-playbook process.
    pid = parent.pid if parent and parent.pid else os.getpid()
    return {
        # A folder that Ansible makes for each run. It names the process, too.
        "id": f"{socket.gethostname()}:{Path(constants.DEFAULT_LOCAL_TMP).name}",
        "who": f"{variables.get('awx_user_name') or _user()} on {socket.gethostname()}",
        "doing": " ".join(Path(one).name for one in context.CLIARGS.get("args") or ["ansible"]),
        "place": _place(),
        "pid": pid,
        "started": run_lock.process_of(_stat(pid) or "")[1],
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user need not have a name.
        return f"user {os.getuid()}"


def _place() -> str:
    """Return what tells the processes of this machine or container from those of any other."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _stat(pid: int) -> str | None:
    """Return /proc/PID/stat, empty where there is no such process; None without /proc."""
    if not (PROC / "self").exists():
        return None
    try:
        return (PROC / str(int(pid)) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
