# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gpu_topology_check does on a node with NVIDIA GPUs."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check
from ansible_collections.muster.serving.plugins.module_utils.common.files_io import NodeFiles
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.checks import (
    RULES,
    fabric_manager_checks,
    in_rack,
    rack_checks,
    toolkit_check,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.compiler_checks import (
    CXX,
    ELSEWHERE,
    Compilers,
    compiler_checks,
    nvcc_places,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.nvidia_smi import (
    NvidiaGpus,
)
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.observe_io import (
    observe,
    observe_fabric_manager,
    observe_imex,
    observe_toolkit,
)

__all__ = ["RULES", "more_checks", "observe"]


def more_checks(
    params: dict[str, Any], gpus: NvidiaGpus, wanted: list[int], files: NodeFiles
) -> list[Check]:
    """Return what is checked of NVIDIA's alone: fabric, container toolkit, compilers."""
    checks = []
    if in_rack(gpus):
        seen = observe_imex(params["timeout"])
        checks += rack_checks(seen, gpus, wanted, params["multi_node"])
    elif params["fabric_manager"]:
        checks += fabric_manager_checks(observe_fabric_manager(params["timeout"]), gpus, wanted)
    if params["container_gpus"]:
        checks.append(toolkit_check(observe_toolkit(files)))
    if params["compiler"]:
        home = params["cuda_home"]
        required = params["compiler"] == "required"
        checks += compiler_checks(observe_compilers(files, home), home, required=required)
    return checks


def observe_compilers(files: NodeFiles, cuda_home: str | None) -> Compilers:
    """Look for the compilers where an engine's libraries do."""

    def first(places: Sequence[str]) -> str:
        return next((place for place in places if files.exists(place)), "")

    return Compilers(
        first(nvcc_places(cuda_home)), first(CXX), tuple(sorted(files.glob(ELSEWHERE)))
    )
