# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the service that lets an address move to a gateway that serves."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.common.states import State
from ansible_collections.muster.serving.plugins.module_utils.units import gateway_address
from ansible_collections.muster.serving.plugins.module_utils.units.gateway_address import File

ARGUMENT_SPEC: dict[str, Any] = {
    "deployment": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "floating": {
        "type": "dict",
        "options": {
            "address": {"type": "str", "required": True},
            "router_id": {"type": "int"},
            "interface": {"type": "str"},
            "config": {"type": "str", "required": True},
        },
    },
}

SYSTEMCTL_TIMEOUT_S = 60


def is_active(service: str) -> bool:
    return run(["systemctl", "is-active", "--quiet", service], SYSTEMCTL_TIMEOUT_S).rc == 0


class Difference(NamedTuple):
    """What a host's address service has otherwise, and what systemd has to do about it."""

    found: dict[str, str | None]
    changed: dict[str, File | None]
    action: str | None


def difference(files: NodeFiles, params: dict[str, Any]) -> Difference:
    """Return what gateway_address would change.

    Raises:
        CommandError, OSError: It cannot be told.
    """
    deployment, floating = params["deployment"], params["floating"]
    wanted = gateway_address.wanted_files(deployment, floating, sys.executable)
    found = {path: files.read(path) for path in wanted}
    changed = {path: file for path, file in wanted.items() if found[path] != (file and file.text)}
    if floating is not None:
        active = is_active(gateway_address.service_name(deployment))
        return Difference(found, changed, gateway_address.verb(deployment, changed, active))
    return Difference(found, changed, "stop" if changed else None)


def state(params: dict[str, Any]) -> State:
    """Return what gateway_address would change."""
    found = difference(NodeFiles(), params)
    return State([*found.changed, *([found.action] if found.action else [])])
