# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the Docker daemon and writes its configuration."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import run
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.host.docker import (
    STATE_PATH,
    UNIT,
    Changes,
    DockerError,
)
from ansible_collections.muster.serving.plugins.module_utils.host.docker_packages import CLIENTS


def write(files: NodeFiles, changes: Changes) -> None:
    """Put the files in place. What is ours is noted first, so an interruption loses nothing."""
    if changes.state is not None and files.read(STATE_PATH) != changes.state:
        files.write(STATE_PATH, changes.state)
    for path, change in changes.files.items():
        if change.after is None:
            files.remove(path)
        else:
            files.write(path, change.after, change.mode)
    if changes.state is None:
        files.remove(STATE_PATH)


def client_of(files: NodeFiles) -> str | None:
    """Return where the docker command stands; None where there is none."""
    return next((path for path in CLIENTS if files.exists(path)), None)


def docker_info(timeout: float) -> dict[str, Any]:
    """Return what the running daemon says about itself.

    Raises:
        DockerError: It does not answer.
        CommandError: It does not answer in time.
    """
    output = run(["docker", "info", "--format", "{{json .}}"], timeout)
    try:
        info = json.loads(output.stdout)
    except ValueError:
        info = {}
    if output.rc or not isinstance(info, dict) or not info.get("ServerVersion"):
        raise DockerError(
            f"the Docker daemon does not answer: {output.text}. Look at journalctl -u {UNIT}."
        )
    return info
