# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a plan that was verified on a node, as its file has it, and what is left of it."""

from __future__ import annotations

import os
from typing import Any, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.paths import OWN_SOURCES
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.common.threads_io import ended
from ansible_collections.muster.serving.plugins.module_utils.units import verified

ARGUMENT_SPEC: dict[str, Any] = {
    "deployment": {"type": "str", "required": True},
    "digest": {"type": "str", "required": True},
}


def state(params: dict[str, Any]) -> State:
    """Return whether the planned part was verified here, by which runs of units and when."""
    record = verified.read_record(NodeFiles().read(verified.record_path(params["deployment"])))
    if record is None or record["digest"] != params["digest"]:
        return State(["the plan was not verified here"])
    when = record.get("told", {}).get("verified", "")
    seen = {"runs": record.get("runs", {}), "verified": when}
    return State([], seen=seen)


def told(deployment: str) -> dict[str, Any] | None:
    """Return what an operator reads of what was verified here and before; None for nothing."""
    record = verified.read_record(NodeFiles().read(verified.record_path(deployment)))
    if record is None:
        return None
    former = verified.before(record)
    return {**record.get("told", {}), "before": former and former.get("told", {})}


def mount_problems(files: NodeFiles, mounts: Sequence[str], timeout: float = 30) -> list[str]:
    """Return what a container would mount and is gone. Docker makes an empty folder of it."""
    foreign = [one for one in mounts if not (one.split(":")[0] + "/").startswith(OWN_SOURCES)]
    problems: list[str] = []
    if ended(lambda: problems.extend(_mount_problems(files, foreign)), timeout):
        return problems
    sources = ", ".join(one.split(":")[0] for one in foreign)
    return [f"no answer within {timeout:g} s from a file system of {sources}: look at its mount"]


def _mount_problems(files: NodeFiles, mounts: Sequence[str]) -> list[str]:
    problems = []
    for mount in mounts:
        source, _target, *mode = mount.split(":")
        path = files.path(source)
        if not os.path.exists(path):
            problems.append(f"{source} is not on this node any more: put it back")
        elif mode == ["ro"] and os.path.isdir(path) and not os.listdir(path):
            problems.append(f"{source} is empty: mount it, or put its files back")
    return problems
