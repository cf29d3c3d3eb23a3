# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take and release the lock of a run on the node."""

from __future__ import annotations

import datetime
import fcntl
import os
import time
from contextlib import contextmanager
from typing import Any, Iterator, Mapping, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.units import run_lock


class Attempt(NamedTuple):
    """What taking a lock came to, and the other run's lock that was in its way or was replaced."""

    outcome: run_lock.Outcome
    other: dict[str, Any] | None
    working: bool


def attempt(
    deployment: str, owner: Mapping[str, Any], busy_s: float = 0, changes: bool = False
) -> Attempt:
    """Take the lock of a deployment, or tell who has it.

    Args:
        deployment: What is held.
        owner: The run, as its action says it: with gone and must_hold.
        busy_s: How long the call may take.
        changes: Whether it changes the node. While it does, no other run takes over, even where its
            own is known to have died.

    Raises:
        OSError: The file cannot be read or written.
    """
    own = {key: value for key, value in owner.items() if key not in ("gone", "must_hold")}
    call = os.getpid() if changes else 0
    own.update(call=call, call_started=_started(call) if call else "")
    files = NodeFiles()
    with _alone(files):
        before = read(files, deployment)
        working = before is not None and _works(before)
        outcome = run_lock.take(
            deployment,
            before,
            own,
            now(),
            busy_s=busy_s,
            working=working,
            gone=owner.get("gone", ()),
            must_hold=owner.get("must_hold", False),
        )
        if outcome.record:
            text = run_lock.record_text(outcome.record)
            files.write(run_lock.lock_path(deployment), text, 0o644)
    return Attempt(outcome, before, working)


def hold(module: AnsibleModule, busy_s: float = 0, changes: bool = False) -> None:
    """Take the lock that the module's options name, or end the module where another run has it.

    In check mode none is taken. For the other arguments see attempt().
    """
    deployment, owner = module.params["lock"], module.params["owner"]
    if not deployment or not owner or module.check_mode:
        return
    try:
        made = attempt(deployment, owner, busy_s, changes)
    except OSError as error:
        module.fail_json(msg=f"{run_lock.lock_path(deployment)}: {error}")
    if made.outcome.refusal:
        module.fail_json(msg=made.outcome.refusal, held_by=made.other)
    warn_of_takeover(module, made.outcome)


def warn_of_takeover(module: AnsibleModule, outcome: run_lock.Outcome) -> None:
    """Warn of a dead run whose lock this one has now."""
    if outcome.replaced:
        module.warn(
            f"took over {module.params['lock']} from a run that has ended without releasing it: "
            f"{run_lock.described(outcome.replaced)}"
        )


def look(module: AnsibleModule) -> tuple[Check, dict[str, Any] | None]:
    """Return whether another run keeps the node to itself, and its lock.

    Where the options say that this run will change the node (hold), it takes the lock with that.

    Raises:
        OSError: The file cannot be read or written.
    """
    deployment, owner = module.params["lock"], module.params["owner"] or {}
    if module.params["hold"] and not module.check_mode:
        made = attempt(deployment, owner)
        warn_of_takeover(module, made.outcome)
        other = made.other if made.outcome.refusal else None
        return run_lock.run_check(deployment, other, now(), True, made.working), other
    other = read(NodeFiles(), deployment)
    moment, working = now(), other is not None and _works(other)
    if other and not run_lock.keeps_out(other, owner, moment, working, owner.get("gone", ())):
        other = None
    return run_lock.run_check(deployment, other, moment, False, working), other


def release(deployment: str, owner: Mapping[str, Any]) -> None:
    """Release the lock, where this run holds it.

    Raises:
        OSError: Its file cannot be removed.
    """
    files = NodeFiles()
    with _alone(files):
        if run_lock.may_release(read(files, deployment), owner):
            files.remove(run_lock.lock_path(deployment))


def holder(deployment: str) -> dict[str, Any] | None:
    """Return the lock of the run that holds a deployment here now, None where none does."""
    record = read(NodeFiles(), deployment)
    return record if record and (_works(record) or run_lock.is_held(record, now())) else None


def read(files: NodeFiles, deployment: str) -> dict[str, Any] | None:
    """Return what the lock's file says."""
    return run_lock.read_record(files.read(run_lock.lock_path(deployment)))


def now() -> run_lock.Now:
    """Return the node's time. The first figure does not jump when its clock is set."""
    clock = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    return run_lock.Now(time.monotonic(), clock)


def _works(record: Mapping[str, Any]) -> bool:
    return bool(record["call_started"]) and _started(record["call"]) == record["call_started"]


def _started(pid: int) -> str:
    """Return the start time of a process; empty where it has ended."""
    try:
        with open(f"/proc/{pid:d}/stat", encoding="utf-8", errors="replace") as stream:
            return run_lock.process_of(stream.read())[1]
    except (OSError, ValueError):
        return ""


@contextmanager
def _alone(files: NodeFiles) -> Iterator[None]:
    """Keep other calls on this node from the files of locks meanwhile."""
    folder = files.path(run_lock.FOLDER)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle = os.open(os.path.join(folder, ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
