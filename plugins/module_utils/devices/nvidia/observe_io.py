# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a node's GPU tools. Everything that is run is run from here."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
    run,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.checks import (
    FABRIC_MANAGER_UNIT,
    FabricManager,
    Observation,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    parse_query,
    parse_topology,
)

MAX_CALLS = 4


def find_tool(name: str, path: str | None, folders: Sequence[str] = ()) -> str | None:
    """A tool as the caller names it, or from these folders, or from the PATH."""
    places = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])
    return path or shutil.which(name, path=places)


def ask_all(
    commands: Mapping[str, Sequence[str]], timeout: float
) -> dict[str, Output | CommandError]:
    """Run commands side by side, so that a hanging driver costs one timeout.

    Args:
        commands: By any name, the argv.
        timeout: Seconds that each may take.

    Returns:
        By the same name what the command answered, or why it did not.
    """

    def ask(argv: Sequence[str]) -> Output | CommandError:
        try:
            return run(list(argv), timeout)
        except CommandError as error:
            return error

    with ThreadPoolExecutor(max_workers=MAX_CALLS) as pool:
        return dict(zip(commands, pool.map(ask, commands.values())))


def observe_nvidia(path: str | None, timeout: float) -> tuple[Observation, str | None]:
    """Ask nvidia-smi for devices and topology.

    Args:
        path: Where nvidia-smi is; without it the PATH is searched.
        timeout: Seconds that one call may take; both run side by side.

    Returns:
        What was observed, and the newest CUDA version that the driver can run.
    """
    tool = find_tool("nvidia-smi", path)
    if tool is None:
        return _nothing("nvidia-smi is not on this node"), None
    said = ask_all({"query": [tool, "-q", "-x"], "topology": [tool, "topo", "-m"]}, timeout)
    query, topology = said["query"], said["topology"]
    if isinstance(query, CommandError):
        return _nothing(str(query)), None
    told = parse_query(query.stdout + query.stderr)
    problems = list(told.problems)
    if query.rc != 0:
        problems.append(f"nvidia-smi -q ended with exit code {query.rc}")
    matrix = None
    if isinstance(topology, CommandError):
        problems.append(str(topology))
    elif len(told.devices) > 1:
        matrix, more = parse_topology(topology.stdout + topology.stderr)
        problems += more
    observation: Observation = {
        "devices": told.devices,
        "version": told.version,
        "topology": matrix,
        "problems": problems,
        "failure": None,
    }
    return observation, told.cuda_version


def _nothing(failure: str) -> Observation:
    return {
        "devices": [],
        "version": None,
        "topology": None,
        "problems": [],
        "failure": failure,
    }


def observe_fabric_manager(timeout: float) -> FabricManager:
    """Ask systemd and the fabric manager itself."""
    said = ask_all(
        {
            "service": ["systemctl", "is-active", FABRIC_MANAGER_UNIT],
            "version": ["nv-fabricmanager", "--version"],
        },
        timeout,
    )
    service, version = said["service"], said["version"]
    found = None
    if isinstance(version, Output):
        found = re.search(r"version is\s*:\s*([0-9][0-9.]*)", version.stdout + version.stderr)
    return FabricManager(
        service=service.stdout.strip() or None if isinstance(service, Output) else None,
        version=found[1] if found else None,
    )
