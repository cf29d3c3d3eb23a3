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
from urllib.parse import quote

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

    def call(**more: Any) -> dict[str, Any]:
        result: dict[str, Any] = action._execute_module(
            module_name=name, module_args={**args, **more}, task_vars=variables
        )
        return result

    lock = args.get("lock")
    if not lock:
        return call()
    owner = {**this_run(variables), "must_hold": must_hold}
    result = call(owner=owner)
    other = result.get("held_by")
    if other and not must_hold and run_lock.is_gone(other, owner["place"], _stat(other["pid"])):
        result = call(owner={**owner, "gone": [other["id"]]})
    # The message says it all, and callbacks print all of a failed result.
    refused = result.pop("held_by", None)
    # Without hold, node_checks only looks.
    takes = args.get("hold", True) and not action._task.check_mode
    if result.get("released"):
        let_go(lock, variables)
    elif takes and not (refused or result.get("unreachable")):
        _mark(lock, variables).touch()
    return result


def holds(lock: str, variables: Mapping[str, Any]) -> bool:
    """Return whether this run has taken a lock on the task's host and not released it."""
    return _mark(lock, variables).exists()


def let_go(lock: str, variables: Mapping[str, Any]) -> None:
    """Note that this run has released a lock on the task's host."""
    _mark(lock, variables).unlink(missing_ok=True)


def _mark(lock: str, variables: Mapping[str, Any]) -> Path:
    """Return the file that says so to the other tasks of this run."""
    name = quote(f"{lock} {variables.get('inventory_hostname')}", safe="")
    return Path(constants.DEFAULT_LOCAL_TMP) / f"muster-holds-{name}"


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
