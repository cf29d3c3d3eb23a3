# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a node's NVIDIA tools. Everything that is run is run from here."""

from __future__ import annotations

import re

from ansible_collections.muster.serving.plugins.module_utils.common.command_io import (
    CommandError,
    Output,
)
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.checks import (
    FABRIC_MANAGER_UNIT,
    IMEX_UNIT,
    FabricManager,
    Imex,
    parse_imex,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    NvidiaGpus,
    parse_query,
    parse_topology,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.tools_io import (
    ask_all,
    find_tool,
)

TOOLKIT_PROGRAMS = ("nvidia-container-runtime-hook", "nvidia-ctk", "nvidia-container-runtime")
TOOLKIT_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin")
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")


def observe(path: str | None, timeout: float) -> NvidiaGpus:
    """Ask nvidia-smi for devices and topology.

    Args:
        path: Where nvidia-smi is; without it the PATH is searched.
        timeout: Seconds that one call may take; both run side by side.
    """
    tool = find_tool("nvidia-smi", path)
    if tool is None:
        return NvidiaGpus(failure="nvidia-smi is not on this node", absent=True)
    said = ask_all({"query": [tool, "-q", "-x"], "topology": [tool, "topo", "-m"]}, timeout)
    query, topology = said["query"], said["topology"]
    if isinstance(query, CommandError):
        return NvidiaGpus(failure=str(query), absent=query.not_started)
    gpus = parse_query(query.stdout + query.stderr)
    if not gpus.devices:
        gpus.printed = (query.stdout + query.stderr).strip()
    if query.rc != 0:
        gpus.problems.append(f"nvidia-smi -q ended with exit code {query.rc}")
    if isinstance(topology, CommandError):
        gpus.problems.append(str(topology))
    elif len(gpus.devices) > 1:
        gpus.topology, problems = parse_topology(topology.stdout + topology.stderr)
        gpus.problems += problems
    return gpus


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


def observe_imex(timeout: float) -> Imex:
    """Ask systemd and IMEX itself."""
    said = ask_all(
        {
            "service": ["systemctl", "is-active", IMEX_UNIT],
            "domain": ["nvidia-imex-ctl", "-N"],
        },
        timeout,
    )
    service, domain = said["service"], said["domain"]
    state, unready = parse_imex(domain.stdout) if isinstance(domain, Output) else (None, [])
    return Imex(
        service.stdout.strip() or None if isinstance(service, Output) else None, state, unready
    )


def observe_toolkit(files: NodeFiles) -> list[str]:
    """Return the files by which Docker can hand GPUs to a container.

    Docker runs the toolkit's hook for --gpus; newer ones also read a CDI specification.
    """
    programs = [path for name in TOOLKIT_PROGRAMS for path in _toolkit_program(files, name)]
    return programs + cdi_specifications(files)


def has_toolkit_program(files: NodeFiles, name: str) -> bool:
    """Return whether a program of the toolkit is where Docker looks for it."""
    return bool(_toolkit_program(files, name))


def _toolkit_program(files: NodeFiles, name: str) -> list[str]:
    paths = (f"{folder}/{name}" for folder in TOOLKIT_FOLDERS)
    return [path for path in paths if files.exists(path)]


def cdi_specifications(files: NodeFiles) -> list[str]:
    """Return the CDI specifications of NVIDIA's devices."""
    return [
        path
        for folder in CDI_FOLDERS
        for path in files.glob(f"{folder}/*")
        if "nvidia" in path and path.endswith((".yaml", ".yml", ".json"))
    ]
