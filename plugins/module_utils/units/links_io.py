# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agents of replicas on a node: what of them is not as planned."""

from __future__ import annotations

import inspect
from typing import Any, Collection, Mapping, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common import durable_io, redaction
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.programs import (
    link_metrics,
    replica_link,
    stall_evidence,
    stall_watch,
)
from ansible_collections.muster.serving.plugins.module_utils.units import unit_files

# The agent, and what it has to find beside it.
PROGRAMS = {
    unit_files.LINK_PROGRAM: replica_link,
    f"{unit_files.PROGRAMS_DIR}/durable_io.py": durable_io,
    f"{unit_files.PROGRAMS_DIR}/link_metrics.py": link_metrics,
    f"{unit_files.PROGRAMS_DIR}/stall_watch.py": stall_watch,
    f"{unit_files.PROGRAMS_DIR}/stall_evidence.py": stall_evidence,
    f"{unit_files.PROGRAMS_DIR}/redaction.py": redaction,
}


def sources() -> dict[str, str]:
    """Return the programs of agents by their paths on a node."""
    return {path: inspect.getsource(program) for path, program in PROGRAMS.items()}


def look(
    files: NodeFiles, links: Sequence[Mapping[str, Any]], running: Collection[str]
) -> list[dict[str, Any]]:
    """Return what of planned agents is not as planned, and of which start each is.

    Args:
        files: The node's files.
        links: Those of the plan for this node.
        running: The services of units and agents that run here.

    Returns:
        name: The link's.
        start_id: Of which deliberate start it is; empty where that cannot be read.
        differences: A phrase each.
    """
    # All agents of a node are of one release.
    other_release = bool(links) and any(
        files.read(path) != text for path, text in sources().items()
    )
    found = []
    for link in links:
        text = files.read(unit_files.link_config_path(link["name"]))
        differences = []
        if text is None:
            differences.append("is not installed")
        elif not unit_files.is_link_config(text, link):
            differences.append("has other settings")
        if text is not None and other_release:
            differences.append("is of another release of Muster")
        serves = any(unit in running for unit in link["units"])
        if text is not None and serves and link["systemd_unit"] not in running:
            differences.append("does not run")
        found.append(
            {
                "name": link["name"],
                "start_id": unit_files.start_id(text or ""),
                "differences": differences,
            }
        )
    return found
