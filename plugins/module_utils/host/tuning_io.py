# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what host tuning changes on a node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.host.tuning import (
    STATE_PATH,
    UNIT_LINK,
    UNIT_PATH,
    Changes,
    Wanted,
    decide,
    dump_state,
    live_value,
    wanted_from,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "deployment": {"type": "str", "default": "default"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "cpu_governor": {"type": "str"},
    "sysctl": {"type": "dict", "default": {}},
    "sched_migration_cost_ns": {"type": "int"},
    "reserved_ports": {"type": "list", "elements": "str", "default": []},
}


def difference(files: NodeFiles, params: dict[str, Any]) -> Changes:
    """Return what host_tuning would change.

    Raises:
        TuningError: An option or a setting of the node cannot be used.
    """
    wanted = wanted_from(params) if params["state"] == "present" else Wanted()
    return decide(files, wanted, params["deployment"])


def state(params: dict[str, Any]) -> State:
    """Return what host_tuning would change."""
    changes = difference(NodeFiles(), params)
    settings = {write.setting: None for write in changes.writes}
    return State([*settings, *changes.files])


def apply(files: NodeFiles, changes: Changes) -> list[str]:
    """Carry the changes out. What the kernel refuses is returned, one clear line a setting."""
    refused: dict[str, str] = {}
    failed_paths = []
    _write_or_remove(files, STATE_PATH, dump_state(changes.state_during))
    for write in changes.writes:
        try:
            files.write_kernel(write.path, write.after)
            now = live_value(files, write.path)
            reason = "" if now == write.after else f"it is {now!r} after the write"
        except OSError as error:
            reason = str(error.strerror)
        if reason:
            failed_paths.append(write.path)
            refused[write.setting] = (
                f"{write.setting}: the kernel refused {write.after!r} (was {write.before!r}) in "
                f"{write.path}: {reason}. Make it writable (a container's /proc/sys is often "
                "read-only), choose a value that it takes, or opt out with null."
            )
    for path, (_before, after) in changes.files.items():
        if path == UNIT_LINK:
            continue
        _write_or_remove(files, path, after)
    _link_unit(files, files.exists(UNIT_PATH))
    # What could not be put back is remembered for the next try.
    failed = {path: changes.state_during.original[path] for path in failed_paths}
    final = replace(changes.state_after, original={**changes.state_after.original, **failed})
    _write_or_remove(files, STATE_PATH, dump_state(final))
    return list(refused.values())


def _write_or_remove(files: NodeFiles, path: str, text: str | None) -> None:
    if text is None:
        files.remove(path)
    elif files.read(path) != text:
        files.write(path, text)


def _link_unit(files: NodeFiles, wanted: bool) -> None:
    if wanted:
        files.link(UNIT_LINK, UNIT_PATH)
    else:
        files.remove(UNIT_LINK)
