# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gpu_topology_check does on a node with AMD GPUs."""

from __future__ import annotations

from typing import Any

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.amd_smi import AmdGpu
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.checks import (
    RULES,
    nodes_check,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.amd.observe_io import (
    observe,
    observe_nodes,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.contract import Observation

__all__ = ["RULES", "more_checks", "observe"]


def more_checks(
    params: dict[str, Any], gpus: Observation[AmdGpu], wanted: list[int], files: NodeFiles
) -> list[Check]:
    """Return what is checked of AMD's alone: the device nodes."""
    return [nodes_check(observe_nodes(files), len(gpus.devices))]
